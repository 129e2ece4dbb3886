//! The description of this API (OpenAPI 3.1, <https://spec.openapis.org/oas/v3.1.1>): `openapi.json` beside this file, with a
//! property for each metric that `/status` shows. `docs/openapi.json` is the whole.

use serde_json::{Value, json};

use wasmhost_serve::metrics::MetricKind;

use super::table::{Family, families};

/// All but the metrics.
const WRITTEN: &str = include_str!("openapi.json");

/// The whole description.
pub fn document() -> Value {
    let mut document: Value = serde_json::from_str(WRITTEN).unwrap_or_default();
    for family in families() {
        // Counts of apps stand where a worker has had to do with the app.
        let (schema, is_always_there) = match family.labels.first() {
            Some(&"worker") => ("Worker", true),
            Some(&"app") => ("App", false),
            _ => ("Status", true),
        };
        let Some((field, property)) = property(&family) else { continue };
        let Some(Value::Object(schema)) = document.pointer_mut(&format!("/components/schemas/{schema}")) else {
            continue;
        };
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert(field.to_owned(), property);
        }
        if let Some(Value::Array(required)) = schema.get_mut("required").filter(|_| is_always_there) {
            required.push(field.into());
        }
    }
    document
}

/// The field of a metric on `/status`, and what is in it; none: it is only on `/metrics`.
fn property(family: &Family) -> Option<(&'static str, Value)> {
    let field = family.status?;
    let count = json!({ "type": "integer", "minimum": 0 });
    let is_of_one = family.labels.first().is_some_and(|label| matches!(*label, "worker" | "app"));
    let by = family.labels.get(usize::from(is_of_one));
    let mut property = match by {
        // By the upper bound of each bucket, in microseconds; none where nothing was counted.
        None if family.kind == MetricKind::Histogram => json!({ "type": "object", "additionalProperties": count }),
        Some(_) => json!({ "type": "object", "additionalProperties": count }),
        None => count,
    };
    if let Value::Object(property) = &mut property {
        property.insert("description".to_owned(), family.help.into());
    }
    Some((field, property))
}

/// The text of the description.
pub fn render() -> String {
    // Only strings, numbers and maps with string keys: it cannot fail.
    serde_json::to_string_pretty(&document()).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::routes::{ROUTES, RouteAccess};
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods.keys().map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let routes = ROUTES.iter();
        let routes: BTreeSet<_> = routes.map(|route| (route.path.to_owned(), route.method.to_string())).collect();
        assert_eq!(described, routes);
        for route in ROUTES {
            let operation = &paths[route.path][route.method.as_str().to_lowercase()];
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            assert_eq!(is_open, route.access == RouteAccess::Open, "{}", route.path);
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_path = parameters.filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(of_path, route.path.matches('{').count(), "{}", route.path);
        }
    }

    #[test]
    fn metrics_are_described_where_status_has_them() {
        let document = document();
        let of = |schema: &str| &document["components"]["schemas"][schema]["properties"];
        assert_eq!(of("Worker")["in_flight"]["type"], "integer");
        assert_eq!(of("App")["faults"]["additionalProperties"]["type"], "integer");
        assert_eq!(
            of("Status")["admin_refusals"]["description"],
            "Requests to the admin address that were refused, by reason"
        );
        assert!(of("Status")["faults"].is_null());
    }
}
