//! The end-to-end tests' program in the guest: what busybox cannot do.
//!
//! As `/init` of an initramfs it behaves as the file `/behaviour` says;
//! elsewhere its first argument names what to do.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use bulkhead_protocol::{
    ExitStatus, Hello, Reply, Request, RequestBody, Response, Stamps, VERSION, frame, ports,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

fn main() -> ExitCode {
    if std::process::id() == 1 && std::path::Path::new("/behaviour").exists() {
        return misbehave(&std::fs::read_to_string("/behaviour").unwrap_or_default());
    }
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("crash-pid-1") => crash_pid_1(),
        Some("write") => write_pattern(arguments.get(2).and_then(|n| n.parse().ok()).unwrap_or(0)),
        Some("map") => write_by_mapping(arguments.get(2).map_or("", String::as_str)),
        Some("files") => report_on_files(arguments.get(2).map_or("", String::as_str)),
        _ => {
            eprintln!("usage: probe crash-pid-1 | write BYTES | map FILE | files DIRECTORY");
            ExitCode::FAILURE
        }
    }
}

/// What the file system does.
fn report_on_files(directory: &str) -> ExitCode {
    print!(
        "{}",
        bulkhead_tests::file_operations::report(directory.as_ref())
    );
    ExitCode::SUCCESS
}

/// What an agent should never do.
fn misbehave(behaviour: &str) -> ExitCode {
    println!("about to {behaviour}");
    match behaviour {
        // The end of PID 1 is a kernel panic.
        "exit" => ExitCode::FAILURE,
        "chatter" => hostile_agent(|_| Some(Response::Done)),
        "end early" => hostile_agent(|request| match request {
            RequestBody::Wait { .. } => Some(Response::Exited(ExitStatus::Code(0))),
            _ => None,
        }),
        _ => loop {
            std::thread::park();
        },
    }
}

/// In the agent's place: what a request is answered with is up to `answer`,
/// and is then said again and again, whoever wants to hear it.
fn hostile_agent(answer: fn(RequestBody) -> Option<Response>) -> ExitCode {
    let mut host = dial_owner().expect("the host listens");
    let stamps = Stamps {
        started_tsc: 0,
        ready_tsc: 0,
    };
    let hello = Hello {
        version: VERSION,
        kernel_release: "hostile".into(),
        stamps,
    };
    frame::write(&mut host, &hello).expect("the host reads");
    loop {
        let Ok(Some(Request { id, body })) = frame::read(&mut host) else {
            return ExitCode::FAILURE;
        };
        if let Some(response) = answer(body) {
            // An id that nobody knows.
            let id = if response == Response::Done { 99 } else { id };
            let result = Ok(response);
            while frame::write(
                &mut host,
                &Reply {
                    id,
                    result: result.clone(),
                },
            )
            .is_ok()
            {}
        }
    }
}

fn dial_owner() -> io::Result<File> {
    let socket = socket(
        AddressFamily::Vsock,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )?;
    let address = VsockAddr::new(libc::VMADDR_CID_HOST, ports::SANDBOX_OWNER);
    connect(socket.as_raw_fd(), &address)?;
    Ok(socket.into())
}

/// Makes the guest's PID 1, the agent, jump to address zero: killed by its own
/// fault, the one signal that PID 1 cannot ignore. Needs the guest's pid
/// namespace and `CAP_SYS_PTRACE`.
#[allow(unsafe_code)]
fn crash_pid_1() -> ExitCode {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: ptrace is given its documented arguments; PTRACE_POKEUSER writes
    // to the tracee, not to this process.
    let result = unsafe {
        if libc::ptrace(libc::PTRACE_ATTACH, 1, none, none) == -1
            || libc::waitpid(1, std::ptr::null_mut(), libc::__WALL) == -1
        {
            -1
        } else {
            let rip = std::mem::offset_of!(libc::user_regs_struct, rip);
            libc::ptrace(libc::PTRACE_POKEUSER, 1, rip as *mut libc::c_void, none);
            libc::ptrace(libc::PTRACE_DETACH, 1, none, none)
        }
    };
    if result == -1 {
        eprintln!("cannot trace PID 1: {}", io::Error::last_os_error());
        return ExitCode::FAILURE;
    }
    loop {
        std::thread::park();
    }
}

/// Writes `count` bytes whose value is their offset modulo 251.
fn write_pattern(count: usize) -> ExitCode {
    let bytes: Vec<u8> = (0..count).map(|offset| (offset % 251) as u8).collect();
    match io::stdout()
        .write_all(&bytes)
        .and_then(|()| io::stdout().flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes `mapped` to a file by a shared mapping, and ends without syncing or
/// unmapping.
#[allow(unsafe_code)]
fn write_by_mapping(path: &str) -> ExitCode {
    const TEXT: &[u8] = b"mapped";
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    let file = file.expect("a file that can be written");
    file.set_len(TEXT.len() as u64)
        .expect("a file that can grow");
    // SAFETY: a new mapping that nothing else in this process knows of, and
    // the file is as long as what is written.
    let mapping = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            TEXT.len(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if mapping == libc::MAP_FAILED {
        eprintln!("cannot map {path}: {}", io::Error::last_os_error());
        return ExitCode::FAILURE;
    }
    // SAFETY: the mapping is that long, and stays until the process ends.
    unsafe { std::ptr::copy_nonoverlapping(TEXT.as_ptr(), mapping.cast(), TEXT.len()) };
    ExitCode::SUCCESS
}
