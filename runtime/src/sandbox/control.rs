//! Our end of the VMM's control stream.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use bulkhead_vmm::control::Event;

/// Longest line, in bytes: an exit event with 64 KiB of console text, of which
/// each byte may take six in JSON.
const MAX_LINE: usize = 512 << 10;

/// Events as they come.
#[derive(Debug)]
pub(crate) struct Control {
    stream: UnixStream,
    buffer: Vec<u8>,
    closed: bool,
}

impl Control {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            closed: false,
        })
    }

    /// Whether the VMM has hung up.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What the VMM has told since the last call. A VMM that talks nonsense is
    /// treated as one that has hung up.
    pub(crate) fn receive(&mut self) -> Vec<Event> {
        if self.fill().is_err() || self.buffer.len() > MAX_LINE {
            self.closed = true;
        }
        let mut events = Vec::new();
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(event) => events.push(event),
                Err(error) => {
                    log::warn!("the VMM sent an unknown event: {error}");
                    self.closed = true;
                }
            }
        }
        events
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        while self.buffer.len() <= MAX_LINE {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.closed = true;
                    return Ok(());
                }
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bulkhead_vmm::exit::ExitReason;

    use super::*;

    fn control() -> (UnixStream, Control) {
        let (theirs, ours) = UnixStream::pair().unwrap();
        (theirs, Control::new(ours).unwrap())
    }

    #[test]
    fn lines_in_pieces_become_events() {
        let (mut vmm, mut control) = control();
        vmm.write_all(br#"{"event":"kvm-ready","monotonic_ns":5,"tsc":6}"#)
            .unwrap();
        assert_eq!(control.receive(), []);
        vmm.write_all(b"\n{\"event\":\"exit\",\"reason\":\"panic\",\"console_tail\":\"x\"}\n")
            .unwrap();
        drop(vmm);
        let events = control.receive();
        assert_eq!(events.len(), 2);
        assert!(matches!(
            &events[1],
            Event::Exit {
                reason: ExitReason::Panic,
                ..
            }
        ));
        assert!(control.is_closed());
    }

    #[test]
    fn nonsense_is_a_hang_up() {
        let (mut vmm, mut control) = control();
        vmm.write_all(b"hello\n").unwrap();
        assert_eq!(control.receive(), []);
        assert!(control.is_closed());
    }
}
