//! Standard streams of a process in the guest, relayed to this process's own.
//!
//! The agent dials one connection for each stream. Each is carried by a thread
//! of its own with blocking reads and writes: the descriptors on our side are
//! shared with whoever started us, so their mode is not ours to change.

pub(crate) mod console;
mod relay;
pub(crate) mod terminal;

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use bulkhead_protocol::{Stdio, WindowSize, ports};

use crate::sandbox::SandboxDir;
use crate::signals;
use relay::Ends;

/// This process's side of the streams.
#[derive(Debug)]
pub(crate) enum Local {
    /// Three streams.
    Pipes {
        /// Read from, for the process to read.
        input: File,
        /// Written to.
        output: File,
        /// Written to.
        error: File,
    },
    /// A terminal.
    Terminal {
        /// Read from.
        input: File,
        /// Written to.
        output: File,
        /// Its size at first.
        size: WindowSize,
    },
}

impl Local {
    /// This process's own standard streams. Input and output are the guest's
    /// from here on: who is at their other ends learns that it has closed
    /// them, for nothing else holds them. Standard error takes our messages
    /// too, and so stays open.
    pub(crate) fn inherited() -> io::Result<Self> {
        let streams = Self::Pipes {
            input: duplicate(io::stdin())?,
            output: duplicate(io::stdout())?,
            error: duplicate(io::stderr())?,
        };
        give_up_input_and_output()?;
        signals::refuse_to_stop_for_input()?;
        Ok(streams)
    }
}

/// Parts with standard input and output.
fn give_up_input_and_output() -> io::Result<()> {
    let null = null()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Leaves standard error to the guest as well. For a process whose messages
/// have somewhere else to go.
pub(crate) fn give_up_stderr() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(null()?)?)
}

fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// A second descriptor for the same file.
pub(crate) fn duplicate(fd: impl AsFd) -> io::Result<File> {
    fd.as_fd().try_clone_to_owned().map(File::from)
}

/// Streams that are being relayed, or wait for the agent to dial.
#[derive(Debug)]
pub(crate) struct Streams {
    listener: Option<UnixListener>,
    request: Stdio,
    missing: usize,
    ends: Arc<Ends>,
    /// Held by each thread that carries output, and by us as long as more
    /// may start: once all are gone, [`drained`](Self::drained) is readable.
    carrying: Option<PipeWriter>,
    drained: PipeReader,
}

impl Streams {
    /// Listens for the agent, in the directory of its sandbox.
    pub(crate) fn listen(dir: &SandboxDir, local: Local) -> io::Result<Self> {
        let (listener, port) = listen(dir)?;
        let (drained, carrying) = io::pipe()?;
        let request = request(port, &local);
        Ok(Self {
            listener: Some(listener),
            request,
            missing: request.streams().count(),
            ends: Arc::new(Ends::new(local)),
            carrying: Some(carrying),
            drained,
        })
    }

    /// What to ask the agent for.
    pub(crate) fn request(&self) -> Stdio {
        self.request
    }

    /// Where the agent dials, as long as it has to.
    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Readable once everything the process wrote has been passed on.
    pub(crate) fn drained(&self) -> BorrowedFd<'_> {
        self.drained.as_fd()
    }

    /// Takes a connection of the agent's. After the last the listener goes:
    /// a guest cannot make us start threads without end.
    pub(crate) fn accept(&mut self, dir: &SandboxDir) -> io::Result<()> {
        let (Some(listener), Some(carrying)) = (&self.listener, &self.carrying) else {
            return Ok(());
        };
        let (connection, _) = listener.accept()?;
        relay::spawn(connection, Arc::clone(&self.ends), carrying.try_clone()?)?;
        self.missing = self.missing.saturating_sub(1);
        if self.missing == 0 {
            self.close(dir);
        }
        Ok(())
    }

    /// Takes no further connections.
    pub(crate) fn close(&mut self, dir: &SandboxDir) {
        if self.listener.take().is_some() {
            dir.unlisten(self.request.port);
        }
        self.carrying = None;
    }
}

