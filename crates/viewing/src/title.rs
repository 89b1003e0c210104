//! What a file is called in a timeline: facts, not a sentence.

use crate::clinical::{Clinical, Kind};
use crate::moment;
use crate::view::{View, view};
use crate::words::{cut, words};

/// What a file is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title {
    /// What kind of file it is.
    pub kind: TitleKind,
    /// In the record's words, if it has any: title of a document, description of a study, reason or
    /// type of the newest stay, first line of a text.
    pub text: Option<String>,
    /// The document's date, the acquisition, or the newest time in the file. ISO 8601.
    pub date: Option<String>,
}

/// What kind of file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TitleKind {
    /// Rows of a clinical file that is no document.
    Rows {
        /// The kind that most of its rows are of.
        most: Option<Kind>,
    },
    /// A document or message, which says itself what it is.
    Document,
    /// Pictures.
    Pictures {
        /// Modality, such as `CT`.
        modality: Option<String>,
        /// Body part, such as `HEAD`.
        body_part: Option<String>,
    },
    /// Text.
    Text,
}

/// What a file of this media type is called; `None` if it is not shown at all.
pub fn title(media_type: &str, bytes: &[u8]) -> Option<Title> {
    view(media_type, bytes).title()
}

impl View<'_> {
    /// What the file is called; `None` if it is not shown at all.
    pub fn title(&self) -> Option<Title> {
        match self {
            Self::Clinical(clinical) => Some(of_clinical(clinical)),
            Self::Pictures(pictures) => Some(Title {
                kind: TitleKind::Pictures {
                    modality: pictures.modality.clone(),
                    body_part: pictures.body_part.clone(),
                },
                text: pictures.study.clone().or_else(|| pictures.series.clone()),
                date: pictures.acquired.clone(),
            }),
            Self::Text(text) => Some(Title {
                kind: TitleKind::Text,
                text: text
                    .lines()
                    .find_map(words)
                    .map(|line| cut(&line, LINE_BYTES_MAX).to_owned()),
                date: None,
            }),
            Self::Opaque(_) => None,
        }
    }
}

fn of_clinical(clinical: &Clinical) -> Title {
    let rows = |kind: &Kind| {
        let group = clinical.groups.iter().find(|group| group.kind == *kind);
        group.map(|group| group.rows.as_slice()).unwrap_or_default()
    };
    if let Some(document) = &clinical.document
        && document.title.is_some()
    {
        return Title {
            kind: TitleKind::Document,
            text: document.title.clone(),
            date: document.date.clone(),
        };
    }
    let stay = rows(&Kind::Encounters).first();
    let most = clinical.groups.iter().max_by_key(|group| group.rows.len());
    let first = || most.and_then(|group| group.rows.first());
    let newest = clinical
        .groups
        .iter()
        .filter(|group| group.kind != Kind::Patient)
        .filter_map(|group| group.rows.first()?.when.as_deref())
        .max_by_key(|when| moment::seconds(when));
    Title {
        kind: TitleKind::Rows {
            most: most.map(|group| group.kind.clone()),
        },
        text: stay.or_else(first).and_then(|row| words(&row.what)),
        date: stay
            .and_then(|stay| stay.when.clone())
            .or_else(|| newest.map(str::to_owned)),
    }
}

/// Bytes of the first line of a text that serve as its title.
const LINE_BYTES_MAX: usize = 120;
