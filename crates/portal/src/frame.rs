//! What stands around every page: the mark, where one can go, the language, whether anything happened.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use crate::app::{self, App, Who};
use crate::words::Language;

/// The parts of a page that all pages have.
pub(crate) struct Frame {
    pub(crate) title: String,
    place: String,
    pub(crate) language: Language,
    pub(crate) who: Who,
    /// Which of the places in the navigation this page belongs to.
    here: &'static str,
    pub(crate) locked: bool,
    pub(crate) version: String,
    pub(crate) notice: Option<String>,
    /// Whether it is shown anew when something changes.
    pub(crate) live: bool,
    /// Whether it only waits for something.
    pub(crate) waits: bool,
}

/// A link of the navigation.
pub(crate) struct Link {
    pub(crate) to: String,
    pub(crate) text: &'static str,
    pub(crate) here: bool,
}

impl Frame {
    pub(crate) fn new(app: &App, title: &str, here: &'static str) -> Self {
        Self {
            title: title.to_owned(),
            place: app.keys.place.clone(),
            language: app.language(),
            who: app.who,
            here,
            locked: app.is_locked(),
            version: app.version(),
            notice: app.told(),
            live: false,
            waits: false,
        }
    }

    /// One that is shown anew when something changes.
    pub(crate) fn live(app: &App, title: &str, here: &'static str) -> Self {
        Self {
            live: true,
            ..Self::new(app, title, here)
        }
    }

    /// The form of a text in the page's language.
    pub(crate) fn t<'a>(&self, english: &'a str, chinese: &'a str) -> &'a str {
        self.language.of(english, chinese)
    }

    /// A paragraph about what went wrong, as HTML.
    pub(crate) fn trouble(&self, why: &str) -> String {
        crate::troubles::paragraph(self.language, why)
    }

    /// So many of something.
    pub(crate) fn count(&self, count: &usize, one: &str, many: &str, chinese: &str) -> String {
        let english = if *count == 1 { one } else { many };
        format!("{count} {}", self.language.of(english, chinese))
    }

    /// A path of these pages.
    pub(crate) fn at(&self, path: &str) -> String {
        app::at(&self.place, path)
    }

    /// Whether there is a keystore, which can be locked.
    pub(crate) fn has_keys(&self) -> bool {
        !matches!(self.who, Who::Nobody | Who::Newcomer)
    }

    pub(crate) fn body(&self) -> &'static str {
        match self.who {
            Who::Doctor => "doctor",
            Who::Patient => "patient",
            Who::Agent => "agent",
            Who::Nobody => "nobody",
            Who::Newcomer => "patient",
        }
    }

    pub(crate) fn links(&self) -> Vec<Link> {
        let places: &[(&'static str, &'static str, &'static str)] = match self.who {
            Who::Doctor => &[
                ("", "Requests", "申请"),
                ("episodes", "My patients", "我的患者"),
                ("consortium", "Consortium", "联盟"),
            ],
            Who::Patient => &[
                ("", "Home", "首页"),
                ("records", "My records", "我的病历"),
                ("grants", "Who can read", "谁能查阅"),
                ("agents", "Family", "家人"),
                ("code", "My code", "我的二维码"),
                ("consortium", "Hospitals", "医院"),
            ],
            Who::Agent => &[
                ("", "Requests", "申请"),
                ("appointments", "Whom I act for", "我代理的人"),
                ("consortium", "Hospitals", "医院"),
            ],
            Who::Newcomer => &[
                ("", "Make your keys", "生成密钥"),
                ("consortium", "Hospitals", "医院"),
            ],
            Who::Nobody => &[
                ("", "Consortium", "联盟"),
                ("consortium/evidence", "Evidence", "证据"),
            ],
        };
        let link = |(path, english, chinese): &(&'static str, &'static str, &'static str)| Link {
            to: self.at(path),
            text: self.language.of(english, chinese),
            here: *path == self.here,
        };
        places.iter().map(link).collect()
    }
}

/// The first six and the last four digits of an id.
pub(crate) fn short(id: &str) -> String {
    match (id.get(..6), id.get(id.len().saturating_sub(4)..)) {
        (Some(first), Some(last)) if id.len() > 12 => format!("{first}…{last}"),
        _ => id.to_owned(),
    }
}

/// A page, or the fault in its template.
pub(crate) fn page(template: impl Template) -> Response {
    page_with(StatusCode::OK, template)
}

pub(crate) fn page_with(status: StatusCode, template: impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    f: Frame,
    what: String,
    next: String,
}

/// There is no such page.
pub(crate) fn missing(app: &App) -> Response {
    let language = app.language();
    let title = language.of("This page is not here", "没有这个页面");
    let what = language.of(
        "What it showed has ended, or the address was mistyped. Nothing is lost by that.",
        "它显示的内容已经结束，或地址有误。没有任何内容因此丢失。",
    );
    message(app, StatusCode::NOT_FOUND, title, what.to_owned())
}

/// Something cannot be shown or done.
pub(crate) fn message(app: &App, status: StatusCode, title: &str, what: String) -> Response {
    page_with(
        status,
        Message {
            f: Frame::new(app, title, "-"),
            what,
            next: app.at(""),
        },
    )
}

#[derive(Template)]
#[template(path = "stranger.html")]
struct Stranger;

/// For who did not open the address that was printed: nothing of anybody is on it, not even the place.
pub(crate) fn stranger(status: StatusCode) -> Response {
    page_with(status, Stranger)
}
