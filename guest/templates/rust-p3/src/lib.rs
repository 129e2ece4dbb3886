use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use wasip3::http::types::{self, ErrorCode};
use wasip3::http_compat::{IncomingRequestBody, http_from_wasi_request, http_into_wasi_response};

type Request = http::Request<IncomingRequestBody>;
type Response = http::Response<UnsyncBoxBody<Bytes, ErrorCode>>;

struct App;

impl wasip3::exports::http::handler::Guest for App {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        let response = serve(http_from_wasi_request(request)?).await?;
        http_into_wasi_response(response)
    }
}

wasip3::http::service::export!(App);

/// Answers every request. An instance serves many; an error is answered with 500.
async fn serve(request: Request) -> Result<Response, ErrorCode> {
    let path = request.uri().path();
    Ok(match *request.method() {
        // A HEAD request gets the response headers of GET; the host leaves out the body.
        Method::GET | Method::HEAD => match path.strip_prefix("/hello/") {
            Some(name) => text(StatusCode::OK, format!("Hello, {name}!")),
            None if path == "/" => text(StatusCode::OK, "Hello, World!"),
            None => text(StatusCode::NOT_FOUND, "not found"),
        },
        // The body goes back as it comes.
        Method::POST if path == "/echo" => http::Response::new(request.into_body().boxed_unsync()),
        _ => text(StatusCode::NOT_FOUND, "not found"),
    })
}

fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let body = Full::new(Bytes::from(text.into())).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
