//! Do packages of npm run as they are? `guest/packages.sh` builds applications that use them, and asks the same code in
//! Node.js; `WASMHOST_TEST_PACKAGES` names the folder. It takes long, and runs in `.ci/long`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Connection, Server, TestResult, document, facility, get};

/// Ceiling of a first start: the component of all packages takes minutes of a busy machine to compile.
const FIRST_START_CEILING: Duration = Duration::from_secs(600);
/// What is said of each package: its application, and what it is used for.
const PACKAGES: &str = include_str!("../guest/javascript/packages/table.json");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/JAVASCRIPT.md");
const BEGIN: &str = "<!-- Written by tests/packages.rs. -->\n";
const END: &str = "<!-- To here. -->\n";

type Answers = BTreeMap<String, Value>;

/// A server of an application.
///
/// # Panics
/// When the folder lacks the component.
fn serve(name: &str, flags: &[&str]) -> Server {
    let path = facility::packages().join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing: guest/packages.sh builds it", path.display());
    let flags = [&["--isolation", "worker", "--workers", "1", "--env", "WORD=granted"], flags].concat();
    Server::start_within(FIRST_START_CEILING, path.to_str().expect("a path in UTF-8"), &flags)
}

/// What Node.js answered for each route of an application.
fn expected(name: &str) -> Result<Answers, Box<dyn std::error::Error>> {
    let path = facility::packages().join(format!("{name}.json"));
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The part of a path for a name.
fn encoded(name: &str) -> String {
    name.replace('@', "%40").replace('/', "%2F")
}

/// Asks every route of an application, twice: the second finds what the first has left. What differs from Node.js, by route.
fn differences(server: &Server, expected: &Answers) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (route, wanted) in expected {
        for _ in 0..2 {
            let mut connection = Connection::open(server.address);
            connection.stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
            connection.send(format!("GET /{} HTTP/1.1\r\nHost: test.example\r\n\r\n", encoded(route)));
            let response = connection.response();
            let answer = serde_json::from_slice::<Value>(&response.body).ok().filter(|_| response.status == 200);
            if answer.as_ref() != Some(wanted) {
                found.insert(route.clone(), format!("{wanted} is wanted, and {} came", response.text()));
            }
        }
    }
    found
}

/// The server that clients of services ask.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start() -> std::io::Result<Self> {
        let script = facility::packages().join("service.mjs");
        let mut process = Command::new("node").arg(script).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut address)?;
        Ok(Self { process, address: address.trim().to_owned() })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The version that an application of ours names of a package.
fn version(application: &str, package: &str) -> Result<String, Box<dyn std::error::Error>> {
    let path = facility::packages().join(application).join("package.json");
    let described: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let version = described["dependencies"][package].as_str();
    Ok(version.ok_or_else(|| format!("{application} does not name {package}"))?.to_owned())
}

#[test(needs(Packages))]
fn packages_answer_as_in_node() -> TestResult {
    let service = Service::start()?;
    let given = format!("SERVICE={}", service.address);
    let mut wrong = BTreeMap::new();
    let mut asked = BTreeSet::new();
    for (name, flags) in [
        ("pure", &["--memory-max", "256MiB"][..]),
        ("clients", &["--env", &given, "--allow-host", "127.0.0.1"]),
        ("render", &[]),
    ] {
        let expected = expected(name)?;
        asked.extend(expected.keys().cloned());
        wrong.extend(differences(&serve(name, flags), &expected));
    }
    let table: Vec<Value> = serde_json::from_str(PACKAGES)?;
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let named: BTreeSet<String> = table.iter().map(|row| text(row, "package")).collect();
    assert_eq!(asked, named, "the routes, and the packages of table.json");
    // One that fails is known to fail, with the reason, and one that is known to does.
    let known = table.iter().filter(|row| row["fails"].is_string()).map(|row| text(row, "package")).collect();
    assert_eq!(wrong.keys().cloned().collect::<BTreeSet<_>>(), known, "{wrong:#?}");

    let mut report = String::from("| package | version | what the test does with it | result |\n|---|---|---|---|\n");
    for row in &table {
        let package = text(row, "package");
        let result = match (row["fails"].as_str(), row["with"].as_str()) {
            (Some(reason), _) => format!("fails because {reason}"),
            (None, Some(with)) => format!("works with {with}"),
            (None, None) => "works".to_owned(),
        };
        let version = version(&text(row, "application"), &package)?;
        writeln!(report, "| {package} | {version} | {} | {result} |", text(row, "use"))?;
    }
    document::check_part(DOCUMENT, BEGIN, END, &report)
}

