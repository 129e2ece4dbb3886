//! An authority that gives certificates by ACME (RFC 8555), over TLS, as strict as the standard asks: each nonce is used once,
//! each signature is verified, and a host is truly asked for the proof. It does wrong what a test wants.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::tls::Authority;
use super::{CEILING, Connection, eventually};

/// What the authority does wrong, instead of answering a new order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It has had too many, and says when to come back, in seconds.
    RateLimited(u64),
    /// It fails, without a problem document.
    Fails,
    /// It closes the connection.
    Closes,
    /// Its answer never ends.
    Endless,
    /// Its answer is no JSON.
    Garbage,
    /// It takes the order, and gives a certificate for another name.
    OtherName,
    /// It answers so late.
    Late(Duration),
}

/// The authority.
pub struct AcmeServer {
    address: SocketAddr,
    /// The file of the root that its own certificate and those that it gives are signed by.
    pub ca_file: PathBuf,
    state: Arc<State>,
}

struct State {
    authority: Authority,
    base: String,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    nonces: HashSet<String>,
    nonces_given: u64,
    /// The point of each account's key, and the thumbprint.
    accounts: Vec<(Vec<u8>, String)>,
    contacts: Vec<Value>,
    orders: Vec<OrderState>,
    /// Where hosts are asked for proof.
    ask_at: Option<SocketAddr>,
    /// For how long certificates are valid.
    valid: Duration,
    wrong: Vec<Wrong>,
    /// A nonce was refused on purpose.
    has_refused_nonce: bool,
    /// How often what was asked for.
    asked: HashMap<String, usize>,
    /// What clients did that the standard forbids.
    violations: Vec<String>,
}

struct OrderState {
    names: Vec<String>,
    token: Vec<String>,
    /// By name: asked, and what was wrong.
    seen: Vec<Option<Result<(), String>>>,
    certificate: Option<String>,
    gives_other: bool,
}

impl OrderState {
    fn status(&self) -> &'static str {
        match &self.certificate {
            Some(_) => "valid",
            None if self.seen.iter().any(|seen| matches!(seen, Some(Err(_)))) => "invalid",
            None if self.seen.iter().all(|seen| matches!(seen, Some(Ok(())))) => "ready",
            None => "pending",
        }
    }
}

/// A request that was read.
struct Asked {
    method: String,
    path: String,
    body: Vec<u8>,
}

