use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Note {
    title: String,
    body: String,
}

type Notes = Arc<Mutex<Vec<Note>>>;

#[derive(Deserialize)]
struct Filter {
    title: Option<String>,
}

/// A router is made for each request; what lives on is in a static.
static NOTES: std::sync::LazyLock<Notes> = std::sync::LazyLock::new(Notes::default);

#[wstd_axum::http_server]
fn main() -> Router {
    let api = Router::new().route("/notes", get(list).post(add)).route("/notes/{number}", get(one));
    Router::new()
        .route("/", get(|| async { "notes" }))
        .nest("/api", api)
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page") })
        .layer(from_fn(stamp))
        .with_state(NOTES.clone())
}

async fn list(State(notes): State<Notes>, Query(filter): Query<Filter>) -> Json<Vec<Note>> {
    let notes = notes.lock().unwrap();
    let wanted = |note: &&Note| filter.title.as_ref().is_none_or(|title| note.title == *title);
    Json(notes.iter().filter(wanted).cloned().collect())
}

async fn add(State(notes): State<Notes>, Json(note): Json<Note>) -> (StatusCode, String) {
    let mut notes = notes.lock().unwrap();
    notes.push(note);
    (StatusCode::CREATED, format!("/api/notes/{}", notes.len() - 1))
}

async fn one(State(notes): State<Notes>, Path(number): Path<usize>) -> Result<Json<Note>, StatusCode> {
    notes.lock().unwrap().get(number).cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn stamp(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-served-by", HeaderValue::from_static("axum"));
    response
}
