//! Tables of words that place something in a section class (`spec/formats.md` R3). Tests hold tables
//! and specification together, row by row.

use crate::class::SectionClass;

/// Rows of a table: a class and the words that stand for it.
pub(crate) type Table = &'static [(SectionClass, &'static [&'static str])];

/// The class of a word; `None` if the table does not have it.
pub(crate) fn find(table: Table, word: &str) -> Option<SectionClass> {
    table
        .iter()
        .find(|(_, words)| words.contains(&word))
        .map(|(class, _)| *class)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;

    use super::*;

    /// The words in back-quotes of each row of a table of the specification.
    pub(crate) fn specified(heading: &str) -> BTreeMap<String, SectionClass> {
        let (_, behind) = SPEC.split_once(&format!("### {heading} ")).unwrap();
        let table = behind.split("\n#").next().unwrap();
        let mut words = BTreeMap::new();
        for row in table.lines().filter(|line| line.starts_with("| ")) {
            let mut cells = row.trim_matches('|').split('|');
            let Some(class) = SectionClass::from_name(cells.next().unwrap().trim()) else {
                continue;
            };
            for word in cells.next().unwrap().split('`').skip(1).step_by(2) {
                assert_eq!(
                    words.insert(word.to_owned(), class),
                    None,
                    "{heading}: {word} stands twice"
                );
            }
        }
        words
    }

    /// The same of a table of the code.
    pub(crate) fn built(table: Table) -> BTreeMap<String, SectionClass> {
        let mut built = BTreeMap::new();
        for (class, words) in table {
            for word in *words {
                assert_eq!(
                    built.insert((*word).to_owned(), *class),
                    None,
                    "{word} stands twice"
                );
            }
        }
        built
    }

    const SPEC: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../spec/formats.md"
    ));
}
