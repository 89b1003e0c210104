//! What the readers of all formats gather from a file beside its pieces.

use std::io;

use crate::description::{Description, DocumentType, Line, Period};
use crate::keyword::{Found, Keyword, KeywordError};
use crate::limits::{KEYWORDS_MAX, KEYWORDS_PER_FILE_MAX};
use crate::oddity::{Oddities, Oddity};
use crate::understand::Piece;
use crate::words;

/// What a file was found to be.
pub(crate) struct Understood {
    pub(crate) media_type: &'static str,
    /// They tile the file.
    pub(crate) pieces: Vec<Piece>,
    pub(crate) gathered: Gathering,
}

/// Why a file is not of a format after all.
#[derive(Debug)]
pub(crate) enum NotUnderstood {
    Io(io::Error),
    Odd(Oddity),
}

impl From<io::Error> for NotUnderstood {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Keywords and description, while a file is read: at most [`KEYWORDS_PER_FILE_MAX`] keywords and
/// [`KEYWORDS_MAX`] words. Words are bounded apart, so that many of them displace nothing else.
#[derive(Debug)]
pub(crate) struct Gathering {
    keywords: Found,
    words: Found,
    title: Option<(Rank, Line)>,
    origin: Option<(Rank, Line)>,
    document_type: Option<DocumentType>,
    period: Option<Period>,
}

/// How well a text serves: of two the one of the lower rank is kept, of equal ones the first.
pub(crate) type Rank = u8;

impl Gathering {
    pub(crate) fn new() -> Self {
        Self {
            keywords: Found::new(KEYWORDS_PER_FILE_MAX),
            words: Found::new(KEYWORDS_MAX),
            title: None,
            origin: None,
            document_type: None,
            period: None,
        }
    }

    /// A keyword, or the oddity that what stands at this offset cannot become one.
    pub(crate) fn keyword(
        &mut self,
        keyword: Result<Keyword, KeywordError>,
        at: u64,
        oddities: &mut Oddities,
    ) {
        match keyword {
            Ok(keyword) => {
                let pathway = keyword.is_cerebrovascular();
                self.keywords.add(keyword);
                if pathway {
                    self.keywords.add(Keyword::cerebrovascular());
                }
            }
            Err(_) => oddities.note(Oddity::NoKeyword { at }),
        }
    }

    /// The words of a title or problem.
    pub(crate) fn words(&mut self, text: &str) {
        words::each(text, |word| self.words.add(Keyword::of_normal_word(word)));
    }

    pub(crate) fn title(&mut self, rank: Rank, text: &str) {
        keep(&mut self.title, rank, text);
    }

    pub(crate) fn origin(&mut self, rank: Rank, text: &str) {
        keep(&mut self.origin, rank, text);
    }

    /// The first of several is kept.
    pub(crate) fn document_type(&mut self, system: &str, code: &str) {
        if self.document_type.is_none()
            && let (Some(system), Some(code)) = (Line::of(system), Line::of(code))
        {
            self.document_type = Some(DocumentType { system, code });
        }
    }

    pub(crate) fn period(&mut self, period: Option<&Period>) {
        if let Some(period) = period {
            match &mut self.period {
                Some(known) => known.widen(period),
                None => self.period = Some(period.clone()),
            }
        }
    }

    /// The keywords, words last; how many found no room; and the description.
    pub(crate) fn into_parts(self) -> (Vec<Keyword>, usize, Description) {
        let (mut keywords, left_out) = self.keywords.into_parts();
        let (words, words_left_out) = self.words.into_parts();
        keywords.extend(words);
        let description = Description {
            title: self.title.map(|(_, line)| line),
            document_type: self.document_type,
            period: self.period,
            origin: self.origin.map(|(_, line)| line),
        };
        (keywords, left_out + words_left_out, description)
    }
}

fn keep(kept: &mut Option<(Rank, Line)>, rank: Rank, text: &str) {
    if kept.as_ref().is_none_or(|(known, _)| rank < *known)
        && let Some(line) = Line::of(text)
    {
        *kept = Some((rank, line));
    }
}
