//! Files that every page uses. They are part of the program: nothing is fetched from anywhere.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Name, type and content.
const FILES: [(&str, &str, &[u8]); 6] = [
    (
        "portal.css",
        "text/css; charset=utf-8",
        include_bytes!("../assets/portal.css"),
    ),
    (
        "portal.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../assets/portal.js"),
    ),
    (
        "mark.svg",
        "image/svg+xml",
        include_bytes!("../assets/mark.svg"),
    ),
    (
        "fonts/sans-400.woff2",
        "font/woff2",
        include_bytes!("../assets/fonts/ibm-plex-sans-latin-400-normal.woff2"),
    ),
    (
        "fonts/sans-600.woff2",
        "font/woff2",
        include_bytes!("../assets/fonts/ibm-plex-sans-latin-600-normal.woff2"),
    ),
    (
        "fonts/mono-400.woff2",
        "font/woff2",
        include_bytes!("../assets/fonts/ibm-plex-mono-latin-400-normal.woff2"),
    ),
];

pub(crate) async fn file(Path(name): Path<String>) -> Response {
    match FILES.into_iter().find(|(own, ..)| *own == name) {
        Some((_, kind, content)) => ([(header::CONTENT_TYPE, kind)], content).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
