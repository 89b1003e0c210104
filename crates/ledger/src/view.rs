//! The state as the ledger sees it: exact keys to bytes. Reading is a [`View`], writing is a value
//! ([`Changes`]) that whoever keeps the store applies at once with the block's height.

use std::collections::BTreeMap;

use thiserror::Error;

/// The store under a [`View`] failed. Nothing was decided; a node stops and opens its store anew,
/// it does not vote on what it could not read.
#[derive(Debug, Error)]
#[error("the state could not be read")]
pub struct ViewError {
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl ViewError {
    /// From the store's own error.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
        }
    }
}

/// State after some block, by exact key. It does not change while it is read.
pub trait View {
    /// The value under `key`, `None` if there is none.
    ///
    /// # Errors
    /// [`ViewError`] if the store cannot tell.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;
}

impl<V: View + ?Sized> View for &V {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        (**self).get(key)
    }
}

/// What a block changes: puts and deletes in the order of their keys. Written as one, together with
/// the block's height, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Changes {
    /// Nothing changed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `value` under `key`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.insert(key, Some(value));
    }

    /// Deletes `key`.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// What these changes say about `key`: `None` if nothing, `Some(None)` if it is deleted.
    pub fn read(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.writes.get(key).map(Option::as_deref)
    }

    /// Key and new value (`None`: deleted), in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.writes
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// How many keys change.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Lays `later` over these changes; where both name a key, `later` holds.
    pub fn merge(&mut self, later: Self) {
        self.writes.extend(later.writes);
    }
}

/// A view with the changes of blocks above it that are not final yet, oldest first.
///
/// ```
/// use ledger::{Changes, MemoryView, Overlay, View};
/// let base = MemoryView::new();
/// let mut block = Changes::new();
/// block.put(b"key".to_vec(), b"value".to_vec());
/// let mut overlay = Overlay::new(&base);
/// overlay.push(&block);
/// assert_eq!(overlay.get(b"key")?, Some(b"value".to_vec()));
/// assert_eq!(base.get(b"key")?, None);
/// # Ok::<(), ledger::ViewError>(())
/// ```
pub struct Overlay<'a> {
    base: &'a dyn View,
    layers: Vec<&'a Changes>,
}

impl<'a> Overlay<'a> {
    /// No layer yet.
    pub fn new(base: &'a dyn View) -> Self {
        Self {
            base,
            layers: Vec::new(),
        }
    }

    /// Lays the changes of the next block over what is there.
    pub fn push(&mut self, changes: &'a Changes) -> &mut Self {
        self.layers.push(changes);
        self
    }
}

impl std::fmt::Debug for Overlay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Overlay({} layers)", self.layers.len())
    }
}

impl View for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        for layer in self.layers.iter().rev() {
            if let Some(value) = layer.read(key) {
                return Ok(value.map(<[u8]>::to_vec));
            }
        }
        self.base.get(key)
    }
}

/// A whole state in memory: for tools that replay a chain of blocks, and for tests. A node keeps its
/// state on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryView {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryView {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the changes of the next block.
    pub fn apply(&mut self, changes: &Changes) {
        for (key, value) in changes.iter() {
            match value {
                Some(value) => self.entries.insert(key.to_vec(), value.to_vec()),
                None => self.entries.remove(key),
            };
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.entries.get(key).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_layer_hides_an_earlier_one_and_a_delete_hides_the_base() {
        let mut base = MemoryView::new();
        let mut first = Changes::new();
        first.put(b"a".to_vec(), vec![1]);
        first.put(b"b".to_vec(), vec![1]);
        base.apply(&first);
        let mut second = Changes::new();
        second.put(b"a".to_vec(), vec![2]);
        second.delete(b"b".to_vec());
        let mut third = Changes::new();
        third.put(b"b".to_vec(), vec![3]);

        let mut overlay = Overlay::new(&base);
        overlay.push(&second);
        assert_eq!(overlay.get(b"a").expect("memory"), Some(vec![2]));
        assert_eq!(overlay.get(b"b").expect("memory"), None);
        overlay.push(&third);
        assert_eq!(overlay.get(b"b").expect("memory"), Some(vec![3]));

        let mut merged = second.clone();
        merged.merge(third.clone());
        let mut applied = base.clone();
        applied.apply(&merged);
        base.apply(&second);
        base.apply(&third);
        assert_eq!(applied, base);
        assert_eq!(base.len(), 2);
        assert_eq!(merged.len(), 2);
    }
}