/// An answer: its status, more fields, its type and its body.
type Answer = (u16, Vec<(&'static str, String)>, &'static str, Vec<u8>);

/// Runs a part of the authority.
fn spawn(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name("authority".to_owned()).spawn(run).expect("a thread");
}

impl AcmeServer {
    /// One on a free port of `localhost`, which gives certificates that are valid for so long. `folder`: for its files.
    pub fn start(folder: &Path, valid: Duration) -> Self {
        let authority = Authority::new();
        let files = authority.server(folder, "authority", &["localhost"], 30);
        let ca_file = folder.join("authority-root.pem");
        std::fs::write(&ca_file, authority.pem()).expect("a file");
        let chain = vec![CertificateDer::from_pem_file(&files.cert).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        let tls = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key");
        let (listener, tls) = (TcpListener::bind("127.0.0.1:0").expect("a free port"), Arc::new(tls));
        let address = listener.local_addr().expect("an address");
        let base = format!("https://localhost:{}", address.port());
        let known = Mutex::new(Known { valid, ..Known::default() });
        let state = Arc::new(State { authority, base, known });
        let own = Arc::clone(&state);
        spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (state, tls) = (Arc::clone(&own), Arc::clone(&tls));
                // A client that breaks off is none of a test's.
                spawn(move || drop(state.serve(socket, tls)));
            }
        });
        Self { address, ca_file, state }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.known()
    }

    /// Who signs.
    pub fn authority(&self) -> &Authority {
        &self.state.authority
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The table `tls.acme` for these names, without its braces.
    pub fn settings(&self, names: &[&str]) -> String {
        format!(
            "domains = {names:?}, agree-to-terms = true, contact = \"mailto:ops@a.test\", directory = \"{}/dir\", ca-file = \"{}\"",
            self.state.base,
            self.ca_file.display()
        )
    }

    /// Hosts are asked for proof here from now on.
    pub fn ask_at(&self, address: SocketAddr) {
        self.known().ask_at = Some(address);
    }

    /// The next orders are answered wrong, in this order.
    pub fn does_wrong(&self, wrong: &[Wrong]) {
        self.known().wrong.extend(wrong);
    }

    /// How many orders there were.
    pub fn orders(&self) -> usize {
        self.known().orders.len()
    }

    /// The accounts that it knows, and the contacts that were said last.
    pub fn accounts(&self) -> (usize, Vec<Value>) {
        let known = self.known();
        (known.accounts.len(), known.contacts.clone())
    }

    /// What clients did that the standard forbids.
    pub fn violations(&self) -> Vec<String> {
        self.known().violations.clone()
    }

    /// How often it was asked for this.
    pub fn asked(&self, path: &str) -> usize {
        self.known().asked.get(path).copied().unwrap_or(0)
    }

    /// Whether it has refused a nonce, as it does once.
    pub fn has_refused_nonce(&self) -> bool {
        self.known().has_refused_nonce
    }
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, socket: TcpStream, tls: Arc<ServerConfig>) -> std::io::Result<()> {
        socket.set_read_timeout(Some(CEILING))?;
        let session = ServerConnection::new(tls).map_err(std::io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(session, socket));
        let asked = read(&mut stream)?;
        *self.known().asked.entry(asked.path.clone()).or_default() += 1;
        let wrong = if asked.path == "/new-order" { self.next_wrong() } else { None };
        if let Some(Wrong::Late(time)) = wrong {
            std::thread::sleep(time);
        }
        let gives_other = wrong == Some(Wrong::OtherName);
        let stream = stream.get_mut();
        let (status, fields, kind, body) = match wrong {
            Some(Wrong::Closes) => return Ok(()),
            Some(Wrong::Endless) => {
                stream.write_all(b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n")?;
                loop {
                    stream.write_all(&[b' '; 16 * 1024])?;
                }
            }
            Some(Wrong::Fails) => (500, vec![], "text/plain", b"out of order".to_vec()),
            Some(Wrong::Garbage) => {
                (201, vec![("Location", format!("{}/order/0", self.base))], "text/plain", b"{{".to_vec())
            }
            Some(Wrong::RateLimited(seconds)) => {
                let (_, mut fields, kind, body) = problem(429, "rateLimited", "too many certificates already issued");
                fields.push(("Retry-After", seconds.to_string()));
                (429, fields, kind, body)
            }
            None | Some(Wrong::OtherName | Wrong::Late(_)) => self.answer(&asked, gives_other),
        };
        let nonce = self.new_nonce();
        let mut head = format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nReplay-Nonce: {nonce}\r\nConnection: close\r\n",
            body.len()
        );
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if asked.method != "HEAD" {
            stream.write_all(&body)?;
        }
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn next_wrong(&self) -> Option<Wrong> {
        let mut known = self.known();
        // Which is not to be lost with the nonce.
        let is_next = known.has_refused_nonce && !known.wrong.is_empty();
        is_next.then(|| known.wrong.remove(0))
    }

    fn new_nonce(&self) -> String {
        let mut known = self.known();
        known.nonces_given += 1;
        let nonce = format!("nonce-{}", known.nonces_given);
        known.nonces.insert(nonce.clone());
        nonce
    }

    fn answer(&self, asked: &Asked, gives_other: bool) -> Answer {
        let base = &self.base;
        match (&*asked.method, &*asked.path) {
            ("GET", "/dir") => json_answer(
                200,
                &json!({ "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/new-account"),
                    "newOrder": format!("{base}/new-order"), "revokeCert": format!("{base}/revoke"),
                    "keyChange": format!("{base}/key-change"), "meta": { "termsOfService": format!("{base}/terms") } }),
            ),
            ("HEAD" | "GET", "/nonce") => (200, vec![], "text/plain", vec![]),
            ("POST", path) => match self.signed(asked) {
                Ok((account, payload)) => self.post(path, account, payload, gives_other),
                Err(answer) => answer,
            },
            (method, path) => {
                self.known().violations.push(format!("{method} {path} is no resource"));
                problem(404, "malformed", "there is no such resource")
            }
        }
    }

    /// Verifies a request (RFC 8555, section 6.2): its account, and what it says.
    fn signed(&self, asked: &Asked) -> Result<(usize, Value), Answer> {
        let violation = |what: &str| {
            self.known().violations.push(format!("{}: {what}", asked.path));
            problem(400, "malformed", what)
        };
        let jws: Value = serde_json::from_slice(&asked.body).map_err(|_| violation("no JSON"))?;
        let text = |field: &str| jws[field].as_str().unwrap_or_default();
        let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| violation("no base64url"));
        let head: Value = serde_json::from_slice(&decoded(text("protected"))?).map_err(|_| violation("no head"))?;
        if head["alg"] != "ES256" || head["url"] != format!("{}{}", self.base, asked.path) {
            return Err(violation("another algorithm, or another address"));
        }
        let account = match (&head["jwk"], head["kid"].as_str()) {
            (Value::Object(_), None) if asked.path == "/new-account" => {
                let coordinate = |name: &str| decoded(head["jwk"][name].as_str().unwrap_or_default());
                let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
                // RFC 7638, section 3: the members in the order of their names, without white space.
                let jwk = json!({ "crv": "P-256", "kty": "EC", "x": head["jwk"]["x"], "y": head["jwk"]["y"] });
                let hash = ring::digest::digest(&ring::digest::SHA256, jwk.to_string().as_bytes());
                let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(hash);
                let mut known = self.known();
                let found = known.accounts.iter().position(|(own, _)| *own == point);
                found.unwrap_or_else(|| {
                    known.accounts.push((point, thumbprint));
                    known.accounts.len() - 1
                })
            }
            (Value::Null, Some(kid)) => {
                let number =
                    kid.strip_prefix(&format!("{}/account/", self.base)).and_then(|number| number.parse().ok());
                number.filter(|number| *number < self.known().accounts.len()).ok_or_else(|| violation("no account"))?
            }
            _ => return Err(violation("a key where an account is expected, or neither, or both")),
        };
        let point = self.known().accounts[account].0.clone();
        let signed = format!("{}.{}", text("protected"), text("payload"));
        let signature = decoded(text("signature"))?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| violation("a signature of another key"))?;
        let nonce = head["nonce"].as_str().unwrap_or_default();
        let mut known = self.known();
        let is_fresh = known.nonces.remove(nonce);
        let refuses = asked.path == "/new-order" && !std::mem::replace(&mut known.has_refused_nonce, true);
        if !is_fresh || refuses {
            if !is_fresh {
                known.violations.push(format!("{}: a nonce that was used, or never given: {nonce}", asked.path));
            }
            return Err(problem(400, "badNonce", "the nonce is not good"));
        }
        drop(known);
        let payload = decoded(text("payload"))?;
        let payload = if payload.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&payload) };
        Ok((account, payload.map_err(|_| violation("no payload"))?))
    }

    fn post(&self, path: &str, account: usize, payload: Value, gives_other: bool) -> Answer {
        let base = &self.base;
        let (kind, number) = path[1..].split_once('/').unwrap_or((&path[1..], "0"));
        let (number, part) = number.split_once('/').unwrap_or((number, "0"));
        let (number, part): (usize, usize) = (number.parse().unwrap_or(0), part.parse().unwrap_or(0));
        let mut known = self.known();
        match kind {
            "new-account" => {
                if payload["termsOfServiceAgreed"] != true {
                    return problem(403, "userActionRequired", "the terms of service are not agreed to");
                }
                json_with(201, format!("{base}/account/{account}"), &json!({ "status": "valid" }))
            }
            "account" => {
                known.contacts = payload["contact"].as_array().cloned().unwrap_or_default();
                json_answer(200, &json!({ "status": "valid", "contact": payload["contact"] }))
            }
            "new-order" => {
                let names: Vec<String> = payload["identifiers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|identifier| identifier["type"] == "dns")
                    .filter_map(|identifier| identifier["value"].as_str().map(str::to_owned))
                    .collect();
                let number = known.orders.len();
                let token = names.iter().enumerate().map(|(part, _)| format!("token_{number}-{part}")).collect();
                let seen = vec![None; names.len()];
                known.orders.push(OrderState { names, token, seen, certificate: None, gives_other });
                json_with(201, format!("{base}/order/{number}"), &self.order(number, &known.orders[number]))
            }
            _ if number >= known.orders.len() || part >= known.orders[number].names.len() => {
                known.violations.push(format!("{path}: there is no such order"));
                problem(404, "malformed", "there is no such order")
            }
            "order" => json_answer(200, &self.order(number, &known.orders[number])),
            "authorization" => json_answer(200, &self.authorization(number, part, &known.orders[number])),
            "challenge" => {
                let order = &known.orders[number];
                let (name, token) = (order.names[part].clone(), order.token[part].clone());
                let thumbprint = known.accounts[account].1.clone();
                drop(known);
                // The test may not know yet where the host listens.
                eventually("it is known where the host is", || self.known().ask_at.is_some());
                let at = self.known().ask_at.expect("an address");
                let seen = prove(at, &name, &token, &format!("{token}.{thumbprint}"));
                let mut known = self.known();
                known.orders[number].seen[part] = Some(seen);
                json_answer(200, &self.challenge(number, part, &known.orders[number]))
            }
            "finalize" => {
                if known.orders[number].status() != "ready" {
                    known.violations.push("a certificate was asked for before the order was ready".to_owned());
                    return problem(403, "orderNotReady", "the order is not ready");
                }
                let csr =
                    BASE64_URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap_or_default()).unwrap_or_default();
                let valid = known.valid;
                match self.sign(&csr, &known.orders[number], valid) {
                    Ok(certificate) => known.orders[number].certificate = Some(certificate),
                    Err(reason) => {
                        known.violations.push(format!("the request for a certificate: {reason}"));
                        return problem(400, "badCSR", &reason);
                    }
                }
                json_answer(200, &self.order(number, &known.orders[number]))
            }
            "certificate" => match &known.orders[number].certificate {
                Some(certificate) => {
                    (200, vec![], "application/pem-certificate-chain", certificate.clone().into_bytes())
                }
                None => problem(404, "malformed", "there is no certificate"),
            },
            _ => problem(404, "malformed", "there is no such resource"),
        }
    }

    fn order(&self, number: usize, order: &OrderState) -> Value {
        let base = &self.base;
        let authorizations: Vec<String> =
            (0..order.names.len()).map(|part| format!("{base}/authorization/{number}/{part}")).collect();
        let identifiers: Vec<Value> = order.names.iter().map(|name| json!({ "type": "dns", "value": name })).collect();
        let mut shown = json!({ "status": order.status(), "identifiers": identifiers,
            "authorizations": authorizations, "finalize": format!("{base}/finalize/{number}") });
        if order.certificate.is_some() {
            shown["certificate"] = format!("{base}/certificate/{number}").into();
        }
        shown
    }

    fn authorization(&self, number: usize, part: usize, order: &OrderState) -> Value {
        let challenge = self.challenge(number, part, order);
        json!({ "status": challenge["status"], "identifier": { "type": "dns", "value": order.names[part] },
            "challenges": [challenge] })
    }

    fn challenge(&self, number: usize, part: usize, order: &OrderState) -> Value {
        let url = format!("{}/challenge/{number}/{part}", self.base);
        let mut shown = json!({ "type": "http-01", "url": url, "token": order.token[part], "status": "pending" });
        match &order.seen[part] {
            None => {}
            Some(Ok(())) => shown["status"] = "valid".into(),
            Some(Err(reason)) => {
                shown["status"] = "invalid".into();
                shown["error"] =
                    json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": reason, "status": 403 });
            }
        }
        shown
    }

    /// Checks a request for a certificate (RFC 2986), and signs.
    fn sign(&self, csr: &[u8], order: &OrderState, valid: Duration) -> Result<String, String> {
        let (_, request) = X509CertificationRequest::from_der(csr).map_err(|error| error.to_string())?;
        let info = &request.certification_request_info;
        let point = info.subject_pki.subject_public_key.data.to_vec();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| "it is signed by another key")?;
        let mut names = BTreeSet::new();
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(found) = extension {
                names.extend(found.general_names.iter().map(|name| match name {
                    GeneralName::DNSName(name) => (*name).to_owned(),
                    other => format!("{other:?}"),
                }));
            }
        }
        if names != order.names.iter().cloned().collect() {
            return Err(format!("it is for {names:?}, and the order for {:?}", order.names));
        }
        let names = if order.gives_other { vec!["other.test".to_owned()] } else { order.names.clone() };
        let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now, now + valid);
        Ok(self.authority.sign(&params, &Point(point)))
    }
}

