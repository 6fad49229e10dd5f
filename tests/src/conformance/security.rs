//! What a container may not do (config-linux.md, "Seccomp", "Masked Paths", …).

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Check;
use super::bench::Bench;

pub(super) const CASES: &[(&str, Check)] = &[
    ("linux_seccomp", seccomp),
    ("linux_seccomp_arguments", seccomp_arguments),
    ("linux_seccomp_default_action", seccomp_default_action),
    ("linux_seccomp_kill", seccomp_kill),
    ("linux_seccomp_invalid", seccomp_invalid),
    ("linux_masked_paths", masked_paths),
    ("linux_readonly_paths", readonly_paths),
    ("linux_mount_label", mount_label),
    ("linux_intel_rdt", intel_rdt),
];

/// A profile that lets everything pass but what the rules are about.
fn profile(rules: &Value) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    })
}

fn seccomp(bench: &Bench) -> Result<()> {
    let script = "sed -n 's/^Seccomp:\\t//p' /proc/self/status
        mkdir /made 2>&1 | grep -o 'Function not implemented'
        rmdir /tmp 2>&1 | grep -o 'Operation not permitted'; touch /file && echo fine";
    let container = bench.container().script(script);
    let rules = json!([
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        { "names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO" },
    ]);
    container
        .set("/linux/seccomp", profile(&rules))
        .prints("2\nFunction not implemented\nOperation not permitted\nfine")
}

fn seccomp_arguments(bench: &Bench) -> Result<()> {
    let script = "touch /file; chmod 755 /file && echo fine
        chmod 4755 /file 2>/dev/null || echo refused; stat -c %a /file";
    let mask = |index| json!({ "index": index, "value": 0o4000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ" });
    let rule =
        |name, index| json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "args": [mask(index)] });
    let rules = json!([rule("chmod", 1), rule("fchmodat", 2)]);
    let container = bench.container().script(script);
    container
        .set("/linux/seccomp", profile(&rules))
        .prints("fine\nrefused\n755")
}

/// What a shell and the runtimes themselves need.
const ALLOWED: &str = "
    access arch_prctl brk capget capset chdir clone close close_range dup dup2
    epoll_create1 epoll_ctl epoll_pwait execve exit exit_group faccessat faccessat2 fchdir
    fcntl fork fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getpgrp getpid
    getppid getrandom gettid getuid ioctl lseek mmap mprotect mremap munmap nanosleep
    newfstatat open openat openat2 pipe pipe2 prctl pread64 prlimit64 read readlink
    readlinkat readv rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity
    sched_yield set_robust_list set_tid_address setgid setgroups setresgid setresuid
    setuid sigaltstack stat statx tgkill uname vfork wait4 write writev";

/// What is not allowed is refused, with the default's own number.
fn seccomp_default_action(bench: &Bench) -> Result<()> {
    let script = "hostname other 2>&1 | grep -o 'Function not implemented'";
    let allowed: Vec<_> = ALLOWED.split_whitespace().collect();
    let container = bench.container().script(script).set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": allowed, "action": "SCMP_ACT_ALLOW" }],
        }),
    );
    container.prints("Function not implemented")
}

fn seccomp_kill(bench: &Bench) -> Result<()> {
    let script = "mkdir /made; echo $?; test -e /made || echo never";
    let container = bench.container().script(&format!("({script}) 2>/dev/null"));
    let rules = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }]);
    // 128 and the number of SIGSYS.
    container
        .set("/linux/seccomp", profile(&rules))
        .prints("159\nnever")
}

fn seccomp_invalid(bench: &Bench) -> Result<()> {
    let action = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NONSENSE" }]);
    let container = bench.container().set("/linux/seccomp", profile(&action));
    container.is_refused("an unknown action")?;
    let mut architecture = profile(&json!([]));
    architecture["architectures"] = json!(["SCMP_ARCH_NONSENSE"]);
    let container = bench.container().set("/linux/seccomp", architecture);
    container.is_refused("an unknown architecture")
}

fn masked_paths(bench: &Bench) -> Result<()> {
    let script = "cat /secret/file; ls /secret/directory
        test -e /secret/nowhere || echo nowhere; cat /secret/visible
        exec 2>/dev/null; touch /secret/directory/new || echo refused";
    let container = bench.container().script(script);
    fs::create_dir_all(container.file("/secret/directory"))?;
    for file in ["file", "directory/file", "visible"] {
        fs::write(container.file("/secret").join(file), "content\n")?;
    }
    let paths = ["/secret/file", "/secret/directory", "/secret/nowhere"];
    container
        .set("/linux/maskedPaths", json!(paths))
        .prints("nowhere\ncontent\nrefused")
}

fn readonly_paths(bench: &Bench) -> Result<()> {
    let script = "exec 2>/dev/null
        for file in file directory/file directory/deep/file; do
            cat /fixed/$file; echo changed >/fixed/$file || echo refused; done
        echo 1 >/proc/sys/kernel/msgmax || echo refused; touch /fixed/new && echo writable";
    let container = bench.container().script(&format!("({script}) 2>/dev/null"));
    fs::create_dir_all(container.file("/fixed/directory/deep"))?;
    for file in ["file", "directory/file", "directory/deep/file"] {
        fs::write(container.file("/fixed").join(file), "content\n")?;
    }
    let paths = [
        "/fixed/file",
        "/fixed/directory",
        "/fixed/nowhere",
        "/proc/sys",
    ];
    let container = container.set("/linux/readonlyPaths", json!(paths));
    container.prints(&format!(
        "{}refused\nwritable",
        "content\nrefused\n".repeat(3)
    ))?;
    let kept = fs::read_to_string(container.file("/fixed/directory/deep/file"))?;
    ensure!(kept == "content\n", "the host has {kept:?}");
    Ok(())
}

fn mount_label(bench: &Bench) -> Result<()> {
    let container = bench.container();
    let label = json!("system_u:object_r:no_such_t:s0");
    container
        .set("/linux/mountLabel", label)
        .is_refused("a label that the kernel does not have")
}

fn intel_rdt(bench: &Bench) -> Result<()> {
    let container = bench.container();
    container
        .set("/linux/intelRdt", json!({ "l3CacheSchema": "L3:0=f" }))
        .is_refused("a resource that the host does not have")
}
