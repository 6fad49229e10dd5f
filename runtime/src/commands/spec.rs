//! `bulkhead spec`: a configuration to start from.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use rustix::process::{getgid, getuid};
use serde_json::{Value, json};

use crate::error::Error;

/// A shell in a container with few capabilities.
const CONFIG: &str = include_str!("default_config.json");

/// Arguments of `spec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write `config.json`
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a user other than root, who is root in the container
    #[arg(long)]
    rootless: bool,
}

/// Writes `config.json`; one that exists is left alone.
pub(crate) fn execute(args: &Args) -> Result<u8, Error> {
    let config = if args.rootless {
        rootless(getuid().as_raw(), getgid().as_raw())?
    } else {
        CONFIG.to_owned()
    };
    let path = args.bundle.join("config.json");
    File::create_new(&path)
        .and_then(|mut file| file.write_all(config.as_bytes()))
        .map_err(Error::io("write", path))?;
    Ok(0)
}

/// The same with a user namespace whose root is this user, and no other id.
fn rootless(uid: u32, gid: u32) -> Result<String, Error> {
    let mut config: Value = serde_json::from_str(CONFIG).expect("it is JSON");
    let only = |id| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    let linux = &mut config["linux"];
    linux["uidMappings"] = only(uid);
    linux["gidMappings"] = only(gid);
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.push(json!({ "type": "user" }));
    }
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| !option.as_str().is_some_and(|o| o.starts_with("gid=")));
        }
    }
    super::to_json(&config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;

    #[test]
    fn written_configuration_is_one_that_we_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("rootfs")).unwrap();
        let args = Args {
            bundle: directory.path().to_owned(),
            rootless: false,
        };
        execute(&args).unwrap();
        assert!(Bundle::load(directory.path()).unwrap().wants_terminal());
        execute(&args).unwrap_err();
    }

    #[test]
    fn users_are_root_in_their_containers() {
        let config: Value = serde_json::from_str(&rootless(7, 8).unwrap()).unwrap();
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], 7);
        assert_eq!(config["linux"]["gidMappings"][0]["hostID"], 8);
        assert!(!config["mounts"].to_string().contains("gid=5"));
        let namespaces = config["linux"]["namespaces"].to_string();
        assert!(namespaces.contains("user"), "{namespaces}");
    }
}
