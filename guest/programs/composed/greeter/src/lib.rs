use std::sync::atomic::{AtomicU32, Ordering};

wit_bindgen::generate!({ path: "../greeter.wit", world: "greeter" });

use exports::acme::greeter::greet::{Greeting, Guest};

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Greeter;

impl Guest for Greeter {
    fn greet(name: String) -> Greeting {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        Greeting { text: format!("Good day, {name}!"), count }
    }
}

export!(Greeter);
