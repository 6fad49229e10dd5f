//! Compiles seccomp policies to the instructions that the kernel takes.
//!
//! For build scripts: what is installed when a process starts is then constant data.
//! Policies are seccompiler's, in JSON.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use seccompiler::{BpfProgram, TargetArch, compile_from_json, sock_filter};

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policies cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// seccompiler refuses them.
    #[error("cannot compile {}", path.display())]
    Compile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: seccompiler::Error,
    },
    /// The one that was asked for is not among them.
    #[error("there is no policy {name} in {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The policy.
        name: String,
    },
}

/// Compiles the policy `name` of the file at `path`.
pub fn compile(path: &Path, name: &str) -> Result<BpfProgram, Error> {
    let path = || path.to_owned();
    let file = File::open(path()).map_err(|source| Error::Read {
        path: path(),
        source,
    })?;
    let programs =
        compile_from_json(file, TargetArch::x86_64).map_err(|source| Error::Compile {
            path: path(),
            source,
        })?;
    let program = programs.get(name).ok_or_else(|| Error::Missing {
        path: path(),
        name: name.into(),
    })?;
    Ok(with_tree(program))
}

/// A constant of that name, in Rust.
pub fn constant(name: &str, program: &[sock_filter]) -> String {
    let mut code = format!("pub(super) const {name}: &[sock_filter] = &[\n");
    for &sock_filter {
        code: op,
        jt,
        jf,
        k,
    } in program
    {
        writeln!(
            code,
            "    sock_filter {{ code: {op}, jt: {jt}, jf: {jf}, k: {k} }},"
        )
        .expect("a string takes all that is written");
    }
    code.push_str("];\n");
    code
}

/// Makes a search tree of a compiled policy.
///
/// seccompiler compares the number of a call with one after the other, and has five
/// instructions for each. That is quick enough for a call, but when a filter is
/// installed, the kernel runs it for each number there is, and compiles it twice.
/// The tree's leaves are verdicts, or lead to where the policy looks at arguments.
fn with_tree(program: &[sock_filter]) -> BpfProgram {
    let (head, body) = program.split_at(HEAD_LEN);
    let (default, body) = body.split_last().expect("a policy ends in a verdict");
    let mut blocks = BpfProgram::new();
    let mut ranges = vec![(0, Action::Return(default.k))];
    for block in body.chunk_by(|last, next| !(last.code == RETURN && next.code == JUMP_IF_EQUAL)) {
        let number = block[0].k;
        let action = if let [_, _, _, verdict, _] = block {
            Action::Return(verdict.k)
        } else {
            blocks.extend_from_slice(block);
            Action::Jump(blocks.len() - block.len())
        };
        ranges.extend([(number, action), (number + 1, Action::Return(default.k))]);
    }
    // Where blocks lead if it is another number, which it never is here.
    blocks.push(default.clone());
    // Of two ranges that start at the same number, the first is empty.
    ranges.reverse();
    ranges.dedup_by_key(|(start, _)| *start);
    ranges.reverse();
    ranges.dedup_by_key(|(_, action)| *action);
    let mut tree = BpfProgram::new();
    append_tree(&mut tree, &ranges, tree_len(ranges.len()));
    [head, &tree, &blocks].concat()
}

/// What becomes of a range of call numbers.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    /// This verdict.
    Return(u32),
    /// What the instructions at this place, behind the tree, say.
    Jump(usize),
}

/// Instructions before the first comparison: the check of the architecture,
/// and the loading of the call's number.
const HEAD_LEN: usize = 4;

/// `BPF_JMP | BPF_JEQ | BPF_K`
const JUMP_IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`
const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
/// `BPF_JMP | BPF_JA`
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// Length of a tree: an instruction for each leaf, one for each node above.
fn tree_len(leaves: usize) -> usize {
    2 * leaves - 1
}

/// Appends the tree of `ranges`, each given by its start. What they jump to is at
/// `blocks`.
fn append_tree(tree: &mut BpfProgram, ranges: &[(u32, Action)], blocks: usize) {
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    if let &[(_, action)] = ranges {
        let distance = |target| (blocks + target - (tree.len() + 1)) as u32;
        tree.push(match action {
            Action::Return(verdict) => instruction(RETURN, 0, 0, verdict),
            Action::Jump(target) => instruction(JUMP, 0, 0, distance(target)),
        });
        return;
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let skipped = u8::try_from(tree_len(lower.len())).expect("few enough calls for short jumps");
    tree.push(instruction(
        JUMP_IF_GREATER_OR_EQUAL,
        skipped,
        0,
        upper[0].0,
    ));
    append_tree(tree, lower, blocks);
    append_tree(tree, upper, blocks);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// Each policy there is, as a tree and as seccompiler has it.
    fn policies() -> [(BpfProgram, BpfProgram); 3] {
        [
            ("vmm/seccomp/event-loop.json", "event-loop"),
            ("vmm/seccomp/vcpu.json", "vcpu"),
            ("fsd/seccomp/fsd.json", "server"),
        ]
        .map(|(file, name)| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
            let plain = compile_from_json(File::open(&path).unwrap(), TargetArch::x86_64);
            let plain = plain.unwrap().remove(name).unwrap();
            (compile(&path, name).unwrap(), plain)
        })
    }

    proptest! {
        #[test]
        fn tree_changes_no_verdict(
            mut data in proptest::array::uniform16(any::<u32>()),
            foreign in proptest::bool::weighted(0.05),
            which in any::<proptest::sample::Index>(),
        ) {
            for (tree, plain) in policies() {
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
                    prop_assert_eq!(verdict(&tree, &data), verdict(&plain, &data));
                }
            }
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = compile(Path::new("/no/such/file"), "x").unwrap_err();
        assert_eq!(error.to_string(), "cannot read /no/such/file");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vmm/seccomp/vcpu.json");
        assert!(matches!(compile(&path, "x"), Err(Error::Missing { .. })));
    }

    #[test]
    fn trees_are_short() {
        for (tree, plain) in policies() {
            assert!(
                tree.len() < plain.len() * 9 / 10,
                "{} of {}",
                tree.len(),
                plain.len()
            );
        }
    }

    #[test]
    fn constant_holds_each_instruction() {
        let [(program, _), ..] = policies();
        let code = constant("X", &program);
        assert!(code.starts_with("pub(super) const X: &[sock_filter] = &["));
        assert_eq!(code.matches("sock_filter {").count(), program.len());
    }
}
