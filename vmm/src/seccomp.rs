//! Which system calls a thread may still make once the guest runs.
//!
//! There is a policy for each kind of thread, in `seccomp/`; the build compiles
//! them. Any other call ends the process (`SIGSYS`; the kernel's log tells which
//! it was): a thread that makes one does what its code does not do.

use seccompiler::apply_filter;

/// The compiled policies.
#[allow(clippy::unreadable_literal)]
mod policy {
    use seccompiler::sock_filter;

    include!(concat!(env!("OUT_DIR"), "/seccomp.rs"));
}

/// A kind of thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that drives the microVM and serves the devices' events.
    EventLoop,
    /// One that runs a vCPU.
    Vcpu,
    /// One that serves the queues of a device.
    Worker,
}

/// The kernel refused the filter.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine a thread by seccomp")]
pub struct SeccompError(#[from] seccompiler::Error);

/// Confines the calling thread, for good.
pub fn confine(role: Role) -> Result<(), SeccompError> {
    Ok(apply_filter(match role {
        Role::EventLoop => policy::EVENT_LOOP,
        Role::Vcpu => policy::VCPU,
        Role::Worker => policy::WORKER,
    })?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    /// A test as a process of its own.
    fn alone(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored"]);
        command
    }

    /// Run by the next test in a process of its own.
    #[test]
    #[ignore = "must have been told how to allocate"]
    fn work_when_confined() {
        for role in [Role::EventLoop, Role::Vcpu, Role::Worker] {
            let (sender, receiver) = channel();
            let worker = thread::spawn(move || {
                confine(role).unwrap();
                let blocks: Vec<Vec<u8>> = (0..64).map(|n| vec![n; 64 << 10]).collect();
                let sum: usize = blocks.iter().map(Vec::len).sum();
                drop(blocks);
                sender.send(sum).unwrap();
            });
            assert_eq!(receiver.recv().unwrap(), 64 * (64 << 10));
            worker.join().unwrap();
        }
    }

    /// What any thread does: memory, channels, locks, and its end.
    #[test]
    fn confined_threads_can_work() {
        let status = alone("seccomp::tests::work_when_confined")
            // As `heap::share_between_threads` has it, which comes too late
            // when the test's own thread exists.
            .env("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    /// Run by the next test in a process of its own, which it ends.
    #[test]
    #[ignore = "ends the process"]
    fn open_a_file_when_confined() {
        confine(Role::Vcpu).unwrap();
        let _ = File::open("/dev/null");
    }

    #[test]
    fn other_calls_end_the_process() {
        let status = alone("seccomp::tests::open_a_file_when_confined")
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(libc::SIGSYS));
    }
}
