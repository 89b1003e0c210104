//! What was typed into a form and not accepted yet: kept while these pages run, so that an error or an
//! expired lock loses nothing. Passphrases are never kept.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::app::locked;

/// Forms that are kept at a time: far more than one person fills in.
const FORMS_MAX: usize = 64;
/// Bytes of one form's values: some pages of text.
pub(crate) const FORM_BYTES_MAX: usize = 64 << 10;

/// What a form holds, in its order; a name can stand several times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// Of a form's body (`application/x-www-form-urlencoded`).
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// The value of a name, empty if there is none.
    pub(crate) fn value(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value.trim())
    }

    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(own, _)| own == name);
        named.map(|(_, value)| value.trim())
    }

    /// Whether a name stands there with this value, as a ticked box does.
    pub(crate) fn has(&self, name: &str, value: &str) -> bool {
        self.values(name).any(|own| own == value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A passphrase out of a form: it is wiped when it is no longer needed.
pub(crate) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// By the path of the page that shows the form.
#[derive(Default)]
pub(crate) struct Forms(Mutex<BTreeMap<String, Fields>>);

impl Forms {
    pub(crate) fn keep(&self, page: &str, fields: Fields) {
        let mut forms = locked(&self.0);
        if forms.len() >= FORMS_MAX && !forms.contains_key(page) {
            forms.pop_first();
        }
        forms.insert(page.to_owned(), fields);
    }

    /// What was typed there before; nothing if it was accepted.
    pub(crate) fn kept(&self, page: &str) -> Fields {
        locked(&self.0).get(page).cloned().unwrap_or_default()
    }

    pub(crate) fn accepted(&self, page: &str) {
        locked(&self.0).remove(page);
    }
}
