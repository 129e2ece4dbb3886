use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

/// Answers every request. An instance serves many, one at a time; an error is answered with 500.
#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path();
    match *request.method() {
        // A HEAD request gets the response headers of GET; the host leaves out the body.
        Method::GET | Method::HEAD => match path.strip_prefix("/hello/") {
            Some(name) => text(StatusCode::OK, format!("Hello, {name}!")),
            None if path == "/" => text(StatusCode::OK, "Hello, World!"),
            None => text(StatusCode::NOT_FOUND, "not found"),
        },
        // The body goes back as it comes.
        Method::POST if path == "/echo" => Ok(Response::new(request.into_body())),
        _ => text(StatusCode::NOT_FOUND, "not found"),
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Result<Response<Body>, Error> {
    let response = Response::builder().status(status).header("content-type", "text/plain; charset=utf-8");
    Ok(response.body(text.into().into())?)
}
