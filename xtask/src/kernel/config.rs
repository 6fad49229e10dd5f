//! Configuration fragments: what is asked of Kconfig, and whether it was heard.
//!
//! Kconfig drops a request silently when its dependencies are not met or its
//! name is unknown. A fragment states intent, so here each drop is an error.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::Flavour;
use crate::paths;

/// A setting of one option, as Kconfig writes it after the `=`; `None` is off.
type Setting = Option<String>;

/// The options that a flavour asks for, by name without `CONFIG_`.
pub(super) struct Fragments {
    requests: BTreeMap<String, Request>,
}

struct Request {
    setting: Setting,
    /// File and line, for messages.
    place: String,
}

impl Fragments {
    /// Reads the fragments that all kernels share, and those of `flavour`.
    pub(super) fn load(flavour: Flavour) -> Result<Self> {
        let root = paths::root().join("guest-kernel");
        let mut fragments = Self {
            requests: BTreeMap::new(),
        };
        for folder in ["common", flavour.folder()] {
            for file in files_with_extension(&root.join(folder), "config")? {
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("read {}", file.display()))?;
                let shown = file.strip_prefix(paths::root()).unwrap_or(&file);
                fragments.add(&text, shown)?;
            }
        }
        Ok(fragments)
    }

    /// Adds one file's requests; each option may be asked for once only.
    fn add(&mut self, text: &str, file: &Path) -> Result<()> {
        for (number, line) in (1..).zip(text.lines()) {
            let place = format!("{}:{number}", file.display());
            let Some((name, setting)) =
                parse_line(line).with_context(|| format!("{place}: cannot be understood"))?
            else {
                continue;
            };
            let request = Request {
                setting,
                place: place.clone(),
            };
            if let Some(earlier) = self.requests.insert(name.to_owned(), request) {
                bail!("{place}: CONFIG_{name} is already set at {}", earlier.place);
            }
        }
        Ok(())
    }

    /// All requests in Kconfig's own syntax, sorted by name.
    pub(super) fn merged(&self) -> String {
        let mut text = String::new();
        for (name, request) in &self.requests {
            let _ = match &request.setting {
                Some(value) => writeln!(text, "CONFIG_{name}={value}"),
                None => writeln!(text, "# CONFIG_{name} is not set"),
            };
        }
        text
    }

    /// Checks that `config`, the finished `.config`, grants every request.
    pub(super) fn verify(&self, config: &str) -> Result<()> {
        let mut granted = BTreeMap::new();
        for line in config.lines() {
            if let Some((name, setting)) = parse_line(line)? {
                granted.insert(name, setting);
            }
        }
        let mut refused = String::new();
        for (name, request) in &self.requests {
            // An option whose dependencies are off is not listed: that is off.
            let found = granted.get(name.as_str()).cloned().flatten();
            if found != request.setting {
                let _ = write!(
                    refused,
                    "\n  {}: CONFIG_{name} asked {}, got {}",
                    request.place,
                    shown(request.setting.as_ref()),
                    shown(found.as_ref()),
                );
            }
        }
        ensure!(
            refused.is_empty(),
            "the kernel's configuration differs from what the fragments ask for \
             (unknown option, or dependency not met):{refused}"
        );
        Ok(())
    }
}

fn shown(setting: Option<&String>) -> &str {
    setting.map_or("off", String::as_str)
}

/// The files of `folder` whose names end so, in the order of their names; there
/// must be some.
pub(super) fn files_with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let list = || format!("list {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    ensure!(
        !files.is_empty(),
        "no .{extension} file in {}",
        folder.display()
    );
    Ok(files)
}

/// One line of Kconfig's syntax; `None` for comments and empty lines.
fn parse_line(line: &str) -> Result<Option<(&str, Setting)>> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        // Any other mention of an option in a comment is prose.
        return Ok(rest.strip_suffix(" is not set").map(|name| (name, None)));
    }
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = line
        .strip_prefix("CONFIG_")
        .and_then(|rest| rest.split_once('='))
        .with_context(|| format!("expected CONFIG_NAME=VALUE, found {line:?}"))?;
    ensure!(
        value != "n",
        "write '# CONFIG_{name} is not set' instead of {line:?}"
    );
    ensure!(value != "m", "there are no modules: CONFIG_{name}=m");
    Ok(Some((name, Some(value.to_owned()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragments(text: &str) -> Result<Fragments> {
        let mut fragments = Fragments {
            requests: BTreeMap::new(),
        };
        fragments.add(text, Path::new("test.config"))?;
        Ok(fragments)
    }

    #[test]
    fn comments_and_prose_about_options_are_skipped() {
        let merged =
            fragments("# Why\n\n# CONFIG_A costs time\nCONFIG_B=y\n# CONFIG_C is not set\n")
                .unwrap()
                .merged();
        assert_eq!(merged, "CONFIG_B=y\n# CONFIG_C is not set\n");
    }

    #[test]
    fn option_set_twice_is_an_error_naming_both_places() {
        let error = fragments("CONFIG_A=y\nCONFIG_A=y\n").err().unwrap();
        assert_eq!(
            error.to_string(),
            "test.config:2: CONFIG_A is already set at test.config:1"
        );
    }

    #[test]
    fn modules_and_unknown_syntax_are_errors() {
        assert!(fragments("CONFIG_A=m\n").is_err());
        assert!(fragments("CONFIG_A=n\n").is_err());
        assert!(fragments("A=y\n").is_err());
    }

    #[test]
    fn silently_dropped_request_is_an_error() {
        let wanted = fragments("CONFIG_A=y\nCONFIG_B=\"x\"\n# CONFIG_C is not set\n").unwrap();
        wanted.verify("CONFIG_A=y\nCONFIG_B=\"x\"\n").unwrap();
        let error = wanted
            .verify("CONFIG_B=\"z\"\nCONFIG_C=y\n")
            .unwrap_err()
            .to_string();
        for refused in [
            "test.config:1: CONFIG_A asked y, got off",
            "test.config:2: CONFIG_B asked \"x\", got \"z\"",
            "test.config:3: CONFIG_C asked off, got y",
        ] {
            assert!(error.contains(refused), "{error}");
        }
    }

    #[test]
    fn fragments_of_both_flavours_load() {
        for flavour in [Flavour::Guest, Flavour::EmulatedHost] {
            Fragments::load(flavour).unwrap();
        }
    }
}