/// A public key, as a request for a certificate has it.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn read(stream: &mut impl BufRead) -> std::io::Result<Asked> {
    let mut line = || -> std::io::Result<String> {
        let mut text = String::new();
        stream.read_line(&mut text)?;
        Ok(text.trim_end().to_owned())
    };
    let first = line()?;
    let mut fields = HashMap::new();
    loop {
        let line = line()?;
        match line.split_once(": ") {
            Some((name, value)) => fields.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let length = fields.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Asked { method, path, body })
}

/// Asks a host for proof (RFC 8555, section 8.3).
fn prove(at: SocketAddr, name: &str, token: &str, expected: &str) -> Result<(), String> {
    TcpStream::connect(at).map_err(|error| format!("{name} cannot be reached: {error}"))?;
    let mut connection = Connection::open(at);
    let path = format!("/.well-known/acme-challenge/{token}");
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"));
    let response = connection.response();
    match response.status {
        200 if response.text() == expected => Ok(()),
        200 => Err(format!("{name} said something else")),
        status => Err(format!("{name} answered {status} to {path}")),
    }
}

fn json_answer(status: u16, value: &Value) -> Answer {
    (status, vec![], "application/json", value.to_string().into_bytes())
}

fn json_with(status: u16, location: String, value: &Value) -> Answer {
    (status, vec![("Location", location)], "application/json", value.to_string().into_bytes())
}

/// A problem document (RFC 8555, section 6.7).
fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let value = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status });
    (status, vec![], "application/problem+json", value.to_string().into_bytes())
}
