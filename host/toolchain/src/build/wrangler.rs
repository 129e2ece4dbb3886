//! What a project's configuration for Workers (wrangler.toml, wrangler.json or wrangler.jsonc) says: which module is the
//! application's, and what it finds in its `env`. It names what it would like to have; only the host's own settings grant it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Error;

/// Where it may be; the first that is there counts, as with wrangler.
const FILES: [&str; 3] = ["wrangler.json", "wrangler.jsonc", "wrangler.toml"];

/// The keys whose values an application finds in its `env` on Workers, and not here.
const IGNORED: [&str; 17] = [
    "r2_buckets",
    "d1_databases",
    "durable_objects",
    "queues",
    "workflows",
    "ai",
    "browser",
    "images",
    "assets",
    "vectorize",
    "hyperdrive",
    "analytics_engine_datasets",
    "send_email",
    "mtls_certificates",
    "dispatch_namespaces",
    "secrets_store_secrets",
    "env",
];

/// Longest name of a store.
const STORE_NAME_BYTES_MAX: usize = 63;
/// What Workers calls namespaces in `id`: so many hexadecimal digits.
const NAMESPACE_ID_BYTES: usize = 32;
/// The days of Workers' fifth field of cron by their numbers, which begin with 1.
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What it says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wrangler {
    /// The file's name; empty: there is none.
    pub(super) file: &'static str,
    /// The application's module.
    pub(super) main: Option<String>,
    pub(super) bindings: Bindings,
    /// What it gives an application by `env`, which this host does not.
    pub(super) ignored: Vec<&'static str>,
}

/// What an application finds in `env`, by its names there; `build.mjs` puts it into the component.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Bindings {
    /// Values, unless the host's settings have others.
    vars: Map<String, Value>,
    /// KV namespaces, and the store of each.
    kv: BTreeMap<String, String>,
    /// Other applications of the host, by the names of these.
    services: BTreeMap<String, String>,
    /// Patterns of cron as this host writes them, and as the application knows them.
    crons: BTreeMap<String, String>,
}

impl Wrangler {
    /// Nothing, where there is no such file.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let Some((name, path)) = FILES.iter().map(|&name| (name, folder.join(name))).find(|(_, path)| path.is_file())
        else {
            return Ok(Self::default());
        };
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Self::parse(name, &text)
            .map_err(|reason| Error::io("read", path)(std::io::Error::new(std::io::ErrorKind::InvalidData, reason)))
    }

    fn parse(file: &'static str, text: &str) -> Result<Self, String> {
        let table: Map<String, Value> = match file.ends_with(".toml") {
            true => toml::from_str(text).map_err(|error| error.to_string())?,
            false => serde_json::from_str(&plain_json(text)).map_err(|error| error.to_string())?,
        };
        let text_at = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let list = |key: &str| table.get(key).and_then(Value::as_array).into_iter().flatten();
        let kv = list("kv_namespaces").filter_map(|one| {
            let binding = text_at(one, "binding")?;
            let store = store(text_at(one, "id").as_deref(), &binding);
            Some((binding, store))
        });
        let services = list("services").filter_map(|one| Some((text_at(one, "binding")?, text_at(one, "service")?)));
        let crons = table.get("triggers").and_then(|triggers| triggers.get("crons")).and_then(Value::as_array);
        let crons = crons.into_iter().flatten().filter_map(Value::as_str);
        let vars = table.get("vars").and_then(Value::as_object).cloned().unwrap_or_default();
        let main = table.get("main").and_then(Value::as_str);
        Ok(Self {
            file,
            main: main.map(|main| main.strip_prefix("./").unwrap_or(main).to_owned()),
            bindings: Bindings {
                vars,
                kv: kv.collect(),
                services: services.collect(),
                crons: crons.map(|cron| (with_named_days(cron), cron.to_owned())).collect(),
            },
            ignored: IGNORED.into_iter().filter(|&key| table.contains_key(key)).collect(),
        })
    }

    /// What to say of it to whoever builds: what is not there, and what the host has to grant.
    pub(super) fn notes(&self, app: &str) -> String {
        let mut notes = String::new();
        // Writing to a string does not fail.
        if !self.ignored.is_empty() {
            let keys = self.ignored.join(", ");
            let _ = writeln!(notes, "warning: what {} says of {keys} is not read: `env` has none of it", self.file);
        }
        let Bindings { kv, services, crons, .. } = &self.bindings;
        let quoted =
            |names: Vec<&String>| names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let mut lines = String::new();
        if !kv.is_empty() {
            let _ = writeln!(lines, "  stores = [{}]", quoted(kv.values().collect()));
        }
        if !services.is_empty() {
            let _ = writeln!(lines, "  services = [{}]", quoted(services.values().collect()));
        }
        for cron in crons.keys() {
            let _ = writeln!(lines, "  [[app.schedule]]\n  cron = {cron:?}");
        }
        if !lines.is_empty() {
            let _ = write!(
                notes,
                "note: what {} names is there if the host grants it. In wasmhost.toml, below the `[[app]]` of {app}:\n{lines}",
                self.file
            );
        }
        notes
    }
}

/// The store of a namespace: `id`, unless that is one of Workers' own, or no name for a store; else what the application calls it.
fn store(id: Option<&str>, binding: &str) -> String {
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let is_own = |id: &&str| id.len() == NAMESPACE_ID_BYTES && id.chars().all(|digit| digit.is_ascii_hexdigit());
    let is_name = |id: &&str| (1..=STORE_NAME_BYTES_MAX).contains(&id.len()) && id.chars().all(is_of_name);
    match id.filter(is_name).filter(|id| !is_own(id)) {
        Some(id) => id.to_owned(),
        None => binding.replace(|character| !is_of_name(character), "_"),
    }
}

