//! Finding and executing the command.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FileType, Mode, OFlags, Uid, access, fstat, open, stat};
use rustix::io::Errno;

use super::error::{Result, SetupError};

/// A command that was found, ready to be executed.
pub(super) struct Command {
    name: String,
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Command {
    /// Looks for the command as the user that will execute it, with the `PATH`
    /// of its environment.
    pub(super) fn find(args: &[String], env: &[String], uid: Uid) -> Result<Self> {
        let mut env = last_of_each_name(env);
        let name = &args[0];
        let path = if name.contains('/') {
            let path = PathBuf::from(name);
            match executable(&path) {
                Ok(()) => path,
                Err(error) => return Err(not_executable(name, error)),
            }
        } else {
            search(name, variable(&env, "PATH").unwrap_or_default())?
        };
        if variable(&env, "HOME").is_none() {
            env.push(format!("HOME={}", home_of(uid)));
        }
        Ok(Self {
            name: name.clone(),
            path: c_string(path.as_os_str()),
            args: args.iter().map(|arg| c_string(OsStr::new(arg))).collect(),
            env: env
                .iter()
                .map(|variable| c_string(OsStr::new(variable)))
                .collect(),
        })
    }

    /// Executes it; returns only if that fails.
    pub(super) fn execute(self) -> SetupError {
        let result: nix::Result<Infallible> =
            nix::unistd::execve(&self.path, &self.args, &self.env);
        let Err(error) = result;
        let command = self.name;
        let source = io::Error::from(error);
        match error {
            nix::Error::ENOENT if stat(&self.path).is_ok() => {
                SetupError::InterpreterMissing { command, source }
            }
            nix::Error::ENOENT => SetupError::NotFound { command, source },
            _ => SetupError::NotExecutable { command, source },
        }
    }
}

fn not_executable(name: &str, errno: Errno) -> SetupError {
    let command = name.to_owned();
    let source = errno.into();
    match errno {
        Errno::NOENT => SetupError::NotFound { command, source },
        _ => SetupError::NotExecutable { command, source },
    }
}

/// As a shell searches, except that a relative directory finds nothing: what
/// is executed must not depend on the working directory.
fn search(name: &str, path: &str) -> Result<PathBuf> {
    let command = || name.to_owned();
    let mut denied = None;
    for directory in path
        .split(':')
        .map(Path::new)
        .filter(|path| path.is_absolute())
    {
        let candidate = directory.join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => denied = Some(Errno::ACCESS),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some(errno) => not_executable(name, errno),
        None => SetupError::NotInPath { command: command() },
    })
}

fn executable(path: &Path) -> rustix::io::Result<()> {
    let stat = stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    // For root, `access` asks only whether anybody may execute it; so does the
    // kernel later.
    access(path, Access::EXEC_OK)
}

/// Which of two variables of the same name counts differs between programs.
fn last_of_each_name(env: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut last: Vec<_> = env
        .iter()
        .rev()
        .filter(|variable| seen.insert(name(variable)))
        .cloned()
        .collect();
    last.reverse();
    last
}

fn variable<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter()
        .find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
}

/// Longest `/etc/passwd` that is looked into.
const MAX_PASSWD: u64 = 1 << 20;

fn home_of(uid: Uid) -> String {
    let home = read_passwd().ok().and_then(|passwd| home_in(&passwd, uid));
    home.unwrap_or_else(|| "/".into())
}

/// The file is the image's: it may be anything, for example a pipe that nobody
/// writes to.
fn read_passwd() -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open("/etc/passwd", flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = Vec::new();
    File::from(file).take(MAX_PASSWD).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Lines are `name:password:uid:gid:comment:home:shell`.
fn home_in(passwd: &str, uid: Uid) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let this_uid: u32 = fields.next()?.parse().ok()?;
        let home = fields.nth(2)?;
        (this_uid == uid.as_raw() && home.starts_with('/') && !home.contains('\0'))
            .then(|| home.to_owned())
    })
}

/// Strings with a NUL were refused with the plan; what is found in the image
/// is cut at one.
fn c_string(text: &OsStr) -> CString {
    let bytes = text
        .as_bytes()
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(strings: &[&str]) -> Vec<String> {
        strings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn last_variable_of_a_name_counts() {
        assert_eq!(
            last_of_each_name(&strings(&["A=1", "B=2", "A=3", "AA=4"])),
            strings(&["B=2", "A=3", "AA=4"])
        );
    }

    #[test]
    fn home_is_found_by_uid() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nme:x:7:7::/home/me:/bin/sh\n";
        assert_eq!(
            home_in(passwd, Uid::from_raw(7)).as_deref(),
            Some("/home/me")
        );
        assert_eq!(home_in(passwd, Uid::from_raw(8)), None);
    }

    #[test]
    fn commands_are_searched_in_path_only() {
        let env = strings(&["PATH=relative::/nowhere:/bin:/usr/bin", "HOME=/"]);
        let found = Command::find(&strings(&["sh", "-c"]), &env, Uid::ROOT).unwrap();
        assert!(found.path.to_bytes().ends_with(b"/bin/sh"));
        for (args, env) in [
            (strings(&["no-such-command"]), env.clone()),
            (strings(&["sh"]), strings(&["HOME=/"])),
        ] {
            let error = Command::find(&args, &env, Uid::ROOT).err().unwrap();
            assert!(matches!(error, SetupError::NotInPath { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_apart() {
        let find = |name| {
            Command::find(&strings(&[name]), &[], Uid::ROOT)
                .err()
                .unwrap()
        };
        assert_eq!(find("/no/such/file").exit_code(), 127);
        assert_eq!(find("/etc").exit_code(), 126);
        assert_eq!(find("/etc/passwd").exit_code(), 126);
        assert_eq!(find("/etc/passwd/x").exit_code(), 126);
    }
}
