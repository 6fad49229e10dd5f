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

    /// What any thread does: memory, channels, locks, and its end.
    #[test]
    fn confined_threads_can_work() {
        for role in [Role::EventLoop, Role::Vcpu] {
            let (sender, receiver) = channel();
            let worker = thread::spawn(move || {
                confine(role).unwrap();
                let blocks: Vec<Vec<u8>> = (0..64).map(|n| vec![n; 64 << 10]).collect();
                sender.send(blocks.concat().len()).unwrap();
            });
            assert_eq!(receiver.recv().unwrap(), 64 * (64 << 10));
            worker.join().unwrap();
        }
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
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "seccomp::tests::open_a_file_when_confined",
                "--ignored",
            ])
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(libc::SIGSYS));
    }
}
