//! What the documents point at is there.
//!
//! Links must lead somewhere, and what looks like a path in the clone must be
//! one: in `code spans`, a name of a top-level folder, a slash and more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn documents() -> Vec<PathBuf> {
    ["", "docs", "docs/decisions"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

fn folders() -> BTreeSet<String> {
    fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "target")
        .collect()
}

/// Targets of links that lead to files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://"))
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty())
}

/// Paths of the clone in code spans.
fn paths<'a>(text: &'a str, folders: &BTreeSet<String>) -> Vec<&'a str> {
    let is_path = |span: &&str| {
        let top = span.split_once('/').map(|(top, _)| top);
        top.is_some_and(|top| folders.contains(top)) && !span.contains([' ', '*', '\n', '<'])
    };
    text.split('`').skip(1).step_by(2).filter(is_path).collect()
}

#[test]
fn nothing_in_the_documents_leads_nowhere() {
    let folders = folders();
    let mut dead = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        let linked = links(&text).map(|link| folder.join(link));
        let named = paths(&text, &folders)
            .into_iter()
            .map(|path| root().join(path));
        for target in linked.chain(named).filter(|target| !target.exists()) {
            dead.push(format!("{} -> {}", document.display(), target.display()));
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn links_and_paths_are_found() {
    let text = "[a](b.md#c), [d](https://e/f), `vmm/src/lib.rs`, `no/such`, `vmm/src/*.rs`";
    assert_eq!(links(text).collect::<Vec<_>>(), ["b.md"]);
    assert_eq!(
        paths(text, &BTreeSet::from(["vmm".into()])),
        ["vmm/src/lib.rs"]
    );
}