/// The same pattern with names of days in the place of their numbers: Workers has 1 for Sunday, others have 0.
fn with_named_days(cron: &str) -> String {
    let mut fields: Vec<&str> = cron.split_whitespace().collect();
    let named = |number: &str| {
        let day = number.parse::<usize>().ok().and_then(|number| DAYS.get(number.checked_sub(1)?));
        day.map_or(number, |day| *day).to_owned()
    };
    let of_part = |part: &str| {
        let (days, step) = part.split_once('/').map_or((part, None), |(days, step)| (days, Some(step)));
        let days = days.split('-').map(named).collect::<Vec<_>>().join("-");
        step.map_or(days.clone(), |step| format!("{days}/{step}"))
    };
    let days = fields.get(4).map(|days| days.split(',').map(of_part).collect::<Vec<_>>().join(","));
    if let (Some(days), Some(last)) = (&days, fields.get_mut(4)) {
        *last = days;
    }
    fields.join(" ")
}

/// JSON without comments and without commas behind the last of a list, which wrangler takes as well.
fn plain_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    // Where the last comma is, if nothing but space and comments came since.
    let mut comma = None;
    while let Some(character) = rest.chars().next() {
        let length = match character {
            '"' => text_length(rest),
            '/' if rest.starts_with("//") => {
                rest = rest.find('\n').map_or("", |end| rest.get(end..).unwrap_or_default());
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.split_once("*/").map_or("", |(_, behind)| behind);
                continue;
            }
            _ => character.len_utf8(),
        };
        if let (Some(at), ']' | '}') = (comma, character) {
            plain.replace_range(at..=at, "");
        }
        match character {
            ',' => comma = Some(plain.len()),
            _ if character.is_whitespace() => {}
            _ => comma = None,
        }
        plain.push_str(rest.get(..length).unwrap_or_default());
        rest = rest.get(length..).unwrap_or_default();
    }
    plain
}

/// How long the text in quotes is that this begins with, with its quotes.
fn text_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = character == '\\' && !is_escaped,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
name = "links"
main = "./src/worker.ts"
kv_namespaces = [
  { binding = "LINKS", id = "0123456789abcdef0123456789ABCDEF" },
  { binding = "STATS", id = "counts" },
  { binding = "$NEW" },
]
[vars]
TITLE = "Links"
LIMITS = { most = 3 }
[triggers]
crons = ["0 3 * * *", "*/5 9-17 * * 2-6,1/2"]
[[services]]
binding = "AUTH"
service = "auth"
[[d1_databases]]
binding = "DB"
"#;
    const JSONC: &str = r#"{
  // A comment, with "quotes".
  "main": "src/a//b.js", /* and, another, */
  "kv_namespaces": [{ "binding": "K", "id": "<your id>" },],
  "vars": { "URL": "http://\"a\\", },
}"#;

    #[test]
    fn names_of_env_lead_to_stores_services_and_schedules() -> Result<(), String> {
        let wrangler = Wrangler::parse("wrangler.toml", TOML)?;
        assert_eq!(wrangler.main.as_deref(), Some("src/worker.ts"));
        let expected = serde_json::json!({
            "vars": { "TITLE": "Links", "LIMITS": { "most": 3 } },
            "kv": { "LINKS": "LINKS", "STATS": "counts", "$NEW": "_NEW" },
            "services": { "AUTH": "auth" },
            "crons": { "0 3 * * *": "0 3 * * *", "*/5 9-17 * * MON-FRI,SUN/2": "*/5 9-17 * * 2-6,1/2" },
        });
        assert_eq!(serde_json::to_value(&wrangler.bindings).map_err(|error| error.to_string())?, expected);
        let notes = wrangler.notes("links");
        for line in [
            "warning: what wrangler.toml says of d1_databases is not read: `env` has none of it\n",
            "below the `[[app]]` of links:\n  stores = [\"_NEW\", \"LINKS\", \"counts\"]\n  services = [\"auth\"]\n",
            "  [[app.schedule]]\n  cron = \"*/5 9-17 * * MON-FRI,SUN/2\"\n",
        ] {
            assert!(notes.contains(line), "{notes}");
        }
        Ok(())
    }

    #[test]
    fn json_may_have_comments_and_a_comma_at_the_end() -> Result<(), String> {
        let wrangler = Wrangler::parse("wrangler.jsonc", JSONC)?;
        assert_eq!(wrangler.main.as_deref(), Some("src/a//b.js"));
        assert_eq!(wrangler.bindings.kv, BTreeMap::from([("K".to_owned(), "K".to_owned())]));
        assert_eq!(wrangler.bindings.vars.get("URL").and_then(Value::as_str), Some("http://\"a\\"));
        for (plain, expected) in
            [("[1,/*", "[1,"), ("[\"a", "[\"a"), ("[1 , // x\n ]", "[1  \n ]"), ("[\",]\",]", "[\",]\"]")]
        {
            assert_eq!(plain_json(plain), expected);
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_understood_is_said_and_nothing_is_nothing() -> Result<(), Error> {
        let dir = tempfile::tempdir().map_err(Error::io("write", "."))?;
        assert_eq!(Wrangler::read(dir.path())?, Wrangler::default());
        assert_eq!(Wrangler::default().notes("a"), "");
        for (file, text) in [("wrangler.toml", "main = "), ("wrangler.jsonc", "{"), ("wrangler.json", "[]")] {
            // Each goes before the one above.
            std::fs::write(dir.path().join(file), text).map_err(Error::io("write", file))?;
            let error = Wrangler::read(dir.path()).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(file), "{error}");
        }
        Ok(())
    }
}
