//! A guest of wasi 0.3 that asks stores of keys and values what the path says (`keys`).

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Stores;

impl Guest for Stores {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (status, text) = keys::answer(&request.get_path_with_query().unwrap_or_default());
        let (mut body, body_reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(body_reader), trailers_reader);
        response.set_status_code(status).unwrap();
        spawn_local(async move {
            body.write_all(text).await;
            drop(body); // the end of the body
            drop(trailers); // the default of above: no trailers
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Stores);
