//! The cases that have no meaning with a virtual machine; `docs/oci.md` lists them.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::paths;

/// Where they are listed.
const DOCUMENT: &str = "docs/oci.md";

/// The heading of the section whose table they are.
const HEADING: &str = "## Conformance";

/// Names of cases, and the reasons.
#[derive(Debug, Default)]
pub(super) struct Exclusions(BTreeMap<String, String>);

impl Exclusions {
    /// Reads them from the document.
    pub(super) fn read() -> Result<Self> {
        let path = paths::root().join(DOCUMENT);
        let text = fs::read_to_string(&path).with_context(|| format!("read {DOCUMENT}"))?;
        let exclusions = Self::parse(&text);
        ensure!(
            !exclusions.0.is_empty(),
            "{DOCUMENT} has no table below {HEADING:?}"
        );
        Ok(exclusions)
    }

    /// Reads the section's table: a row has one or more names of cases, and a reason.
    pub(super) fn parse(document: &str) -> Self {
        let section = document.lines().skip_while(|line| *line != HEADING).skip(1);
        let section = section.take_while(|line| !line.starts_with("## "));
        let mut exclusions = BTreeMap::new();
        for row in section.filter(|line| line.starts_with("| `")) {
            let mut cells = row.trim_matches('|').splitn(2, '|').map(str::trim);
            let (Some(names), Some(reason)) = (cells.next(), cells.next()) else {
                continue;
            };
            // What stands between two quotes is every other piece.
            let names = names.split('`').skip(1).step_by(2);
            exclusions.extend(names.map(|name| (name.to_owned(), reason.to_owned())));
        }
        Self(exclusions)
    }

    /// Why a case is excluded, if it is.
    pub(super) fn reason(&self, case: &str) -> Option<&str> {
        self.0.get(case).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::Exclusions;

    #[test]
    fn document_lists_them() {
        Exclusions::read().unwrap();
    }

    #[test]
    fn rows_of_the_section_count() {
        let document = "\
## Other
| `a` | not here |
## Conformance
Some text with `names`.

| case | why |
| --- | --- |
| `b`, `c` | one | two |
| `d` | three |

## Next
| `e` | not here |
";
        let exclusions = Exclusions::parse(document);
        let reasons = ["a", "b", "c", "d", "e"].map(|case| exclusions.reason(case));
        let shared = Some("one | two");
        assert_eq!(reasons, [None, shared, shared, Some("three"), None]);
    }
}
