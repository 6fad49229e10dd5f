//! Compiles the seccomp policies to the instructions that the kernel takes.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::{env, error};

use seccompiler::{BpfProgram, TargetArch, compile_from_json, sock_filter};

/// The policies: a file in `seccomp/`, with one policy of the same name in it,
/// and the constant it becomes.
const POLICIES: [(&str, &str); 2] = [("event-loop", "EVENT_LOOP"), ("vcpu", "VCPU")];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=seccomp");
    let mut code = String::new();
    for (name, constant) in POLICIES {
        let path = Path::new("seccomp").join(name).with_extension("json");
        let programs = compile_from_json(File::open(&path)?, TargetArch::x86_64)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let program = programs
            .get(name)
            .ok_or_else(|| format!("no policy {name}"))?;
        write_constant(&mut code, constant, &with_index(program))?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("seccomp.rs"), code)?;
    Ok(())
}

/// Puts an index before a compiled policy.
///
/// seccompiler compares the number of a call with one after the other. That is
/// quick enough for a call, but when a filter is installed, the kernel runs it
/// for each number there is. The index is a binary tree whose leaves jump to
/// where the compiled policy treats a number, or to its default action.
fn with_index(program: &[sock_filter]) -> BpfProgram {
    let (head, body) = program.split_at(HEAD_LEN);
    let calls: Vec<(u32, usize)> = (0..body.len())
        .filter(|&at| body[at].code == JUMP_IF_EQUAL && (at == 0 || body[at - 1].code == RETURN))
        .map(|at| (body[at].k, at))
        .collect();
    let mut index = Vec::new();
    append_tree(&mut index, &calls, tree_len(calls.len()), body.len() - 1);
    [head, &index, body].concat()
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

/// Length of a tree: a comparison for each node, three instructions for each
/// leaf.
fn tree_len(leaves: usize) -> usize {
    leaves - 1 + 3 * leaves
}

/// Appends the tree of `calls`, which are sorted. Where the calls are treated,
/// and the default action is, counts from `body`.
fn append_tree(index: &mut BpfProgram, calls: &[(u32, usize)], body: usize, default: usize) {
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    if let &[(number, at)] = calls {
        index.push(instruction(JUMP_IF_EQUAL, 0, 1, number));
        for target in [at, default] {
            let distance = body + target - (index.len() + 1);
            index.push(instruction(JUMP, 0, 0, distance as u32));
        }
        return;
    }
    let (lower, upper) = calls.split_at(calls.len() / 2);
    let skipped = u8::try_from(tree_len(lower.len())).expect("few enough calls for short jumps");
    index.push(instruction(
        JUMP_IF_GREATER_OR_EQUAL,
        skipped,
        0,
        upper[0].0,
    ));
    append_tree(index, lower, body, default);
    append_tree(index, upper, body, default);
}

fn write_constant(
    code: &mut String,
    name: &str,
    program: &BpfProgram,
) -> Result<(), std::fmt::Error> {
    writeln!(code, "pub(super) const {name}: &[sock_filter] = &[")?;
    for instruction in program {
        let sock_filter {
            code: op,
            jt,
            jf,
            k,
        } = instruction;
        writeln!(
            code,
            "    sock_filter {{ code: {op}, jt: {jt}, jf: {jf}, k: {k} }},"
        )?;
    }
    writeln!(code, "];")
}
