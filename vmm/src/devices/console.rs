//! Where the serial console's output goes: a file or stream, line by line, and
//! a memory of its end for error reports.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much of the end is remembered.
const TAIL_MAX: usize = 64 << 10;
/// A longer line is written in pieces.
const LINE_MAX: usize = 512;
/// How much is written to a regular file: a guest must not fill the disk.
const FILE_MAX: u64 = 1 << 20;
/// The last line of a file that would have become longer.
const TRUNCATED: &[u8] = b"\n[further console output is not kept]\n";

/// The console. A clone is another handle on the same one.
#[derive(Clone, Debug)]
pub struct Console(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    sink: Option<Sink>,
    line: Vec<u8>,
    tail: VecDeque<u8>,
}

#[derive(Debug)]
struct Sink {
    file: File,
    /// How many bytes may still be written; nothing if too many came.
    budget: Option<u64>,
}

impl Console {
    /// A console whose output is only remembered.
    pub fn without_sink() -> Self {
        Self::new(None)
    }

    /// A console that writes to a file or stream that is open already.
    pub fn to_file(file: File) -> io::Result<Self> {
        let budget = if file.metadata()?.is_file() {
            FILE_MAX
        } else {
            u64::MAX
        };
        Ok(Self::new(Some(Sink {
            file,
            budget: Some(budget),
        })))
    }

    /// A console that writes to the file at `path`, which is made, or emptied.
    pub fn to_path(path: &Path) -> io::Result<Self> {
        Self::to_file(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?,
        )
    }

    fn new(sink: Option<Sink>) -> Self {
        let (line, tail) = (Vec::with_capacity(LINE_MAX), VecDeque::new());
        Self(Arc::new(Mutex::new(State { sink, line, tail })))
    }

    /// Writes out a line that is not finished yet.
    pub fn finish_line(&self) {
        self.state().write_line();
    }

    /// The end of the output.
    pub fn tail(&self) -> String {
        let mut state = self.state();
        String::from_utf8_lossy(state.tail.make_contiguous()).into_owned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        for &byte in bytes {
            state.push(byte);
        }
        Ok(bytes.len())
    }

    /// Does nothing: the serial port flushes each byte, which is what lines are
    /// collected against.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    fn push(&mut self, byte: u8) {
        if self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(byte);
        self.line.push(byte);
        if byte == b'\n' || self.line.len() == LINE_MAX {
            self.write_line();
        }
    }

    fn write_line(&mut self) {
        if let Some(sink) = &mut self.sink {
            // A console that cannot be written to is no reason to stop a guest.
            if sink.write(&self.line).is_err() {
                self.sink = None;
            }
        }
        self.line.clear();
    }
}

impl Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(budget) = self.budget else {
            return Ok(());
        };
        self.budget = budget.checked_sub(line.len() as u64);
        let text = if self.budget.is_some() {
            line
        } else {
            TRUNCATED
        };
        // Once, without another try: nobody may read the stream, and then it is
        // a kick that gets the vCPU's thread out of here.
        match self.file.write(text) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console_in(directory: &tempfile::TempDir) -> (Console, std::path::PathBuf) {
        let path = directory.path().join("console.log");
        (Console::to_path(&path).unwrap(), path)
    }

    #[test]
    fn output_is_written_by_lines() {
        let directory = tempfile::tempdir().unwrap();
        let (mut console, path) = console_in(&directory);
        console.write_all(b"one\ntwo").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        console.finish_line();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo");
    }

    #[test]
    fn tail_is_the_end_of_the_output() {
        let mut console = Console::without_sink();
        console.write_all(&[b'a'; 100]).unwrap();
        console.write_all(&vec![b'b'; TAIL_MAX - 1]).unwrap();
        let tail = console.tail();
        assert_eq!(tail.len(), TAIL_MAX);
        assert!(tail.starts_with("ab") && tail.ends_with('b'));
    }

    #[test]
    fn tail_survives_bytes_that_are_not_text() {
        let mut console = Console::without_sink();
        console.write_all(b"x\xff\n").unwrap();
        assert_eq!(console.tail(), "x\u{fffd}\n");
    }

    #[test]
    fn regular_file_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let (mut console, path) = console_in(&directory);
        for _ in 0..FILE_MAX / 64 + 10 {
            console.write_all(&[b'x'; 63]).unwrap();
            console.write_all(b"\n").unwrap();
        }
        let written = std::fs::read(&path).unwrap();
        assert!(written.ends_with(TRUNCATED));
        assert_eq!(written.len() as u64, FILE_MAX + TRUNCATED.len() as u64);
    }
}
