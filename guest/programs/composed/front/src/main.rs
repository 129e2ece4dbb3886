use wstd::http::{Body, Error, Request, Response};

wit_bindgen::generate!({ path: "../greeter.wit", world: "front" });

use acme::greeter::greet::greet;

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let name = request.uri().path().trim_start_matches('/');
    let greeting = greet(name);
    Ok(Response::new(format!("{} ({})", greeting.text, greeting.count).into()))
}