#[test(needs(Packages))]
fn modules_of_node_answer_as_in_node() -> TestResult {
    let expected = expected("modules")?;
    assert!(expected.len() >= 16, "only {} routes", expected.len());
    let wrong = differences(&serve("modules", &[]), &expected);
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The server's part of a starter, as its own tool has built it.
#[test(needs(Packages))]
fn react_router_renders_on_the_server() -> TestResult {
    let late = TcpListener::bind("127.0.0.1:0")?;
    let given = format!("LATE=http://{}/", late.local_addr()?);
    let server = serve("react-router", &["--env", "GREETING=Servus", "--env", &given, "--allow-host", "127.0.0.1"]);
    let home = get(server.address, "/?q=%3Cb%3E");
    assert_eq!(home.status, 200, "{}", home.text());
    assert_eq!((home.header("content-type"), home.header("cache-control")), (Some("text/html"), Some("max-age=60")));
    for part in [
        "<title>Home &amp; &lt;more&gt;</title>",
        "<h1 id=\"greeting\">Servus<!-- -->!</h1>",
        "<p id=\"query\">&lt;b&gt;</p>",
        "<a href=\"/products/7\" data-discover=\"true\">a product</a>",
        // What the browser goes on with.
        "window.__reactRouterContext",
        "/assets/entry.client-",
    ] {
        assert!(home.text().contains(part), "{part} in {}", home.text());
    }
    let product = get(server.address, "/products/7").text();
    let within = "<section id=\"shop\"><p id=\"product\">Product <!-- -->7<!-- --> costs <!-- -->9.5<!-- --> since <!-- -->1970</p></section>";
    assert!(product.contains(within), "{product}");
    let missing = get(server.address, "/products/12");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("<h1 id=\"error\">404: no such product</h1>"), "{}", missing.text());
    let nowhere = get(server.address, "/nowhere");
    assert_eq!(nowhere.status, 404);
    let old = get(server.address, "/old");
    assert_eq!((old.status, old.header("location")), (301, Some("/products/1")));

    // What the browser asks for without a new page.
    let data = get(server.address, "/products/7.data");
    assert_eq!((data.status, data.header("content-type")), (200, Some("text/x-script")));
    assert!(data.text().contains("\"price\"") && data.text().contains("9.5"), "{}", data.text());

    // The page goes out before all of it is there: what its loader waits for comes when the client has the first part.
    let mut connection = Connection::open(server.address);
    connection.stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    connection.send("GET /later HTTP/1.1\r\nHost: test.example\r\n\r\n");
    let wait = b"<i id=\"wait\">";
    let has_wait = |bytes: &[u8]| bytes.windows(wait.len()).any(|found| found == wait).then_some(());
    connection.fill_until(has_wait).ok_or("the first part does not come")?;
    let (mut asked, _) = late.accept()?;
    asked.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nit came late")?;
    let later = connection.response().text();
    assert!(later.contains("<b id=\"late\">it came late</b>"), "{later}");

    let mut cookie = String::new();
    for (name, status, said) in
        [("Ada", 200, "Ada after null"), ("Ä", 200, "Ä after Ada"), ("", 400, "null after null")]
    {
        let body = format!("name={}", name.replace('Ä', "%C3%84"));
        let mut connection = Connection::open(server.address);
        connection.send(format!(
            "POST /guests HTTP/1.1\r\nHost: test.example\r\n{cookie}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let guests = connection.response();
        assert_eq!(guests.status, status, "{}", guests.text());
        assert!(guests.text().contains(&format!("<p id=\"guest\">{said}</p>")), "{}", guests.text());
        if let Some(set) = guests.header("set-cookie") {
            assert!(set.contains("HttpOnly"), "{set}");
            cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap_or_default());
        }
    }
    assert_eq!(server.sum("generation"), 1, "one instance has served all of it");
    Ok(())
}
