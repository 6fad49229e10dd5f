//! Frames and the header before them.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
};

/// Length of `struct virtio_net_hdr_v1` (virtio 1.3, 5.1.6), as the tap has it.
pub(super) const HEADER_SIZE: usize = 12;

/// Where `num_buffers` is in it.
pub(super) const NUM_BUFFERS: usize = 10;

/// Longest frame with its header: what a tap puts together is no longer than an IP
/// packet with what Ethernet and VLANs put before it.
pub(super) const FRAME_MAX: usize = HEADER_SIZE + 65_535 + 26;

/// Length of an Ethernet header: less is no frame.
const ETHERNET: usize = 14;

/// Checks a frame from the guest before the host's kernel looks at it: the header
/// says nothing that was not offered, or that leads out of the frame.
pub(super) fn is_plausible(frame: &[u8]) -> bool {
    let Some((header, frame)) = frame.split_at_checked(HEADER_SIZE) else {
        return false;
    };
    let field = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (flags, gso_type) = (u32::from(header[0]), u32::from(header[1]));
    let (hdr_len, gso_size, csum_start, csum_offset) = (field(2), field(4), field(6), field(8));
    let has_checksum = flags == VIRTIO_NET_HDR_F_NEEDS_CSUM;
    let is_offload = match gso_type {
        VIRTIO_NET_HDR_GSO_NONE => true,
        VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_TCPV6 => has_checksum && gso_size > 0,
        _ => false,
    };
    frame.len() >= ETHERNET
        && (flags == 0 || has_checksum)
        && is_offload
        && hdr_len <= frame.len()
        && (!has_checksum || csum_start + csum_offset + 2 <= frame.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(header: [u8; HEADER_SIZE], len: usize) -> Vec<u8> {
        let mut frame = header.to_vec();
        frame.resize(HEADER_SIZE + len, 0);
        frame
    }

    #[test]
    fn ordinary_frames_pass() {
        assert!(is_plausible(&frame([0; 12], 60)));
        // A checksum at 34 + 16, and segments of 1460 bytes.
        let offload = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
        assert!(is_plausible(&frame(offload, 9000)));
    }

    #[test]
    fn nonsense_does_not() {
        for (header, len) in [
            ([0; 12], 13),                                         // no frame
            ([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 60),            // a flag of the device
            ([0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 60),            // UFO was not offered
            ([1, 0x81, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0], 9000), // nor was ECN
            ([0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 60),            // segments without checksums
            ([1, 1, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0], 60),          // segments of nothing
            ([1, 0, 0, 0, 0, 0, 50, 0, 10, 0, 0, 0], 60),          // a checksum beyond the end
            ([0, 0, 61, 0, 0, 0, 0, 0, 0, 0, 0, 0], 60),           // a header longer than all
            ([1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], 60),
        ] {
            assert!(!is_plausible(&frame(header, len)), "{header:?}");
        }
        assert!(!is_plausible(&[0; 5]));
    }
}
