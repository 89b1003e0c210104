//! Who may see the pages: the one who was given the address, in a browser, from these pages themselves.
//!
//! Every user of the machine and every site in the browser can connect to a loopback port. So:
//!
//! 1. The `Host` must be the address that the pages are served at; a name that an attacker points at the
//!    loopback address (DNS rebinding) is another one.
//! 2. A call that changes something must have these pages as its `Origin`, and no call may come from
//!    another site (`Sec-Fetch-Site`).
//! 3. Every page lies below a place that is chosen at each start, and needs a cookie that is given only to
//!    who opens the printed address with its code. Cookies are shared by all ports of a host, so another
//!    local server could ask the browser for them: it would have to know the place first, to which the
//!    cookie is bound.
//!
//! Answers are never stored, never framed, run only the program's own script, and reach no other host.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use rand_core::Rng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::app::Shared;
use crate::frame;

const COOKIE: &str = "willis";

/// What a browser must hold, as hexadecimal digits.
pub(crate) struct Keys {
    /// Below which every page lies.
    pub(crate) place: String,
    code: Zeroizing<String>,
    session: Zeroizing<String>,
}

impl Keys {
    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        let mut digits = |bytes: usize| {
            let mut random = vec![0; bytes];
            rng.fill_bytes(&mut random);
            hex::encode(random)
        };
        Self {
            place: digits(8),
            code: Zeroizing::new(digits(16)),
            session: Zeroizing::new(digits(32)),
        }
    }

    /// The path that lets a browser in.
    pub(crate) fn entry(&self) -> String {
        format!("/{}/enter?code={}", self.place, *self.code)
    }

    fn is_code(&self, query: &str) -> bool {
        let given = query.split('&').find_map(|pair| pair.strip_prefix("code="));
        given.is_some_and(|given| equal(given, &self.code))
    }

    fn is_session(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter();
        let mut pairs = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == COOKIE && equal(value, &self.session))
    }

    fn cookie(&self) -> String {
        format!(
            "{COOKIE}={}; Path=/{}; HttpOnly; SameSite=Strict",
            *self.session, self.place
        )
    }
}

fn equal(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Lets a call through, or says why not.
pub(crate) async fn check(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&app, &request) {
        Some(refused) => refused,
        None if is_entry(&app, &request) => enter(&app, &request),
        None => next.run(request).await,
    };
    harden(response.headers_mut());
    response
}

fn is_entry(app: &Shared, request: &Request) -> bool {
    request.uri().path() == format!("/{}/enter", app.keys.place)
}

fn enter(app: &Shared, request: &Request) -> Response {
    if !app.keys.is_code(request.uri().query().unwrap_or_default()) {
        return frame::stranger(StatusCode::FORBIDDEN);
    }
    let cookie = [(header::SET_COOKIE, app.keys.cookie())];
    (cookie, Redirect::to(&app.at(""))).into_response()
}

fn refusal(app: &Shared, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::HOST) != Some(app.host.as_str()) {
        return Some(plain(
            StatusCode::MISDIRECTED_REQUEST,
            "This is not the address of these pages. Open the address that willis printed.",
        ));
    }
    let foreign = plain(
        StatusCode::FORBIDDEN,
        "Another site asked for this. Nothing was done. Open the address that willis printed.",
    );
    let site = text(HeaderName::from_static("sec-fetch-site"));
    if !matches!(site, None | Some("same-origin" | "none")) {
        return Some(foreign);
    }
    let own = format!("http://{}", app.host);
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    let origin = text(header::ORIGIN);
    if (!asks && origin != Some(own.as_str())) || origin.is_some_and(|origin| origin != own) {
        return Some(foreign);
    }
    let known = is_entry(app, request) || app.keys.is_session(headers);
    (!known).then(|| frame::stranger(StatusCode::FORBIDDEN))
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

fn harden(headers: &mut HeaderMap) {
    const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
        font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let fixed = [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        // With `no-referrer` a browser would send no origin with a form.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
}
