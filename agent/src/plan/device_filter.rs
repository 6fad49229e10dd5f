//! Device rules as a program for the kernel's BPF machine.
//!
//! The unified hierarchy has no list of devices: a program attached to the
//! cgroup (`BPF_PROG_TYPE_CGROUP_DEVICE`) is asked at each `open` and `mknod`
//! of a device, and answers 1 (allow) or 0. Its argument is
//! `struct bpf_cgroup_dev_ctx`: 32 bits of access (upper half) and type (lower
//! half), then major and minor number.
//!
//! The rules mean what the old device controller made of the same list: each
//! one adds or takes away rights, so for each right asked for, the last rule
//! that mentions it decides. The program therefore walks the list backwards
//! with a register of rights not yet decided.

/// `BPF_DEVCG_ACC_MKNOD`.
pub(super) const MKNOD: u8 = 1;
/// `BPF_DEVCG_ACC_READ`.
pub(super) const READ: u8 = 2;
/// `BPF_DEVCG_ACC_WRITE`.
pub(super) const WRITE: u8 = 4;
/// All rights.
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// `BPF_DEVCG_DEV_BLOCK`.
pub(super) const BLOCK: u8 = 1;
/// `BPF_DEVCG_DEV_CHAR`.
pub(super) const CHAR: u8 = 2;

/// One rule; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) kind: Option<u8>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u8,
}

/// Instruction codes: class, operation, and where the operand is
/// (`include/uapi/linux/bpf_common.h` and `bpf.h`).
mod code {
    /// Load 32 bits: `BPF_LDX | BPF_MEM | BPF_W`.
    pub(super) const LOAD32: u8 = 0x61;
    /// `BPF_ALU | BPF_AND | BPF_K`, on 32 bits.
    pub(super) const AND: u8 = 0x54;
    /// `BPF_ALU | BPF_RSH | BPF_K`.
    pub(super) const SHIFT_RIGHT: u8 = 0x74;
    /// `BPF_ALU64 | BPF_MOV | BPF_K`.
    pub(super) const MOVE: u8 = 0xb7;
    /// `BPF_ALU | BPF_MOV | BPF_X`.
    pub(super) const COPY: u8 = 0xbc;
    /// `BPF_JMP32 | BPF_JNE | BPF_K`.
    pub(super) const JUMP_UNLESS_EQUAL: u8 = 0x56;
    /// `BPF_JMP32 | BPF_JEQ | BPF_K`.
    pub(super) const JUMP_IF_EQUAL: u8 = 0x16;
    /// `BPF_JMP | BPF_EXIT`.
    pub(super) const EXIT: u8 = 0x95;
}

/// Return value.
const R0: u8 = 0;
/// The context, at entry.
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
/// Rights not yet decided.
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Scratch.
const RIGHTS: u8 = 6;

