//! `bulkhead events`: what a container uses, as runc tells it.

mod stats;

use std::time::Duration;

use bulkhead_protocol::{RequestBody, Response, Usage};
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::events::wait_readable;
use crate::id::ContainerId;
use crate::state::State;
use stats::Stats;

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often to tell
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_interval)]
    interval: Duration,
    /// Tell once, and end
    #[arg(long)]
    stats: bool,
    /// The container's id
    id: String,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

/// One event, a line of JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
enum Event<'a> {
    Stats {
        id: &'a ContainerId,
        data: Box<Stats>,
    },
    Oom {
        id: &'a ContainerId,
    },
}

/// Prints events until the container ends, or once.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let id = ContainerId::parse(&args.id)?;
    let state = context.store.state(&id)?;
    let Some(monitor) = state
        .monitor
        .open()
        .map_err(Error::io("watch", id.as_str()))?
    else {
        return Err(Error::NotRunning { verb: "watch", id });
    };
    let mut kills = None;
    loop {
        let usage = match usage(context, &state) {
            // It ended between two looks at it.
            Err(_) if !state.monitor.is_alive() && kills.is_some() => return Ok(0),
            usage => usage?,
        };
        let now = usage.memory_events.get("oom_kill").copied();
        let now = now.unwrap_or_default();
        if kills.is_some_and(|before| now > before) {
            print(&Event::Oom { id: &id })?;
        }
        kills = Some(now);
        let data = Box::new(Stats::from(&usage));
        print(&Event::Stats { id: &id, data })?;
        if args.stats || wait_readable(std::os::fd::AsFd::as_fd(&monitor), args.interval) {
            return Ok(0);
        }
    }
}

fn usage(context: &Context, state: &State) -> Result<Usage, Error> {
    const VERB: &str = "watch";
    let container = state.id.to_string();
    match super::ask(context, state, VERB, RequestBody::Usage { container })? {
        Response::Usage(usage) => Ok(*usage),
        _ => Err(super::strange_answer(state, VERB)),
    }
}

fn print(event: &Event<'_>) -> Result<u8, Error> {
    let json = serde_json::to_string(event);
    let json = json.map_err(|error| Error::io("encode", "an event")(error.into()))?;
    super::print(&(json + "\n"))
}
