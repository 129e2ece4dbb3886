//! `wasmhost config schema`: the JSON Schema of `wasmhost.toml`, for editors.

use serde_json::{Map, Value, json};

use super::capability::Capabilities;
use super::document::{APPS, DEFAULTS, LISTENERS, SCHEDULES, STORES};
use super::schedule::SCHEDULES_MAX;
use super::settings::{self, Form, Setting, Takes};

/// The schema (draft 2020-12).
pub fn schema(capabilities: Capabilities) -> Value {
    let mut top = properties(settings::of_host());
    let defaults = object(properties(settings::of_defaults(capabilities)), "What apps have that do not say otherwise");
    top.insert(DEFAULTS.to_owned(), defaults);
    let listener =
        object(properties(settings::of_listener()), "Addresses to listen on, with settings apart from the others");
    top.insert(LISTENERS.to_owned(), json!({ "type": "array", "description": "More addresses", "items": listener }));
    let mut store = object(properties(settings::of_store()), "A store of keys and values that apps share");
    insert(&mut store, "required", json!(["name"]));
    top.insert(STORES.to_owned(), json!({ "type": "array", "description": "Stores that apps share", "items": store }));
    let mut schedule =
        object(properties(settings::OF_SCHEDULE.iter()), "Requests that the host makes to the app at certain times");
    insert(&mut schedule, "required", json!(["cron"]));
    let mut of_app = properties(settings::of_app(capabilities));
    of_app.insert(
        SCHEDULES.to_owned(),
        json!({ "type": "array", "description": "The app's schedules", "maxItems": SCHEDULES_MAX, "items": schedule }),
    );
    let mut app = object(of_app, "An app: a component with its routes, limits and grants");
    insert(&mut app, "required", json!(["name"]));
    insert(&mut app, "anyOf", json!([{ "required": ["component"] }, { "required": ["project"] }]));
    top.insert(APPS.to_owned(), json!({ "type": "array", "minItems": 1, "description": "The apps", "items": app }));
    let mut schema = object(top, "What wasmhost serves, and how");
    insert(&mut schema, "$schema", json!("https://json-schema.org/draft/2020-12/schema"));
    insert(&mut schema, "title", json!("wasmhost.toml"));
    insert(&mut schema, "required", json!([APPS]));
    schema
}

/// An object that has these properties and no others.
fn object(properties: Map<String, Value>, description: &str) -> Value {
    json!({ "type": "object", "description": description, "properties": properties, "additionalProperties": false })
}

fn insert(schema: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = schema {
        fields.insert(key.to_owned(), value);
    }
}

fn properties(settings: impl Iterator<Item = &'static Setting>) -> Map<String, Value> {
    let mut properties = Map::new();
    for setting in settings {
        put(&mut properties, setting.key, property(setting));
    }
    properties
}

/// Puts a property in its place, in a table of the table if its key has a dot.
fn put(properties: &mut Map<String, Value>, key: &str, property: Value) {
    let Some((table, rest)) = key.split_once('.') else {
        properties.insert(key.to_owned(), property);
        return;
    };
    let inner = properties.entry(table).or_insert_with(|| object(Map::new(), description(table)));
    if let Some(Value::Object(inner)) = inner.get_mut("properties") {
        put(inner, rest, property);
    }
}

/// What is in a table of the file.
fn description(table: &str) -> &'static str {
    match table {
        "tls" => "TLS of these addresses",
        "acme" => "A certificate that an authority gives by ACME (RFC 8555)",
        _ => "Bounds on the guest, and on its requests",
    }
}

fn property(setting: &Setting) -> Value {
    let value = value(setting.form);
    let is_table = matches!(setting.form, Form::Pairs(_));
    let mut property = match setting.takes {
        Takes::One => value,
        _ if is_table => value,
        Takes::Lines { most, .. } if most < usize::MAX => {
            json!({ "anyOf": [value, { "type": "array", "items": value, "maxItems": most }] })
        }
        Takes::Commas | Takes::Lines { .. } => json!({ "anyOf": [value, { "type": "array", "items": value }] }),
    };
    insert(&mut property, "description", json!(setting.help));
    let is_in_help = setting.help.contains("[default: ");
    let default = match (setting.default, setting.form, setting.takes) {
        (Some(default), Form::Switch, _) => Some(json!(default == "true")),
        (Some(default), Form::Count, _) => {
            Some(default.parse::<u64>().map_or_else(|_| json!(default), |count| json!(count)))
        }
        (Some(default), ..) => Some(json!(default)),
        (None, Form::Switch, _) => Some(json!(false)),
        (None, Form::Pairs(_), _) => Some(json!({})),
        (None, _, Takes::One) => None,
        (None, ..) => (!is_in_help).then(|| json!([])),
    };
    if let Some(default) = default {
        insert(&mut property, "default", default);
    }
    property
}

fn value(form: Form) -> Value {
    match form {
        Form::Switch => json!({ "type": "boolean" }),
        Form::Count => json!({ "type": ["integer", "string"] }),
        Form::Size => json!({ "type": ["integer", "string"], "examples": ["64KiB", "128MiB", "2GiB"] }),
        Form::Time => json!({ "type": "string", "examples": ["500ms", "5s", "2m"] }),
        Form::Text(_) | Form::PairsFile(_) => json!({ "type": "string" }),
        Form::Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,63}$" }),
        Form::Choice(_, names) => json!({ "enum": names() }),
        Form::Pairs(_) => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "integer", "boolean"] } })
        }
    }
}
