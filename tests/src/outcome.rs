//! Commands that ran, and commands that run.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; 128 + n if a signal killed it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end, with nothing on its input.
    ///
    /// # Panics
    /// If it cannot be started, or does not end within [`PATIENCE`].
    pub fn of(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        Running::start(command).wait()
    }

    /// Fails the test unless the command ended with this code.
    ///
    /// # Panics
    /// That is what it is for.
    #[must_use]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; {self:#?}");
        self
    }

    /// Fails the test unless standard error holds `text`.
    ///
    /// # Panics
    /// That is what it is for.
    #[must_use]
    pub fn expect_message(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "no {text:?} in the message; {self:#?}"
        );
        self
    }
}

/// A command under way, its output collected as it comes.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    /// Starts a command whose standard input the caller has decided on.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("bulkhead can be started");
        let stdout = collect(child.stdout.take().map(ChildStdout::into));
        let stderr = collect(child.stderr.take().map(ChildStderr::into));
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// Its standard input, if piped; dropping it is end of file.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a pid");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for its end, and for that of its output, which a child of its may hold
    /// for longer.
    ///
    /// # Panics
    /// If either does not come within [`PATIENCE`].
    pub fn wait(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("the command did not end");
            }
            thread::sleep(Duration::from_millis(10));
        };
        let everything = |output: &Receiver<String>| {
            let left = deadline.saturating_duration_since(Instant::now());
            let output = output.recv_timeout(left);
            output.expect("nobody holds the output of a command that ended")
        };
        Outcome {
            code: status
                .code()
                .or(status.signal().map(|n| 128 + n))
                .expect("code or signal"),
            stdout: everything(&self.stdout),
            stderr: everything(&self.stderr),
        }
    }
}

/// Reads to the end in the background, and says then what there was.
fn collect(source: Option<OwnedFd>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(source) = source {
            // What arrived before a failure is what the test wants to see.
            let _ = File::from(source).read_to_end(&mut bytes);
        }
        // Nobody listens any more if the command took too long.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