/// Listens on a port that no other process uses: one has the same pid only in
/// another pid namespace, or after a crash, and then there is a next port.
fn listen(dir: &SandboxDir) -> io::Result<(UnixListener, u32)> {
    const PORTS: u32 = 1 << 30;
    let first = std::process::id() % PORTS;
    for offset in 0..1024 {
        let port = ports::STREAMS_START + (first + offset) % PORTS;
        match dir.listen(port) {
            Ok(listener) => return Ok((listener, port)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn request(port: u32, local: &Local) -> Stdio {
    let (pipes, terminal) = match local {
        Local::Pipes { .. } => (true, None),
        Local::Terminal { size, .. } => (false, Some(*size)),
    };
    Stdio {
        port,
        stdin: pipes,
        stdout: pipes,
        stderr: pipes,
        terminal,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::net::Shutdown;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use bulkhead_protocol::StreamKind;

    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        dir: SandboxDir,
        streams: Streams,
    }

    impl Fixture {
        fn new(local: Local) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let dir = SandboxDir::open(directory.path()).unwrap();
            let streams = Streams::listen(&dir, local).unwrap();
            Self {
                directory,
                dir,
                streams,
            }
        }

        /// Dials as the agent does.
        fn dial(&mut self, kind: u8) -> UnixStream {
            let name = format!("vsock.sock_{}", self.streams.request().port);
            let mut stream = UnixStream::connect(self.directory.path().join(name)).unwrap();
            stream.write_all(&[kind]).unwrap();
            self.streams.accept(&self.dir).unwrap();
            stream
        }

        fn is_drained(&self) -> bool {
            crate::events::wait_readable(self.streams.drained(), Duration::from_secs(10))
        }
    }

    fn pipe() -> (File, File) {
        let (reader, writer) = io::pipe().unwrap();
        (OwnedFd::from(reader).into(), OwnedFd::from(writer).into())
    }

    #[test]
    fn streams_are_carried_and_drained() {
        let (input, mut typed) = pipe();
        let (mut output, error) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let local = Local::Pipes {
            input,
            output: output.try_clone().unwrap(),
            error,
        };
        let mut fixture = Fixture::new(local);
        assert_eq!(fixture.streams.request().streams().count(), 3);

        let mut stdin = fixture.dial(StreamKind::Stdin as u8);
        let mut stdout = fixture.dial(StreamKind::Stdout as u8);
        let stderr = fixture.dial(StreamKind::Stderr as u8);
        assert!(fixture.streams.listener().is_none());
        assert_eq!(
            std::fs::read_dir(fixture.directory.path()).unwrap().count(),
            0
        );

        typed.write_all(b"to the guest").unwrap();
        drop(typed);
        let mut received = String::new();
        stdin.read_to_string(&mut received).unwrap();
        assert_eq!(received, "to the guest");

        stdout.write_all(&vec![7; 300_000]).unwrap();
        drop((stdout, stderr));
        assert!(fixture.is_drained());
        assert_eq!(output.stream_position().unwrap(), 300_000);
    }

    #[test]
    fn streams_that_do_not_block_are_carried_whole() {
        let (input, mut typed) = pipe();
        let (mut shown, output) = pipe();
        let (_told, error) = pipe();
        for fd in [&input, &output] {
            rustix::io::ioctl_fionbio(fd, true).unwrap();
        }
        let mut fixture = Fixture::new(Local::Pipes {
            input,
            output,
            error,
        });
        let mut stdin = fixture.dial(StreamKind::Stdin as u8);
        let mut stdout = fixture.dial(StreamKind::Stdout as u8);
        let writer = std::thread::spawn(move || stdout.write_all(&vec![7; 300_000]));
        // Longer than it takes to find nothing to read, and no room to write.
        std::thread::sleep(Duration::from_millis(50));
        typed.write_all(b"late").unwrap();
        drop(typed);
        let mut received = String::new();
        stdin.read_to_string(&mut received).unwrap();
        assert_eq!(received, "late");
        let mut received = vec![0; 300_000];
        shown.read_exact(&mut received).unwrap();
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn output_that_nobody_takes_is_a_closed_stream() {
        let (input, _typed) = pipe();
        let (reader, output) = pipe();
        let (_reader, error) = pipe();
        drop(reader);
        let mut fixture = Fixture::new(Local::Pipes {
            input,
            output,
            error,
        });
        let mut stdout = fixture.dial(StreamKind::Stdout as u8);
        stdout.write_all(b"x").unwrap();
        assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn terminal_is_one_stream_both_ways() {
        let (input, mut typed) = pipe();
        let (mut shown, output) = pipe();
        let size = WindowSize {
            rows: 24,
            columns: 80,
        };
        let mut fixture = Fixture::new(Local::Terminal {
            input,
            output,
            size,
        });
        let mut stream = fixture.dial(StreamKind::Terminal as u8);
        typed.write_all(b"ls\n").unwrap();
        let mut received = [0; 3];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"ls\n");
        stream.write_all(b"file\r\n").unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        assert!(fixture.is_drained());
        let mut received = [0; 6];
        shown.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"file\r\n");
    }

    #[test]
    fn streams_that_were_not_asked_for_are_dropped() {
        let (input, _typed) = pipe();
        let (_shown, output) = pipe();
        let (_told, error) = pipe();
        let mut fixture = Fixture::new(Local::Pipes {
            input,
            output,
            error,
        });
        for kind in [StreamKind::Terminal as u8, 17] {
            let mut stream = fixture.dial(kind);
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        let _first = fixture.dial(StreamKind::Stdout as u8);
        assert!(fixture.streams.listener().is_none());
    }
}
