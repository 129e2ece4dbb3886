//! Has the statements of a body done, a list of JSON, and answers what came of each. The path says by which version of the
//! interface: `/2` or `/3`.

use serde::Deserialize;
use serde_json::{json, Value as Json};
use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_component;

#[derive(Deserialize)]
struct Step {
    /// The connection's number in this request; it is opened with its first statement.
    #[serde(default)]
    on: usize,
    #[serde(default = "default_database")]
    database: String,
    sql: String,
    #[serde(default)]
    with: Vec<Json>,
    /// Nothing after it is done if it fails.
    #[serde(default)]
    vital: bool,
}

fn default_database() -> String {
    "default".to_owned()
}

/// The same for both versions, whose types are different.
macro_rules! version {
    ($name:ident, $sqlite:path, |$connection:ident| $counts:expr) => {
        mod $name {
            use super::{json, Json, Step};
            use $sqlite as sqlite;

            fn value(from: &Json) -> sqlite::Value {
                match from {
                    Json::Number(number) if number.is_i64() => sqlite::Value::Integer(number.as_i64().unwrap()),
                    Json::Number(number) => sqlite::Value::Real(number.as_f64().unwrap()),
                    Json::String(text) => sqlite::Value::Text(text.clone()),
                    Json::Array(bytes) => {
                        sqlite::Value::Blob(bytes.iter().map(|byte| byte.as_u64().unwrap() as u8).collect())
                    }
                    _ => sqlite::Value::Null,
                }
            }

            fn shown(value: &sqlite::Value) -> Json {
                match value {
                    sqlite::Value::Integer(number) => json!(number),
                    sqlite::Value::Real(number) => json!(number),
                    sqlite::Value::Text(text) => json!(text),
                    sqlite::Value::Blob(bytes) => json!(bytes),
                    sqlite::Value::Null => Json::Null,
                }
            }

            pub fn run(steps: &[Step]) -> Vec<Json> {
                let mut open = std::collections::BTreeMap::new();
                let mut done = Vec::new();
                for step in steps {
                    if !open.contains_key(&step.on) {
                        match sqlite::Connection::open(&step.database) {
                            Ok(connection) => open.insert(step.on, connection),
                            Err(error) => {
                                done.push(json!({ "error": format!("{error:?}") }));
                                continue;
                            }
                        };
                    }
                    let $connection = &open[&step.on];
                    if step.sql == "TRAP" {
                        panic!("as asked");
                    }
                    if step.sql == "CLOSE" {
                        open.remove(&step.on);
                        continue;
                    }
                    let with: Vec<_> = step.with.iter().map(value).collect();
                    let outcome = $connection.execute(&step.sql, &with);
                    let ends = step.vital && outcome.is_err();
                    done.push(match outcome {
                        Ok(result) => {
                            let rows: Vec<Vec<Json>> =
                                result.rows.iter().map(|row| row.values.iter().map(shown).collect()).collect();
                            json!({ "columns": result.columns, "rows": rows, "counts": $counts })
                        }
                        Err(error) => json!({ "error": format!("{error:?}") }),
                    });
                    if ends {
                        break;
                    }
                }
                done
            }
        }
    };
}

version!(two, spin_sdk::sqlite, |connection| Json::Null);
version!(three, spin_sdk::sqlite3, |connection| json!([connection.changes(), connection.last_insert_rowid()]));

#[http_component]
fn statements(request: Request) -> anyhow::Result<impl IntoResponse> {
    let steps: Vec<Step> = serde_json::from_slice(request.body())?;
    let done = match request.path() {
        "/2" => two::run(&steps),
        "/3" => three::run(&steps),
        _ => return Ok(Response::builder().status(404).body(()).build()),
    };
    Ok(Response::builder().status(200).body(serde_json::to_vec(&done)?).build())
}
