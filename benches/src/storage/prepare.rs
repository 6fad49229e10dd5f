//! What the containers work on, made on the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::PROGRAM;
use crate::error::Error;

/// Length of the large files.
pub(super) const FILE_LEN: usize = 8 << 20;

/// The tree of sources: so many directories, with so many files each.
pub(super) const DIRECTORIES: usize = 25;
pub(super) const FILES: usize = 20;

/// C files of the program that is built.
const UNITS: usize = 3;

/// Makes a root file system that lacks its programs, which are mounted at `/usr`.
pub(super) fn root(rootfs: &Path, program: &Path) -> Result<(), Error> {
    for name in ["dev", "etc", "proc", "sys", "tmp", "usr"] {
        let directory = rootfs.join(name);
        fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        let link = rootfs.join(name);
        symlink(format!("usr/{name}"), &link).map_err(Error::io("create", &link))?;
    }
    let copy = rootfs.join(PROGRAM.trim_start_matches('/'));
    fs::copy(program, &copy).map_err(Error::io("write", &copy))?;
    Ok(())
}

/// Fills the directory that is worked in.
pub(super) fn data(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
    for name in ["in-order", "at-random", "rewritten"] {
        write(&directory.join(name), &noise(FILE_LEN))?;
    }
    source_tree(&directory.join("tree"))?;
    program_to_build(&directory.join("build"))
}

fn source_tree(tree: &Path) -> Result<(), Error> {
    for d in 0..DIRECTORIES {
        let directory = tree.join(format!("directory-{d}"));
        fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        for f in 0..FILES {
            // As long as source files are: some KiB.
            write(
                &directory.join(format!("file-{f}")),
                &noise(1024 + f * 2048 / FILES),
            )?;
        }
    }
    Ok(())
}

fn program_to_build(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
    write(&directory.join("main.c"), b"int main(void) { return 0; }\n")?;
    for n in 0..UNITS {
        let unit = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
             int f{n}(void) {{ return printf(\"%d\\n\", {n}) < 0; }}\n"
        );
        write(&directory.join(format!("f{n}.c")), unit.as_bytes())?;
    }
    let makefile =
        "program: $(patsubst %.c,%.o,$(wildcard *.c))\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O1 -c $<\n";
    write(&directory.join("Makefile"), makefile.as_bytes())
}

/// Bytes without zeroes and patterns, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::io("write", path))
}
