//! Counts visits in a store of keys and values, and greets with a text of the configuration.

use wstd::http::{Body, Error, Request, Response};

wit_bindgen::generate!({
    path: "wit",
    inline: "
        package mine:visits;
        world visits {
            include wasi:keyvalue/imports@0.2.0-draft2;
            import wasi:config/store@0.2.0-rc.1;
        }
    ",
    world: "mine:visits/visits",
    generate_all,
});

// `wit/` has two versions of wasi:keyvalue: the name of the module says which.
use wasi::config::store as config;
use wasi::keyvalue0_2_0_draft2::{atomics, store};

#[wstd::http_server]
async fn main(_: Request<Body>) -> Result<Response<Body>, Error> {
    let greeting = config::get("greeting").ok().flatten().unwrap_or_default();
    let text = match store::open("default").and_then(|bucket| atomics::increment(&bucket, "visits", 1)) {
        Ok(visits) => format!("{greeting}visit {visits}"),
        Err(error) => format!("{greeting}no store: {error:?}"),
    };
    Ok(Response::new(text.into()))
}
