//! How the file server is told what to export.

use std::ffi::OsString;
use std::path::PathBuf;

use bulkhead_fsd::{Export, IdMap, IdRange};

/// An export as the value of `--export`.
pub(super) fn of(export: &Export) -> OsString {
    let bind = if export.recursive { "rbind" } else { "bind" };
    let mode = if export.read_only { "ro" } else { "rw" };
    let mut argument = OsString::from(format!("{bind},{mode}"));
    if let Some(map) = &export.id_map {
        let kind = if map.recursive { "ridmap" } else { "idmap" };
        let (uids, gids) = (ranges(&map.uids), ranges(&map.gids));
        argument.push(format!(",{kind},{uids},{gids}"));
    }
    argument.push(":");
    argument.push(&export.name);
    argument.push("=");
    argument.push(&export.source);
    argument
}

/// `STORED-SHOWN-COUNT` each, with `+` between them.
fn ranges(ranges: &[IdRange]) -> String {
    let range = |range: &IdRange| format!("{}-{}-{}", range.stored, range.shown, range.count);
    ranges.iter().map(range).collect::<Vec<_>>().join("+")
}

/// Reads such an argument. Names hold no `=`, sources may.
pub(crate) fn parse(text: &str) -> Result<Export, String> {
    let parse = || {
        let (options, export) = text.split_once(':')?;
        let (name, source) = export.split_once('=')?;
        let mut options = options.split(',');
        let (bind, mode) = (options.next()?, options.next()?);
        let id_map = match options.next() {
            None => None,
            Some(kind) => Some(IdMap {
                recursive: choose(kind, "idmap", "ridmap")?,
                uids: parse_ranges(options.next()?)?,
                gids: parse_ranges(options.next()?)?,
            }),
        };
        options.next().is_none().then_some(Export {
            name: non_empty(name)?,
            source: non_empty(source)?,
            recursive: choose(bind, "bind", "rbind")?,
            read_only: choose(mode, "rw", "ro")?,
            id_map,
        })
    };
    parse().ok_or_else(|| "expected OPTIONS:NAME=PATH".into())
}

fn parse_ranges(text: &str) -> Option<Vec<IdRange>> {
    let range = |text: &str| {
        let mut numbers = text.split('-').map(|number| number.parse().ok());
        let range = IdRange {
            stored: numbers.next()??,
            shown: numbers.next()??,
            count: numbers.next()??,
        };
        numbers.next().is_none().then_some(range)
    };
    text.split('+').map(range).collect()
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
        let range = |stored, shown, count| IdRange {
            stored,
            shown,
            count,
        };
        let map = IdMap {
            uids: vec![range(0, 1000, 1), range(5, 2000, 10)],
            gids: vec![range(0, u32::MAX, 1)],
            recursive: true,
        };
        for (recursive, read_only, id_map) in [(false, true, None), (true, false, Some(map))] {
            let export = Export {
                name: "box/rootfs".into(),
                source: "/a=b:ro,c".into(),
                recursive,
                read_only,
                id_map,
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
            "bind,ro,idmap:a=b",
            "bind,ro,idmap,0-1,0-1-1:a=b",
            "bind,ro,idmap,0-1-1,0-1-1,more:a=b",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
