//! How the file server is told what to export.

use std::ffi::OsString;
use std::path::PathBuf;

use bulkhead_fsd::Export;

/// An export as the value of `--export`.
pub(super) fn of(export: &Export) -> OsString {
    let bind = if export.recursive { "rbind" } else { "bind" };
    let mode = if export.read_only { "ro" } else { "rw" };
    let mut argument = OsString::from(format!("{bind},{mode}:"));
    argument.push(&export.name);
    argument.push("=");
    argument.push(&export.source);
    argument
}

/// Reads such an argument. Names hold no `=`, sources may.
pub(crate) fn parse(text: &str) -> Result<Export, String> {
    let parse = || {
        let (options, export) = text.split_once(':')?;
        let (name, source) = export.split_once('=')?;
        let (bind, mode) = options.split_once(',')?;
        Some(Export {
            name: non_empty(name)?,
            source: non_empty(source)?,
            recursive: choose(bind, "bind", "rbind")?,
            read_only: choose(mode, "rw", "ro")?,
        })
    };
    parse().ok_or_else(|| "expected OPTIONS:NAME=PATH".into())
}

fn non_empty(path: &str) -> Option<PathBuf> {
    (!path.is_empty()).then(|| path.into())
}

fn choose(option: &str, no: &str, yes: &str) -> Option<bool> {
    (option == yes || option == no).then_some(option == yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_is_read_as_it_was_meant() {
        for (recursive, read_only) in [(false, true), (true, false)] {
            let export = Export {
                name: "box/rootfs".into(),
                source: "/a=b:ro,c".into(),
                recursive,
                read_only,
            };
            let argument = of(&export);
            assert_eq!(parse(argument.to_str().unwrap()), Ok(export));
        }
        for text in [
            "",
            "name=path",
            "bind,ro:name",
            "bind,ro:=path",
            "bind,ro:name=",
            "bind:a=b",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
