//! What the fuzz targets in `fuzz/` reach of this crate: the readers of bytes
//! that a guest or an image controls, each called as the rest of the crate
//! calls it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bulkhead_protocol::{Json, ProcessId, RequestBody};
use bulkhead_vmm::control::{Event, GuestTsc, Stamp};

use crate::agent::{AgentError, Connection};
use crate::attached::{Attached, Progress, Screen};
use crate::bundle::Bundle;
use crate::clock::Moment;
use crate::guest_spec::GuestSpec;
use crate::id::ContainerId;
use crate::resources::{Host, Resources};
use crate::sandbox::{Control, SandboxDir};
use crate::seccomp;
use crate::stdio::{Local, Streams};
use crate::timeline::Timeline;

/// Reads a VMM's control stream as its bytes come, piece by piece. Returns the
/// events, and whether the VMM counts as one that has hung up.
pub fn control_stream(pieces: &[&[u8]]) -> io::Result<(Vec<Event>, bool)> {
    let (mut vmm, ours) = UnixStream::pair()?;
    let mut control = Control::new(ours)?;
    let mut timeline = Timeline::new(Moment(0));
    let mut events = Vec::new();
    for piece in pieces {
        vmm.write_all(piece)?;
        events.extend(control.receive());
    }
    events.iter().for_each(|event| timeline.note(event));
    timeline.write(Path::new("/dev/null"))?;
    Ok((events, control.is_closed()))
}

/// Follows a container in `directory`, an empty one, whose agent sends
/// `pieces`.
pub fn follow_agent(directory: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    let (mut agent, ours) = UnixStream::pair()?;
    let dir = SandboxDir::open(directory).map_err(io::Error::other)?;
    let mut attached = attach(&dir, ours)?;
    let mut timeline = Timeline::new(Moment(0));
    let at = Stamp {
        monotonic_ns: 1 << 32,
        tsc: 1 << 33,
    };
    let guest_tsc = Some(GuestTsc {
        offset: 1 << 40,
        khz: 2_000_000,
    });
    timeline.note(&Event::KernelEntered { at, guest_tsc });
    for piece in pieces {
        agent.write_all(piece)?;
        // An agent that breaks the protocol is not listened to any more.
        let Ok(news) = read_all(&mut attached, &dir, piece.len()) else {
            break;
        };
        for progress in news {
            match progress {
                Progress::Greeted(hello) => timeline.note_agent(hello.stamps),
                Progress::Started { exec_tsc } => timeline.note_exec(exec_tsc),
                Progress::Created | Progress::Exited(_) | Progress::Refused(_) => {}
            }
        }
    }
    timeline.write(Path::new("/dev/null"))
}

fn attach(dir: &SandboxDir, agent: UnixStream) -> io::Result<Attached> {
    let null = || File::options().read(true).write(true).open("/dev/null");
    let local = Local::Pipes {
        input: null()?,
        output: null()?,
        error: null()?,
    };
    let process = ProcessId {
        container: "box".into(),
        exec: None,
    };
    let streams = Streams::listen(dir, local)?;
    let mut attached = Attached::new(process, Connection::new(agent)?, streams, Screen::None);
    let body = RequestBody::Status {
        container: "box".into(),
    };
    attached
        .create(None, body, true)
        .map_err(io::Error::other)?;
    Ok(attached)
}

/// The connection is read by chunks.
fn read_all(
    attached: &mut Attached,
    dir: &SandboxDir,
    len: usize,
) -> Result<Vec<Progress>, AgentError> {
    let mut news = Vec::new();
    for _ in 0..=len >> 14 {
        news.extend(attached.progress(dir)?);
    }
    Ok(news)
}

/// Rewrites the configuration of the bundle in `directory` for a guest, and
/// compiles its seccomp profile. Returns what the agent is sent, if the
/// configuration is one.
pub fn guest_config(directory: &Path) -> Option<Json> {
    let host = Host {
        memory_mib: 1 << 20,
        cpus: || 4,
    };
    let bundle = Bundle::load(directory).ok()?;
    // What becomes of these does not change what the agent is sent.
    let _ = Resources::of(&bundle.spec, host);
    let linux = bundle.spec.linux().as_ref();
    if let Some(profile) = linux.and_then(|linux| linux.seccomp().as_ref()) {
        let _ = seccomp::compile(profile);
    }
    let id = ContainerId::parse("box").ok()?;
    let guest = GuestSpec::new(&id, &bundle).ok()?;
    for export in &guest.exports {
        let mut name = export.name.components();
        assert_eq!(
            name.next(),
            Some(std::path::Component::Normal("box".as_ref()))
        );
        assert!(matches!(name.next(), Some(std::path::Component::Normal(_))));
        assert_eq!(name.next(), None);
    }
    Json::new(&guest.spec).ok()
}
