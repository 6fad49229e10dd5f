//! The packets of the protocol (virtio 1.3, 5.10.6).
//!
//! Nothing here touches guest memory: a header is decoded from a copy, once.

/// Size of a packet's header in bytes.
pub(super) const HEADER_SIZE: usize = 44;

/// Greatest payload of a packet in bytes. The specification names none; this
/// is what Linux never exceeds.
pub(super) const MAX_PAYLOAD: u32 = 64 * 1024;

/// Context id of the host (virtio 1.3, 5.10.4).
pub(super) const HOST_CID: u64 = 2;

/// Socket type of a byte stream, the only one on offer (virtio 1.3, 5.10.6.4).
pub(super) const TYPE_STREAM: u16 = 1;

const SHUTDOWN_RECEIVE: u32 = 1 << 0;
const SHUTDOWN_SEND: u32 = 1 << 1;

/// What a packet is for (virtio 1.3, 5.10.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Asks for a connection.
    Request = 1,
    /// Accepts one.
    Response = 2,
    /// Refuses or ends one.
    Reset = 3,
    /// Tells that the sender will not receive or send any more.
    Shutdown = 4,
    /// Carries data.
    ReadWrite = 5,
    /// Tells the sender's buffer space, and nothing else.
    CreditUpdate = 6,
    /// Asks for the peer's buffer space.
    CreditRequest = 7,
}

impl Op {
    /// The operation that `value` stands for, if any.
    pub(super) fn from_u16(value: u16) -> Option<Self> {
        Some(match value {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::ReadWrite,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// What the sender of a [`Op::Shutdown`] is done with (virtio 1.3, 5.10.6.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shutdown {
    /// It will not receive any more.
    pub(super) receive: bool,
    /// It will not send any more.
    pub(super) send: bool,
}

impl Shutdown {
    /// Decodes the `flags` of a packet; unknown bits are ignored.
    pub(super) fn from_flags(flags: u32) -> Self {
        Self {
            receive: flags & SHUTDOWN_RECEIVE != 0,
            send: flags & SHUTDOWN_SEND != 0,
        }
    }

    /// The `flags` of a packet.
    pub(super) fn flags(self) -> u32 {
        let receive = if self.receive { SHUTDOWN_RECEIVE } else { 0 };
        let send = if self.send { SHUTDOWN_SEND } else { 0 };
        receive | send
    }
}

/// `struct virtio_vsock_hdr` (virtio 1.3, 5.10.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Context id of the sender.
    pub(super) src_cid: u64,
    /// Context id of the receiver.
    pub(super) dst_cid: u64,
    /// Port of the sender.
    pub(super) src_port: u32,
    /// Port of the receiver.
    pub(super) dst_port: u32,
    /// Size of the payload in bytes.
    pub(super) len: u32,
    /// Type of the socket.
    pub(super) socket_type: u16,
    /// An [`Op`], or anything else.
    pub(super) op: u16,
    /// Depends on the operation.
    pub(super) flags: u32,
    /// The sender's receive buffer in bytes.
    pub(super) buf_alloc: u32,
    /// Bytes that the sender has taken out of its receive buffer so far,
    /// wrapping.
    pub(super) fwd_cnt: u32,
}

impl Header {
    /// Decodes a header.
    pub(super) fn from_bytes(bytes: &[u8; HEADER_SIZE]) -> Self {
        Self {
            src_cid: u64::from_le_bytes(field(bytes, 0)),
            dst_cid: u64::from_le_bytes(field(bytes, 8)),
            src_port: u32::from_le_bytes(field(bytes, 16)),
            dst_port: u32::from_le_bytes(field(bytes, 20)),
            len: u32::from_le_bytes(field(bytes, 24)),
            socket_type: u16::from_le_bytes(field(bytes, 28)),
            op: u16::from_le_bytes(field(bytes, 30)),
            flags: u32::from_le_bytes(field(bytes, 32)),
            buf_alloc: u32::from_le_bytes(field(bytes, 36)),
            fwd_cnt: u32::from_le_bytes(field(bytes, 40)),
        }
    }

    /// Encodes the header.
    pub(super) fn to_bytes(self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.socket_type.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        bytes
    }
}

/// The `N` bytes at a constant `offset` within a header.
fn field<const N: usize>(bytes: &[u8; HEADER_SIZE], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_loses_nothing(bytes in prop::array::uniform32(any::<u8>()), rest in prop::array::uniform12(any::<u8>())) {
            let mut header = [0; HEADER_SIZE];
            header[..32].copy_from_slice(&bytes);
            header[32..].copy_from_slice(&rest);
            prop_assert_eq!(Header::from_bytes(&header).to_bytes(), header);
        }

        #[test]
        fn op_decodes_to_itself_or_nothing(value: u16) {
            match Op::from_u16(value) {
                Some(op) => prop_assert_eq!(op as u16, value),
                None => prop_assert!(value == 0 || value > 7),
            }
        }
    }

    #[test]
    fn fields_are_where_the_specification_puts_them() {
        let bytes: [u8; HEADER_SIZE] = std::array::from_fn(|i| i as u8);
        let header = Header::from_bytes(&bytes);
        assert_eq!(header.src_cid, 0x0706_0504_0302_0100);
        assert_eq!(header.dst_port, 0x1716_1514);
        assert_eq!(header.socket_type, 0x1d1c);
        assert_eq!(header.op, 0x1f1e);
        assert_eq!(header.fwd_cnt, 0x2b2a_2928);
    }

    #[test]
    fn shutdown_flags_round_trip() {
        for flags in 0..4 {
            assert_eq!(Shutdown::from_flags(flags).flags(), flags);
        }
        assert_eq!(Shutdown::from_flags(!3), Shutdown::default());
    }
}
