//! Checks JSON against JSON Schema (draft 2020-12), as far as `docs/openapi.json` uses it. Whatever else a schema says is an error:
//! nothing is taken for right because it was not understood. (The crate `jsonschema` would bring 24 others.)

use serde_json::Value;

/// What of a schema explains, and checks nothing.
const ANNOTATIONS: [&str; 3] = ["description", "format", "contentMediaType"];

/// What is wrong with `value` by `schema`, whose references lead into `document`: a line each, with the place.
pub fn mistakes(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "", &mut found);
    found
}

/// What a reference, or the thing itself, stands for.
pub fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}")),
        None => schema,
    }
}

fn check(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let schema = resolved(document, schema).as_object().expect("a schema is an object");
    for (keyword, says) in schema {
        let is_right = match keyword.as_str() {
            "type" => match says.as_array() {
                Some(types) => types.iter().any(|one| is_of_type(one, value)),
                None => is_of_type(says, value),
            },
            "enum" => says.as_array().expect("a list").contains(value),
            "const" => says == value,
            "minimum" => value.as_f64().is_none_or(|number| Some(number) >= says.as_f64()),
            "required" => {
                let missing: Vec<_> = says
                    .as_array()
                    .expect("a list")
                    .iter()
                    .filter(|name| value.get(name.as_str().expect("a name")).is_none())
                    .collect();
                if value.is_object() && !missing.is_empty() {
                    found.push(format!("{place}: {missing:?} are missing"));
                }
                true
            }
            "properties" => {
                for (name, property) in says.as_object().expect("an object") {
                    if let Some(value) = value.get(name) {
                        check(document, property, value, &format!("{place}/{name}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties");
                for (name, value) in value.as_object().into_iter().flatten() {
                    let is_known = known.is_some_and(|known| known.get(name).is_some());
                    match says {
                        _ if is_known => {}
                        Value::Bool(false) => found.push(format!("{place}/{name}: it is not described")),
                        says => check(document, says, value, &format!("{place}/{name}"), found),
                    }
                }
                true
            }
            "items" => {
                for (number, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, says, value, &format!("{place}/{number}"), found);
                }
                true
            }
            "oneOf" => {
                let of_each: Vec<_> =
                    says.as_array().expect("a list").iter().map(|one| mistakes(document, one, value)).collect();
                let right = of_each.iter().filter(|mistakes| mistakes.is_empty()).count();
                if right != 1 {
                    let nearest = of_each.iter().min_by_key(|mistakes| mistakes.len());
                    found.push(format!("{place}: {right} of `oneOf` fit {value}; nearest: {nearest:?}"));
                }
                true
            }
            // Each line of a text is JSON.
            "contentSchema" => {
                for line in value.as_str().unwrap_or_default().lines() {
                    match serde_json::from_str(line) {
                        Ok(value) => check(document, says, &value, place, found),
                        Err(error) => found.push(format!("{place}: {error} in {line}")),
                    }
                }
                true
            }
            other if ANNOTATIONS.contains(&other) => true,
            other => panic!("{place}: the check does not know `{other}`"),
        };
        if !is_right {
            found.push(format!("{place}: {value} is not as `{keyword}` says: {says}"));
        }
    }
}

fn is_of_type(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("no type: {other}"),
    }
}

#[test]
fn what_a_schema_says_is_checked() {
    use serde_json::json;
    let document = json!({ "components": { "schemas": { "Number": { "type": "integer", "minimum": 1 } } } });
    let schema = json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": { "$ref": "#/components/schemas/Number" }, "b": { "enum": ["x", "y"] }, "c": { "type": ["string", "null"] },
            "d": { "type": "array", "items": { "const": 1 } }, "e": { "oneOf": [{ "const": 1 }, { "type": "string" }] },
            "f": { "type": "object", "additionalProperties": { "type": "boolean" } },
            "g": { "type": "string", "contentMediaType": "application/jsonl", "contentSchema": { "type": "integer" } },
        },
    });
    for right in [
        json!({ "a": 1 }),
        json!({ "a": 2, "b": "x", "c": null, "d": [1, 1], "e": 1, "f": { "z": true }, "g": "1\n2\n" }),
    ] {
        assert_eq!(mistakes(&document, &schema, &right), Vec::<String>::new());
    }
    for (wrong, place) in [
        (json!([]), "type"),
        (json!({}), "missing"),
        (json!({ "a": 0 }), "/a"),
        (json!({ "a": 1.5 }), "/a"),
        (json!({ "a": 1, "b": "z" }), "/b"),
        (json!({ "a": 1, "c": 1 }), "/c"),
        (json!({ "a": 1, "d": [1, 2] }), "/d/1"),
        (json!({ "a": 1, "e": 2 }), "/e"),
        (json!({ "a": 1, "f": { "z": 1 } }), "/f/z"),
        (json!({ "a": 1, "g": "1\nx" }), "/g"),
        (json!({ "a": 1, "h": 1 }), "/h"),
    ] {
        let found = mistakes(&document, &schema, &wrong);
        assert!(found.iter().any(|mistake| mistake.contains(place)), "{wrong}: {found:?}");
    }
}
