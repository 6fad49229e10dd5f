//! The system calls the server may make, compiled from `seccomp/fsd.json` when
//! this crate is built.

use seccompiler::sock_filter;

const SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/server.bpf"));

/// Installs the filter for this thread and those it will start. A call
/// outside of the list ends the process.
pub(crate) fn install() -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(&decode(SERVER))
}

/// The build script writes each instruction as the kernel lays it out.
fn decode(program: &[u8]) -> Vec<sock_filter> {
    let (instructions, rest) = program.as_chunks::<8>();
    assert!(
        rest.is_empty(),
        "the build script writes whole instructions"
    );
    instructions
        .iter()
        .map(|&[code0, code1, jt, jf, k0, k1, k2, k3]| sock_filter {
            code: u16::from_ne_bytes([code0, code1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_ends_in_a_verdict() {
        // BPF_RET | BPF_K
        const RETURN: u16 = 0x06;
        assert_eq!(decode(SERVER).last().unwrap().code, RETURN);
    }
}
