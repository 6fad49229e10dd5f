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

    use proptest::prelude::*;
    use seccompiler::{TargetArch, compile_from_json, sock_filter};

    use super::*;

    const ARCH_X86_64: u32 = 0xc000_003e;

    /// Runs a filter on `struct seccomp_data`, as words.
    fn verdict(program: &[sock_filter], data: &[u32; 16]) -> u32 {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let branch = |taken: bool| usize::from(if taken { jt } else { jf });
            at += 1 + match code {
                0x05 => k as usize,
                0x06 => return k,
                0x15 => branch(accumulator == k),
                0x35 => branch(accumulator >= k),
                0x20 => {
                    accumulator = data[k as usize / 4];
                    0
                }
                0x54 => {
                    accumulator &= k;
                    0
                }
                other => panic!("instruction {other:#x}"),
            };
        }
    }

    fn policies() -> [(&'static [sock_filter], Vec<sock_filter>); 2] {
        let compile = |name, json: &str| {
            compile_from_json(json.as_bytes(), TargetArch::x86_64)
                .unwrap()
                .remove(name)
                .unwrap()
        };
        let event_loop = include_str!("../seccomp/event-loop.json");
        let vcpu = include_str!("../seccomp/vcpu.json");
        [
            (policy::EVENT_LOOP, compile("event-loop", event_loop)),
            (policy::VCPU, compile("vcpu", vcpu)),
        ]
    }

    proptest! {
        #[test]
        fn index_changes_no_verdict(
            mut data in proptest::array::uniform16(any::<u32>()),
            foreign in proptest::bool::weighted(0.05),
            which in any::<proptest::sample::Index>(),
        ) {
            for (indexed, plain) in policies() {
                if !foreign {
                    data[1] = ARCH_X86_64;
                }
                // Arguments that the policy asks for, as well as others.
                for argument in [6, 8] {
                    let constant = plain[which.index(plain.len())].k;
                    data[argument] = if data[argument] % 2 == 0 { constant } else { data[argument] };
                }
                for number in (0..600).chain([u32::MAX, 1 << 30]) {
                    data[0] = number;
                    prop_assert_eq!(verdict(indexed, &data), verdict(&plain, &data));
                }
            }
        }
    }

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
        for role in [Role::EventLoop, Role::Vcpu] {
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
