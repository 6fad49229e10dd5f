//! Boots a kernel, without containers and all that: `boot KERNEL [INITRAMFS]
//! [--cmdline TEXT] [--vcpus N] [--memory MIB]`, the console on standard output.

use std::io;
use std::os::fd::{AsFd, IntoRawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_vmm::config::{Config, Endpoint};

fn main() -> ExitCode {
    let stdout = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .expect("an open standard output");
    let mut config = Config {
        kernel: PathBuf::new(),
        initramfs: None,
        cmdline: "console=ttyS0 reboot=panic_warm,k panic=-1".into(),
        vcpus: 1,
        memory_mib: 128,
        console: Some(Endpoint::Fd(stdout.into_raw_fd())),
        vsock: None,
        fs: Vec::new(),
        net: Vec::new(),
        rng: true,
        control_fd: None,
    };
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a flag needs a value");
        match argument.as_str() {
            "--cmdline" => config.cmdline = value(),
            "--vcpus" => config.vcpus = value().parse().expect("a number of vCPUs"),
            "--memory" => config.memory_mib = value().parse().expect("a number of MiB"),
            _ => files.push(PathBuf::from(argument)),
        }
    }
    let mut files = files.into_iter();
    config.kernel = files.next().expect("a kernel");
    config.initramfs = files.next();

    match bulkhead_vmm::run(config) {
        Ok(reason) => {
            eprintln!("{reason}");
            ExitCode::from(reason.exit_code())
        }
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}
