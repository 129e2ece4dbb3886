//! The statements of `sqlite-spin-2`, by the asynchronous functions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{IntoResponse, Request, StatusCode};
use spin_sdk::http_service;
use spin_sdk::sqlite::{Connection, Error, Value};

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    on: usize,
    #[serde(default = "default_database")]
    database: String,
    sql: String,
    #[serde(default)]
    with: Vec<Json>,
    #[serde(default)]
    vital: bool,
}

fn default_database() -> String {
    "default".to_owned()
}

fn value(from: &Json) -> Value {
    match from {
        Json::Number(number) if number.is_i64() => Value::Integer(number.as_i64().unwrap()),
        Json::Number(number) => Value::Real(number.as_f64().unwrap()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(bytes) => Value::Blob(bytes.iter().map(|byte| byte.as_u64().unwrap() as u8).collect()),
        _ => Value::Null,
    }
}

fn shown(value: &Value) -> Json {
    match value {
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!(bytes),
        Value::Null => Json::Null,
    }
}

async fn execute(connection: &Connection, step: &Step) -> Result<Json, Error> {
    let result = connection.execute(&step.sql, step.with.iter().map(value)).await?;
    let columns = result.columns().to_vec();
    let rows = result.collect().await?;
    let rows: Vec<Vec<Json>> = rows.iter().map(|row| row.values.iter().map(shown).collect()).collect();
    let counts = json!([connection.changes().await, connection.last_insert_rowid().await]);
    Ok(json!({ "columns": columns, "rows": rows, "counts": counts }))
}

#[http_service]
async fn statements(request: Request) -> anyhow::Result<impl IntoResponse> {
    let (_, body) = request.into_parts();
    let steps: Vec<Step> = serde_json::from_slice(&body.bytes().await?)?;
    let (mut open, mut done) = (BTreeMap::new(), Vec::new());
    for step in &steps {
        if !open.contains_key(&step.on) {
            match Connection::open(&step.database).await {
                Ok(connection) => open.insert(step.on, connection),
                Err(error) => {
                    done.push(json!({ "error": format!("{error:?}") }));
                    continue;
                }
            };
        }
        if step.sql == "TRAP" {
            panic!("as asked");
        }
        if step.sql == "CLOSE" {
            open.remove(&step.on);
            continue;
        }
        let outcome = execute(&open[&step.on], step).await;
        let ends = step.vital && outcome.is_err();
        done.push(outcome.unwrap_or_else(|error| json!({ "error": format!("{error:?}") })));
        if ends {
            break;
        }
    }
    Ok((StatusCode::OK, serde_json::to_string(&done)?))
}
