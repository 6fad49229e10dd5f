//! The threads that carry streams.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bulkhead_protocol::StreamKind;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::Local;

/// How much is carried at once: the size of a pipe's buffer.
const CHUNK: usize = 64 << 10;

/// Our ends of the streams, each for the first connection that names it.
#[derive(Debug)]
pub(super) struct Ends(Mutex<[Option<End>; 4]>);

/// What one stream reads from and writes to.
#[derive(Debug, Default)]
struct End {
    source: Option<File>,
    sink: Option<File>,
}

impl Ends {
    pub(super) fn new(local: Local) -> Self {
        let mut ends = [const { None }; 4];
        let mut put = |kind: StreamKind, source, sink| {
            ends[kind as usize] = Some(End { source, sink });
        };
        match local {
            Local::Pipes {
                input,
                output,
                error,
            } => {
                put(StreamKind::Stdin, Some(input), None);
                put(StreamKind::Stdout, None, Some(output));
                put(StreamKind::Stderr, None, Some(error));
            }
            Local::Terminal { input, output, .. } => {
                put(StreamKind::Terminal, Some(input), Some(output));
            }
        }
        Self(Mutex::new(ends))
    }

    fn take(&self, kind: StreamKind) -> Option<End> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[kind as usize].take()
    }
}

/// Starts a thread that carries a connection of the agent's. `carrying` is
/// dropped once no more output can come from it.
pub(super) fn spawn(
    connection: UnixStream,
    ends: Arc<Ends>,
    carrying: PipeWriter,
) -> io::Result<()> {
    thread::Builder::new()
        .name("stream".into())
        .spawn(move || {
            // A connection that fails is one that has ended: whoever is at its
            // other end learns the same.
            let _ = serve(connection, &ends, carrying);
        })?;
    Ok(())
}

fn serve(mut connection: UnixStream, ends: &Ends, carrying: PipeWriter) -> io::Result<()> {
    let mut kind = [0];
    connection.read_exact(&mut kind)?;
    let Some(end) = StreamKind::from_byte(kind[0]).and_then(|kind| ends.take(kind)) else {
        return Ok(());
    };
    match (end.source, end.sink) {
        (Some(source), Some(sink)) => {
            let upstream = connection.try_clone()?;
            let input = move || {
                let _ = send_keys(&source, &upstream);
            };
            thread::Builder::new().name("input".into()).spawn(input)?;
            receive(&connection, sink)
        }
        (Some(source), None) => {
            drop(carrying);
            send(source, &connection)
        }
        (None, Some(sink)) => receive(&connection, sink),
        (None, None) => Ok(()),
    }
}

/// Host to guest, until the end of input or until the guest reads no more.
fn send(source: File, connection: &UnixStream) -> io::Result<()> {
    let result = copy(source, connection);
    connection.shutdown(Shutdown::Write)?;
    result
}

/// What is typed at a terminal, to the guest. If it is hung up on, so is the
/// guest's. Input that is no terminal, and comes to its end, is not a hang-up:
/// nothing more is typed.
fn send_keys(source: &File, connection: &UnixStream) -> io::Result<()> {
    let is_terminal = rustix::termios::isatty(source);
    loop {
        let result = copy(source, connection);
        // The end of input is also what a ^D makes, as long as the terminal is
        // not in raw mode yet.
        if result.is_ok() && rustix::termios::isatty(source) {
            continue;
        }
        if is_terminal || result.is_err() {
            connection.shutdown(Shutdown::Both)?;
        }
        return result;
    }
}

/// Guest to host. Should our side not take it, the guest is told by a closed
/// connection, as a process would be by a broken pipe.
fn receive(connection: &UnixStream, sink: File) -> io::Result<()> {
    let result = copy(connection, sink);
    connection.shutdown(Shutdown::Both)?;
    result
}

fn copy(mut source: impl Read + AsFd, mut sink: impl Write + AsFd) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => write_all(&mut sink, &chunk[..n])?,
            Err(error) => recover(error, &source, PollFlags::IN)?,
        }
    }
}

fn write_all(sink: &mut (impl Write + AsFd), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) => recover(error, &*sink, PollFlags::OUT)?,
        }
    }
    Ok(())
}

/// Returns when what failed is to be tried again, if it is.
fn recover(error: io::Error, fd: impl AsFd, readiness: PollFlags) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        // Somebody who shares our side has made it non-blocking.
        io::ErrorKind::WouldBlock => {
            let mut fds = [PollFd::new(&fd, readiness)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        }
        _ => Err(error),
    }
}
