use std::cell::Cell;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use wasip3::http::types::{self, ErrorCode};
use wasip3::http_compat::{
    IncomingRequestBody, http_from_wasi_request, http_from_wasi_response, http_into_wasi_request,
    http_into_wasi_response,
};

type Request = http::Request<IncomingRequestBody>;
type Response = http::Response<UnsyncBoxBody<Bytes, ErrorCode>>;

thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });

struct App;

impl wasip3::exports::http::handler::Guest for App {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        let response = serve(http_from_wasi_request(request)?).await?;
        http_into_wasi_response(response)
    }
}

wasip3::http::service::export!(App);

async fn serve(request: Request) -> Result<Response, ErrorCode> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    // A HEAD request gets the response headers of GET; the host leaves out the body.
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    match (method, path.as_str()) {
        (Method::GET, "/") => Ok(text(StatusCode::OK, "Hello, World!")),
        (Method::GET, path) if path.starts_with("/hello/") => {
            let name = decoded(path.strip_prefix("/hello/").unwrap_or_default());
            let greeting = parameter(&query, "greeting").unwrap_or_else(|| "Hello".to_owned());
            Ok(text(StatusCode::OK, format!("{greeting}, {name}!")))
        }
        (Method::POST, "/echo") => Ok(echo(request)),
        (Method::GET, "/headers") => Ok(headers(&request)),
        (Method::GET, "/query") => {
            let lines: String = pairs(&query).map(|(name, value)| format!("{name}={value}\n")).collect();
            Ok(text(StatusCode::OK, lines))
        }
        (Method::GET, "/count") => {
            COUNT.set(COUNT.get() + 1);
            Ok(text(StatusCode::OK, COUNT.get().to_string()))
        }
        (Method::GET, "/fetch") => Ok(match fetch(&parameter(&query, "url").unwrap_or_default()).await {
            Ok(answer) => text(StatusCode::OK, answer),
            Err(error) => text(StatusCode::BAD_GATEWAY, format!("{error:?}")),
        }),
        (Method::GET | Method::POST, "/proxy") => proxy(&parameter(&query, "url").unwrap_or_default(), request).await,
        (Method::GET, "/error") => Err(ErrorCode::InternalError(Some("as asked".to_owned()))),
        (Method::GET, "/memory") => {
            let mut taken = Vec::new();
            loop {
                taken.push(vec![1_u8; 1 << 20]);
            }
        }
        (Method::GET, "/log") => {
            println!("to stdout");
            eprintln!("to stderr");
            Ok(text(StatusCode::OK, "logged"))
        }
        _ => Ok(text(StatusCode::NOT_FOUND, "not found")),
    }
}

fn whole(bytes: impl Into<Bytes>) -> Response {
    http::Response::new(Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync())
}

fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = whole(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = http::Response::new(body.boxed_unsync());
    if let Some(kind) = parts.headers.get("content-type") {
        response.headers_mut().insert("content-type", kind.clone());
    }
    response
}

fn headers(request: &Request) -> Response {
    let values = request.headers().get_all("x-test").iter().flat_map(|value| [value.as_bytes(), b"\n"].concat());
    let mut response = whole(values.collect::<Vec<u8>>());
    response.headers_mut().append("set-cookie", HeaderValue::from_static("a=1"));
    response.headers_mut().append("set-cookie", HeaderValue::from_static("b=2"));
    response.headers_mut().insert("x-bytes", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    response
}

async fn fetch(url: &str) -> Result<String, ErrorCode> {
    let outgoing = http::Request::get(url).body(Empty::<Bytes>::new());
    let outgoing = outgoing.map_err(|error| ErrorCode::InternalError(Some(error.to_string())))?;
    let response = wasip3::http::client::send(http_into_wasi_request(outgoing)?).await?;
    let (parts, body) = http_from_wasi_response(response)?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(format!("{}\n{}", parts.status.as_u16(), String::from_utf8_lossy(&body)))
}

/// Passes the request's method and body on, and the response with its body as it comes.
async fn proxy(url: &str, request: Request) -> Result<Response, ErrorCode> {
    let (parts, body) = request.into_parts();
    let mut outgoing = http::Request::builder().method(parts.method).uri(url);
    if let Some(length) = parts.headers.get("content-length") {
        outgoing = outgoing.header("content-length", length);
    }
    let outgoing = outgoing.body(body).map_err(|error| ErrorCode::InternalError(Some(error.to_string())))?;
    let response = wasip3::http::client::send(http_into_wasi_request(outgoing)?).await?;
    let (parts, body) = http_from_wasi_response(response)?.into_parts();
    let mut response = http::Response::new(body.boxed_unsync());
    *response.status_mut() = parts.status;
    Ok(response)
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (decoded(name), decoded(value)))
}

fn parameter(query: &str, wanted: &str) -> Option<String> {
    pairs(query).find(|(name, _)| name == wanted).map(|(_, value)| value)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if let (b'%', Some(byte)) = (first, after.get(..2).and_then(byte_of)) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(if *first == b'+' { b' ' } else { *first });
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Two hexadecimal digits. (`u8::from_str_radix` would take a sign as well.)
fn byte_of(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}
