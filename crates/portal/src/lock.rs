//! Unlocking and locking, and what happens to a call while the keystore is locked: what it brought is kept,
//! and it goes on from its page afterwards.

use askama::Template;
use axum::body::to_bytes;
use axum::extract::{Form, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::app::Shared;
use crate::forms::{FORM_BYTES_MAX, Fields};
use crate::frame::{Frame, missing, page_with};

/// Lets a call through to a page that needs the open keystore.
pub(crate) async fn check(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let Some(lock) = &app.lock else {
        return missing(&app);
    };
    if lock.is_open() {
        lock.touch();
        return next.run(request).await;
    }
    let path = request.uri().path();
    let own = format!("/{}/", app.keys.place);
    let page = path.strip_prefix(&own).unwrap_or_default().to_owned();
    if request.method() == Method::GET {
        return Redirect::to(&unlock_page(&app, &page)).into_response();
    }
    // The page of the form, which the form names itself.
    let form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| {
            kind.as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        });
    let mut back = String::new();
    if form && let Ok(bytes) = to_bytes(request.into_body(), FORM_BYTES_MAX).await {
        let fields = Fields::parse(&bytes);
        back = fields.value("page").to_owned();
        if !back.is_empty() {
            app.forms.keep(&back, fields);
        }
    }
    Redirect::to(&unlock_page(&app, &back)).into_response()
}

fn unlock_page(app: &Shared, page: &str) -> String {
    app.at(&format!("unlock?to={page}"))
}

#[derive(Template)]
#[template(path = "unlock.html")]
struct UnlockPage {
    f: Frame,
    to: String,
    keystore: String,
    failed: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct To {
    #[serde(default)]
    to: String,
}

pub(crate) async fn show(State(app): State<Shared>, Query(to): Query<To>) -> Response {
    if !app.is_locked() {
        return Redirect::to(&app.at(&of_ours(&to.to))).into_response();
    }
    unlock_with(&app, &to.to, None)
}

fn unlock_with(app: &Shared, to: &str, failed: Option<String>) -> Response {
    let title = app.language().of("Locked", "已锁定");
    let status = match failed {
        None => StatusCode::OK,
        Some(_) => StatusCode::FORBIDDEN,
    };
    let lock = app.lock.as_ref();
    page_with(
        status,
        UnlockPage {
            f: Frame::new(app, title, "-"),
            to: of_ours(to),
            keystore: lock.map_or_else(String::new, |lock| lock.name()),
            failed,
        },
    )
}

#[derive(Deserialize)]
pub(crate) struct Unlock {
    #[serde(deserialize_with = "crate::forms::secret")]
    passphrase: Zeroizing<String>,
    #[serde(default)]
    to: String,
}

pub(crate) async fn unlock(State(app): State<Shared>, Form(form): Form<Unlock>) -> Response {
    let Some(lock) = app.lock.clone() else {
        return missing(&app);
    };
    match lock.unlock(&form.passphrase).await {
        Ok(()) => {
            app.changed();
            Redirect::to(&app.at(&of_ours(&form.to))).into_response()
        }
        Err(error) => unlock_with(&app, &form.to, Some(client::sentence(&error))),
    }
}

pub(crate) async fn lock(State(app): State<Shared>) -> Response {
    if let Some(lock) = &app.lock {
        lock.shut();
    }
    // What is being done may take a while to end.
    let closing = app.clone();
    tokio::spawn(async move { closing.close().await });
    Redirect::to(&app.at("unlock")).into_response()
}

/// A path below the place, and nothing that leads elsewhere.
fn of_ours(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.".contains(&byte);
    if path.bytes().all(plain) && !path.starts_with('/') && !path.contains("..") {
        path.to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_after_unlocking_nobody_is_led_elsewhere() {
        assert_eq!(of_ours("requests/0a1b"), "requests/0a1b");
        for elsewhere in [
            "//evil.example",
            "/x",
            "https://evil.example",
            "a\\b",
            "../enter",
            "a?b=c",
            "a\r\nb",
            "javascript:alert(1)",
        ] {
            assert_eq!(of_ours(elsewhere), "", "{elsewhere}");
        }
    }
}
