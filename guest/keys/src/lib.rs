//! What the guests of stores do: `/draft/VERB` and `/draft2/VERB` ask a store by wasi:keyvalue of that version. They differ only
//! in how they speak HTTP. The verbs are described in `guest/README.md`.

mod draft;
mod draft2;
mod query;

use query::Query;

wit_bindgen::generate!({
    path: ["../../wit/keyvalue-draft.wit", "../../wit/keyvalue-draft2.wit"],
    inline: "
        package guest:keys;
        world keys {
            include wasi:keyvalue/imports@0.2.0-draft;
            include wasi:keyvalue/imports@0.2.0-draft2;
        }
    ",
    world: "guest:keys/keys",
    generate_all,
});

/// An answer: a status and a text.
pub type Reply = (u16, Vec<u8>);

/// Why a store did not do something, as the guest heard it.
type Failure = String;

/// A store, whatever the version of the interface.
trait Store: Sized {
    fn open(name: &str) -> Result<Self, Failure>;
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure>;
    fn set(&self, key: &str, value: &[u8]) -> Result<(), Failure>;
    fn delete(&self, key: &str) -> Result<(), Failure>;
    fn exists(&self, key: &str) -> Result<bool, Failure>;
    /// A page of keys, and the cursor to the next.
    fn list(&self, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), Failure>;
    fn increment(&self, key: &str, by: i64) -> Result<i64, Failure>;
    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure>;
    fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Failure>;
    fn delete_many(&self, keys: &[String]) -> Result<(), Failure>;
    /// Sets a key if nobody changes it meanwhile, which `meanwhile` may do: what it was, and whether it was set.
    fn swap(&self, key: &str, value: &[u8], meanwhile: Option<&[u8]>) -> Result<(Option<Vec<u8>>, bool), Failure>;
}

/// Does what a path asks for.
pub fn answer(path: &str) -> Reply {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = Query::new(query);
    let answered = match path.split_once("/draft/").map(|(_, verb)| verb) {
        Some(verb) => ask::<draft::Bucket>(verb, &query),
        None => match path.split_once("/draft2/") {
            Some((_, verb)) => ask::<draft2::Bucket>(verb, &query),
            None => return (404, b"no such version".to_vec()),
        },
    };
    answered.unwrap_or_else(|failure| (422, failure.into_bytes()))
}

fn ask<S: Store>(verb: &str, query: &Query) -> Result<Reply, Failure> {
    let store = S::open(&query.text("store").unwrap_or_else(|| "default".to_owned()))?;
    let key = query.text("key").unwrap_or_else(|| "key".to_owned());
    let said = |text: String| Ok((200, text.into_bytes()));
    let value = || match query.number("bytes") {
        Some(bytes) => vec![b'x'; bytes as usize],
        None => query.bytes("value").unwrap_or_default(),
    };
    match verb {
        "get" => Ok(store.get(&key)?.map_or_else(|| (404, b"no such key".to_vec()), |value| (200, value))),
        "size" => said(format!("{:?}", store.get(&key)?.map(|value| value.len()))),
        "set" => store.set(&key, &value()).and_then(|()| said("set".to_owned())),
        "delete" => store.delete(&key).and_then(|()| said("deleted".to_owned())),
        "exists" => said(store.exists(&key)?.to_string()),
        "list" => {
            let (keys, next) = store.list(query.text("cursor").as_deref())?;
            said(format!("{}\n{}", next.unwrap_or_else(|| "end".to_owned()), keys.join("\n")))
        }
        // All pages, with one bucket: how many pages and keys, and whether each came once and in order.
        "list-all" => {
            let (mut pages, mut keys, mut cursor) = (0, Vec::new(), None);
            loop {
                let (page, next) = store.list(cursor.as_deref())?;
                pages += 1;
                keys.extend(page);
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            said(format!("{pages} {} {}", keys.len(), keys.windows(2).all(|pair| pair[0] < pair[1])))
        }
        "increment" => said(store.increment(&key, query.number("by").unwrap_or(1))?.to_string()),
        // So often, one after the other: how often it was acknowledged, and what went wrong first.
        "increments" => {
            let mut done = 0;
            for _ in 0..query.number("count").unwrap_or(1) {
                if let Err(failure) = store.increment(&key, 1) {
                    return said(format!("{done} {failure}"));
                }
                done += 1;
            }
            said(done.to_string())
        }
        "gets" => {
            let mut bytes = 0;
            for _ in 0..query.number("count").unwrap_or(1) {
                bytes += store.get(&key)?.map_or(0, |value| value.len());
            }
            said(bytes.to_string())
        }
        "sets" => {
            let value = value();
            for number in 0..query.number("count").unwrap_or(1) {
                store.set(&format!("{key}{number:06}"), &value)?;
            }
            said("set".to_owned())
        }
        "get-many" => {
            let text = |value: Option<Vec<u8>>| {
                value.map_or("-".to_owned(), |value| String::from_utf8_lossy(&value).into_owned())
            };
            said(store.get_many(&query.list("keys"))?.into_iter().map(text).collect::<Vec<_>>().join(","))
        }
        "set-many" => {
            let value = value();
            let pairs: Vec<_> = match query.number("count") {
                Some(count) => (0..count).map(|number| (format!("{key}{number:06}"), value.clone())).collect(),
                None => query.list("keys").into_iter().map(|key| (key, value.clone())).collect(),
            };
            store.set_many(&pairs).and_then(|()| said("set".to_owned()))
        }
        "delete-many" => store.delete_many(&query.list("keys")).and_then(|()| said("deleted".to_owned())),
        "swap" => {
            let (was, is_set) = store.swap(&key, &value(), query.bytes("meanwhile").as_deref())?;
            said(format!("{} {is_set}", was.map_or("-".to_owned(), |was| String::from_utf8_lossy(&was).into_owned())))
        }
        "set-and-trap" => {
            store.set(&key, &value())?;
            panic!("as asked")
        }
        _ => Ok((404, b"no such verb".to_vec())),
    }
}
