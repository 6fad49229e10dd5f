//! `bulkhead update`: changes a container's limits, in its guest and on the host.

use std::io::Read;
use std::path::{Path, PathBuf};

use bulkhead_protocol::{Json, RequestBody};
use oci_spec::runtime::{LinuxMemory, LinuxResources, Spec};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::host_cgroup;
use crate::id::ContainerId;
use crate::resources::{Host, Resources};
use crate::state::State;

const VERB: &str = "update";

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read the limits from this file (`-`: standard input), an object like the
    /// configuration's `linux.resources`; the other options change them
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Length of a CPU period, in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,
    /// CPU time in each period, in microseconds
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// CPU time that a burst may take beyond the quota, in microseconds
    #[arg(long, value_name = "N")]
    cpu_burst: Option<u64>,
    /// Weight of CPU time, 2 to 262144
    #[arg(long, visible_alias = "cpu-shares", value_name = "N")]
    cpu_share: Option<u64>,
    /// CPUs to run on
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// 1: run only when nobody else wants to
    #[arg(long, value_name = "N")]
    cpu_idle: Option<i64>,
    /// Memory, in bytes or with a unit
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_negative_numbers = true)]
    memory: Option<i64>,
    /// Memory that is not taken away without need
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_negative_numbers = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// Accepted for engines: cgroup v2 has no such limit
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory: Option<String>,
    /// Accepted for engines: cgroup v2 has no such limit
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory_tcp: Option<String>,
    /// Accepted for engines: cgroup v2 has no such limit
    #[arg(long, value_name = "N", hide = true)]
    cpu_rt_period: Option<u64>,
    /// Accepted for engines: cgroup v2 has no such limit
    #[arg(long, value_name = "N", hide = true, allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// Refused: see `intelRdt` in docs/oci.md
    #[arg(long, value_name = "SCHEMA", hide = true)]
    l3_cache_schema: Option<String>,
    /// The same
    #[arg(long, value_name = "SCHEMA", hide = true)]
    mem_bw_schema: Option<String>,
    /// Processes and threads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// The container's id
    id: String,
}

/// Changes the limits.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    refuse_shares_of_the_cache(args)?;
    let id = ContainerId::parse(&args.id)?;
    let state = context.store.state(&id)?;
    let wish = wish(args)?;
    let spec: Spec = context.store.config(&id)?;
    let size = Resources::of(&spec, Host::current())?;
    let limits = parse(&wish)?;
    refuse_more_than_guest(&state, limits.memory().as_ref(), size)?;
    let resources = Json::new(&wish);
    let resources = resources.map_err(|error| Error::io("encode", "the limits")(error.into()))?;
    let container = id.to_string();
    let request = RequestBody::Limit {
        container,
        resources,
    };
    super::ask(context, &state, VERB, request)?;
    if let Some(cgroup) = &state.cgroup {
        cgroup.limit(&host_cgroup::limits(Some(&limits), size))?;
    }
    Ok(0)
}

fn refuse_shares_of_the_cache(args: &Args) -> Result<(), Error> {
    let schemas = [
        ("--l3-cache-schema", &args.l3_cache_schema),
        ("--mem-bw-schema", &args.mem_bw_schema),
    ];
    for (option, schema) in schemas {
        if let Some(value) = schema.clone() {
            let reason = "a microVM is given no share of the host's caches or memory bandwidth";
            return Err(Error::Value {
                option,
                value,
                reason,
            });
        }
    }
    Ok(())
}

/// The limits as a JSON object: those of the file, changed by the options.
fn wish(args: &Args) -> Result<Value, Error> {
    let mut wish = match &args.resources {
        None => json!({}),
        Some(path) => read(path)?,
    };
    let mut set = |group: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            if !wish[group].is_object() {
                wish[group] = json!({});
            }
            wish[group][key] = value;
        }
    };
    set("blockIO", "weight", args.blkio_weight.map(Value::from));
    set("cpu", "period", args.cpu_period.map(Value::from));
    set("cpu", "quota", args.cpu_quota.map(Value::from));
    set("cpu", "burst", args.cpu_burst.map(Value::from));
    set("cpu", "shares", args.cpu_share.map(Value::from));
    set("cpu", "cpus", args.cpuset_cpus.clone().map(Value::from));
    set("cpu", "mems", args.cpuset_mems.clone().map(Value::from));
    set("cpu", "idle", args.cpu_idle.map(Value::from));
    set("memory", "limit", args.memory.map(Value::from));
    set("memory", "swap", args.memory_swap.map(Value::from));
    let reservation = args.memory_reservation.map(Value::from);
    set("memory", "reservation", reservation);
    set("pids", "limit", args.pids_limit.map(Value::from));
    Ok(wish)
}

fn read(path: &Path) -> Result<Value, Error> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|content| text = content)
    };
    read.map_err(Error::io("read", path))?;
    let object: serde_json::Map<_, _> = serde_json::from_str(&text).map_err(content(path))?;
    Ok(object.into())
}

fn parse(wish: &Value) -> Result<LinuxResources, Error> {
    serde_json::from_value(wish.clone()).map_err(content(Path::new("--resources")))
}

fn content(path: &Path) -> impl FnOnce(serde_json::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Content {
        path,
        what: "an object like the configuration's linux.resources",
        source,
    }
}

fn refuse_more_than_guest(
    state: &State,
    memory: Option<&LinuxMemory>,
    size: Resources,
) -> Result<(), Error> {
    let limit = memory.and_then(LinuxMemory::limit).unwrap_or_default();
    let has = (size.memory_mib << 20).cast_signed();
    if limit <= has {
        return Ok(());
    }
    Err(Error::MoreMemoryThanGuest {
        id: state.id.clone(),
        limit,
        memory_mib: size.memory_mib,
    })
}

/// A number of bytes, with a unit of 1024 to some power if there is one; -1 is no
/// limit.
fn parse_size(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(['b', 'i']);
    let (number, shift) = match number.char_indices().last() {
        Some((at, unit)) => match "kmgtp".find(unit) {
            Some(power) => (&number[..at], 10 * (power + 1)),
            None => (number, 0),
        },
        None => (number, 0),
    };
    let number: i64 = number
        .trim()
        .parse()
        .map_err(|_| "not a size such as 100M".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> Args {
        let words = ["bulkhead", "update"];
        let words = words.into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Update(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("100"), Ok(100));
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("-1"), Ok(-1));
        for text in ["", "M", "lots", "1X", "9999999999G"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn options_change_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resources");
        std::fs::write(&path, r#"{"cpu": {"shares": 5}, "pids": {"limit": 7}}"#).unwrap();
        let line = format!("-r {} --cpu-shares 9 --memory 1M c1", path.display());
        let expected = json!({ "cpu": { "shares": 9 }, "pids": { "limit": 7 }, "memory": { "limit": 1 << 20 } });
        assert_eq!(wish(&args(&line)).unwrap(), expected);
        std::fs::write(&path, "[]").unwrap();
        assert!(wish(&args(&line)).is_err());
    }
}
