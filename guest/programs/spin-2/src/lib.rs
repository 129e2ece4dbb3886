//! Notes in the store `default`, a key for each path; `GET /` lists them, under the title that the variable `title` has.

use spin_sdk::http::{IntoResponse, Method, Request, Response};
use spin_sdk::http_component;
use spin_sdk::key_value::Store;
use spin_sdk::variables;

#[http_component]
fn notes(request: Request) -> anyhow::Result<impl IntoResponse> {
    let store = Store::open_default()?;
    let key = request.path();
    let answer = |status: u16, body: Vec<u8>| Response::builder().status(status).body(body).build();
    Ok(match request.method() {
        Method::Get if key == "/" => {
            let mut keys = store.get_keys()?;
            keys.sort();
            answer(200, format!("{}: {}", variables::get("title")?, keys.join(" ")).into_bytes())
        }
        Method::Get => match store.get(key)? {
            Some(value) => answer(200, value),
            None => answer(404, Vec::new()),
        },
        Method::Put | Method::Post => {
            store.set(key, request.body())?;
            answer(201, Vec::new())
        }
        Method::Delete => {
            store.delete(key)?;
            answer(200, Vec::new())
        }
        Method::Head => answer(if store.exists(key)? { 200 } else { 404 }, Vec::new()),
        _ => answer(405, Vec::new()),
    })
}