/// Translates rules; devices that no rule mentions are denied.
pub(super) fn program(rules: &[Rule]) -> Vec<u64> {
    let mut program = vec![
        instruction(code::LOAD32, TYPE, CONTEXT, 0, 0),
        instruction(code::COPY, UNDECIDED, TYPE, 0, 0),
        instruction(code::AND, TYPE, 0, 0, 0xffff),
        instruction(code::SHIFT_RIGHT, UNDECIDED, 0, 0, 16),
        instruction(code::LOAD32, MAJOR, CONTEXT, 4, 0),
        instruction(code::LOAD32, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        append(&mut program, rule);
    }
    program.extend(answer(false));
    program
}

fn append(program: &mut Vec<u64>, rule: &Rule) {
    let conditions = [
        (TYPE, rule.kind.map(u32::from)),
        (MAJOR, rule.major),
        (MINOR, rule.minor),
    ];
    let conditions: Vec<_> = conditions
        .into_iter()
        .filter_map(|(register, wanted)| Some((register, wanted?)))
        .collect();
    let effect = effect(rule);
    for (n, (register, wanted)) in conditions.iter().enumerate() {
        let to_next_rule = conditions.len() - n - 1 + effect.len();
        let code = code::JUMP_UNLESS_EQUAL;
        program.push(instruction(
            code,
            *register,
            0,
            to_next_rule as i16,
            *wanted,
        ));
    }
    program.extend(effect);
}

fn effect(rule: &Rule) -> Vec<u64> {
    if rule.allow {
        let [set, exit] = answer(true);
        vec![
            instruction(code::AND, UNDECIDED, 0, 0, u32::from(!rule.access & ALL)),
            instruction(code::JUMP_UNLESS_EQUAL, UNDECIDED, 0, 2, 0),
            set,
            exit,
        ]
    } else {
        let [set, exit] = answer(false);
        vec![
            instruction(code::COPY, RIGHTS, UNDECIDED, 0, 0),
            instruction(code::AND, RIGHTS, 0, 0, u32::from(rule.access)),
            instruction(code::JUMP_IF_EQUAL, RIGHTS, 0, 2, 0),
            set,
            exit,
        ]
    }
}

fn answer(allow: bool) -> [u64; 2] {
    [
        instruction(code::MOVE, R0, 0, 0, u32::from(allow)),
        instruction(code::EXIT, 0, 0, 0, 0),
    ]
}

/// `struct bpf_insn`, little-endian: code, two registers of four bits, an
/// offset, an immediate value.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> u64 {
    u64::from(code)
        | u64::from(destination) << 8
        | u64::from(source) << 12
        | u64::from(offset as u16) << 16
        | u64::from(immediate) << 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The few instructions used, executed.
    fn run(program: &[u64], access: u8, kind: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | u32::from(kind), major, minor];
        let mut registers = [0u32; 8];
        let mut at = 0;
        for _ in 0..program.len() {
            let word = program[at];
            let (destination, source) = ((word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let offset = (word >> 16) as u16 as i16;
            let immediate = (word >> 32) as u32;
            at += 1;
            match word as u8 {
                code::LOAD32 => registers[destination] = context[offset as usize / 4],
                code::AND => registers[destination] &= immediate,
                code::SHIFT_RIGHT => registers[destination] >>= immediate,
                code::MOVE => registers[destination] = immediate,
                code::COPY => registers[destination] = registers[source],
                code::JUMP_UNLESS_EQUAL if registers[destination] != immediate => {
                    at += offset as usize;
                }
                code::JUMP_IF_EQUAL if registers[destination] == immediate => at += offset as usize,
                code::JUMP_UNLESS_EQUAL | code::JUMP_IF_EQUAL => {}
                code::EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
        panic!("the program does not end");
    }

    /// What the list means, said plainly: rights are granted and taken in turn.
    fn meant(rules: &[Rule], access: u8, kind: u8, major: u32, minor: u32) -> bool {
        let any_or = |wanted: Option<u32>, value| wanted.is_none_or(|wanted| wanted == value);
        let mut granted = 0;
        for rule in rules {
            let matches = any_or(rule.kind.map(u32::from), u32::from(kind))
                && any_or(rule.major, major)
                && any_or(rule.minor, minor);
            match (matches, rule.allow) {
                (true, true) => granted |= rule.access,
                (true, false) => granted &= !rule.access,
                (false, _) => {}
            }
        }
        granted & access == access
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let number = || prop::option::of(0u32..3);
        let kind = prop::option::of(prop::sample::select(vec![BLOCK, CHAR]));
        (any::<bool>(), kind, number(), number(), 1u8..=ALL).prop_map(
            |(allow, kind, major, minor, access)| Rule {
                allow,
                kind,
                major,
                minor,
                access,
            },
        )
    }

    #[test]
    fn without_rules_everything_is_denied() {
        assert!(!run(&program(&[]), READ, CHAR, 1, 3));
    }

    #[test]
    fn instructions_have_the_kernel_s_layout() {
        // r3 &= 7, as `llvm-objdump` prints it: 54 03 00 00 07 00 00 00
        assert_eq!(
            instruction(code::AND, 3, 0, 0, 7).to_le_bytes(),
            [0x54, 0x03, 0, 0, 7, 0, 0, 0]
        );
        // if w4 != 1 goto +2: 56 04 02 00 01 00 00 00
        assert_eq!(
            instruction(code::JUMP_UNLESS_EQUAL, 4, 0, 2, 1).to_le_bytes(),
            [0x56, 0x04, 2, 0, 1, 0, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn program_decides_as_the_list_means(
            rules in prop::collection::vec(rule(), 0..8),
            access in 1u8..=ALL,
            kind in prop::sample::select(vec![BLOCK, CHAR]),
            major in 0u32..4,
            minor in 0u32..4,
        ) {
            prop_assert_eq!(
                run(&program(&rules), access, kind, major, minor),
                meant(&rules, access, kind, major, minor)
            );
        }
    }
}
