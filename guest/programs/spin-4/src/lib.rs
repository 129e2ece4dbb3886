//! The notes of `spin-2`, with the interfaces of Spin 4.

use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{IntoResponse, Method, Request, StatusCode};
use spin_sdk::http_service;
use spin_sdk::key_value::Store;
use spin_sdk::variables;

#[http_service]
async fn notes(request: Request) -> anyhow::Result<impl IntoResponse> {
    let store = Store::open_default().await?;
    let (head, body) = request.into_parts();
    let key = head.uri.path();
    Ok(match head.method {
        Method::GET if key == "/" => {
            let mut keys = store.get_keys().await.collect().await?;
            keys.sort();
            let text = format!("{}: {}", variables::get("title").await?, keys.join(" "));
            (StatusCode::OK, text)
        }
        Method::GET => match store.get(key).await? {
            Some(value) => (StatusCode::OK, String::from_utf8(value)?),
            None => (StatusCode::NOT_FOUND, String::new()),
        },
        Method::PUT | Method::POST => {
            store.set(key, body.bytes().await?).await?;
            (StatusCode::CREATED, String::new())
        }
        Method::DELETE => {
            store.delete(key).await?;
            (StatusCode::OK, String::new())
        }
        Method::HEAD if store.exists(key).await? => (StatusCode::OK, String::new()),
        Method::HEAD => (StatusCode::NOT_FOUND, String::new()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    })
}
