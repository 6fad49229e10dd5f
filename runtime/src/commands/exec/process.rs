//! What `exec` runs.

use std::fs;
use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use super::Args;
use crate::error::Error;

/// What to run: a file's content, or the container's own process with changes.
pub(super) fn of(args: &Args, config: &Spec) -> Result<Process, Error> {
    let mut process = match &args.process {
        Some(path) => read_process(path)?,
        None => config.process().clone().unwrap_or_default(),
    };
    if args.process.is_none() {
        process.set_terminal(Some(args.tty));
        process.set_args(Some(args.command.clone()));
        if let Some(cwd) = &args.cwd {
            process.set_cwd(cwd.clone());
        }
        process
            .env_mut()
            .get_or_insert_default()
            .extend(args.env.iter().cloned());
        set_user(&mut process, args);
        add_capabilities(&mut process, &args.cap)?;
    } else if args.tty {
        process.set_terminal(Some(true));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    // The guest's kernel has neither of these security modules.
    process.set_apparmor_profile(None).set_selinux_label(None);
    Ok(process)
}

fn read_process(path: &PathBuf) -> Result<Process, Error> {
    let text = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Content {
        path: path.clone(),
        what: "a process as in an OCI configuration",
        source,
    })
}

fn set_user(process: &mut Process, args: &Args) {
    let user = process.user_mut();
    if let Some((uid, gid)) = args.user {
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        user.set_additional_gids(Some(groups));
    }
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = Capabilities::new();
    for name in names {
        added.insert(parse_capability(name)?);
    }
    let mut all: LinuxCapabilities = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<Capabilities>| {
        Some(
            set.iter()
                .flatten()
                .chain(&added)
                .copied()
                .collect::<Capabilities>(),
        )
    };
    let (bounding, effective) = (with(all.bounding()), with(all.effective()));
    let (permitted, ambient) = (with(all.permitted()), with(all.ambient()));
    all.set_bounding(bounding).set_effective(effective);
    all.set_permitted(permitted).set_ambient(ambient);
    process.set_capabilities(Some(all));
    Ok(())
}

fn parse_capability(name: &str) -> Result<Capability, Error> {
    let json = serde_json::Value::from(name.to_ascii_uppercase());
    serde_json::from_value(json).map_err(|_| Error::Value {
        option: "--cap",
        value: name.to_owned(),
        reason: "it is not the name of a capability",
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> Args {
        let words = ["bulkhead", "exec"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Exec(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn config() -> Spec {
        serde_json::from_value(json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": true, "args": ["init"], "cwd": "/srv", "env": ["PATH=/bin"],
                "user": { "uid": 1, "gid": 2, "additionalGids": [3] },
                "capabilities": { "bounding": ["CAP_KILL"], "effective": [] },
            },
        }))
        .unwrap()
    }

    #[test]
    fn containers_process_is_the_model() {
        let process = of(&args("c1 ls -l"), &config()).unwrap();
        let json = serde_json::to_value(&process).unwrap();
        assert_eq!(json["args"], json!(["ls", "-l"]));
        assert_eq!(json["cwd"], "/srv");
        assert_eq!(json["terminal"], false);
        assert_eq!(
            json["user"],
            json!({ "uid": 1, "gid": 2, "additionalGids": [3] })
        );
    }

    #[test]
    fn options_change_it() {
        let line = "-t --cwd /tmp -e A=b -u 5:6 -g 7 --cap cap_chown --no-new-privs c1 id";
        let process = of(&args(line), &config()).unwrap();
        let json = serde_json::to_value(&process).unwrap();
        assert_eq!(json["terminal"], true);
        assert_eq!(json["cwd"], "/tmp");
        assert_eq!(json["env"], json!(["PATH=/bin", "A=b"]));
        assert_eq!(
            json["user"],
            json!({ "uid": 5, "gid": 6, "additionalGids": [3, 7] })
        );
        assert_eq!(json["noNewPrivileges"], true);
        assert_eq!(json["capabilities"]["effective"], json!(["CAP_CHOWN"]));
        assert_eq!(
            json["capabilities"]["bounding"].as_array().unwrap().len(),
            2
        );
    }

    #[test]
    fn user_without_a_group_keeps_the_groups() {
        let process = of(&args("-u 5 c1 id"), &config()).unwrap();
        let json = serde_json::to_value(&process).unwrap();
        assert_eq!(
            json["user"],
            json!({ "uid": 5, "gid": 2, "additionalGids": [3] })
        );
    }

    #[test]
    fn unknown_capability_is_named() {
        let error = of(&args("--cap CAP_FLY c1 true"), &config()).unwrap_err();
        assert!(error.to_string().contains("CAP_FLY"));
    }
}
