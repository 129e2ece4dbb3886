use std::cell::Cell;

use wstd::http::{Body, Client, Error, HeaderValue, Method, Request, Response, StatusCode};

thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    // A HEAD request gets the response headers of GET; the host leaves out the body.
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    match (method, path.as_str()) {
        (Method::GET, "/") => text(StatusCode::OK, "Hello, World!"),
        (Method::GET, path) if path.starts_with("/hello/") => {
            let name = decoded(path.strip_prefix("/hello/").unwrap_or_default());
            let greeting = parameter(&query, "greeting").unwrap_or_else(|| "Hello".to_owned());
            text(StatusCode::OK, format!("{greeting}, {name}!"))
        }
        (Method::POST, "/echo") => echo(request),
        (Method::GET, "/headers") => headers(&request),
        (Method::GET, "/query") => {
            text(StatusCode::OK, pairs(&query).map(|(name, value)| format!("{name}={value}\n")).collect::<String>())
        }
        (Method::GET, "/count") => {
            COUNT.set(COUNT.get() + 1);
            text(StatusCode::OK, COUNT.get().to_string())
        }
        (Method::GET, "/fetch") => fetch(&parameter(&query, "url").unwrap_or_default()).await,
        (Method::GET | Method::POST, "/proxy") => proxy(&parameter(&query, "url").unwrap_or_default(), request).await,
        (Method::GET, "/error") => Err(Error::msg("as asked")),
        (Method::GET, "/memory") => {
            let mut taken = Vec::new();
            loop {
                taken.push(vec![1_u8; 1 << 20]);
            }
        }
        (Method::GET, "/log") => {
            println!("to stdout");
            eprintln!("to stderr");
            text(StatusCode::OK, "logged")
        }
        _ => text(StatusCode::NOT_FOUND, "not found"),
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Result<Response<Body>, Error> {
    let response = Response::builder().status(status).header("content-type", "text/plain; charset=utf-8");
    Ok(response.body(text.into().into())?)
}

fn echo(request: Request<Body>) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(body);
    if let Some(kind) = parts.headers.get("content-type") {
        response.headers_mut().insert("content-type", kind.clone());
    }
    Ok(response)
}

fn headers(request: &Request<Body>) -> Result<Response<Body>, Error> {
    let values = request.headers().get_all("x-test").iter().flat_map(|value| [value.as_bytes(), b"\n"].concat());
    let response = Response::builder().header("set-cookie", "a=1").header("set-cookie", "b=2");
    let response = response.header("x-bytes", HeaderValue::from_bytes(b"caf\xe9")?);
    Ok(response.body(values.collect::<Vec<u8>>().into())?)
}

async fn fetch(url: &str) -> Result<Response<Body>, Error> {
    let outgoing = Request::get(url).body(Body::empty())?;
    match Client::new().send(outgoing).await {
        Ok(response) => {
            let status = response.status().as_u16();
            let mut body = response.into_body();
            text(StatusCode::OK, format!("{status}\n{}", body.str_contents().await?))
        }
        Err(error) => text(StatusCode::BAD_GATEWAY, error.to_string()),
    }
}

/// Passes the request's method and body on, and the response with its body as it comes.
async fn proxy(url: &str, request: Request<Body>) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    let mut outgoing = Request::builder().method(parts.method).uri(url);
    if let Some(length) = parts.headers.get("content-length") {
        outgoing = outgoing.header("content-length", length);
    }
    let response = Client::new().send(outgoing.body(body)?).await?;
    let status = response.status();
    Ok(Response::builder().status(status).body(response.into_body())?)
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
