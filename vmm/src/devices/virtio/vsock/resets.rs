//! Resets that wait for room in the receive queue.

use std::collections::VecDeque;

use super::packet::{HOST_CID, Header, Op, TYPE_STREAM};

/// From how many waiting resets on no more packets are taken from the guest,
/// which may provoke one with each (virtio 1.3, 5.10.6.2).
const LIMIT: usize = 256;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    /// In the guest.
    pub(super) guest: u32,
    /// On the host.
    pub(super) host: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reset {
    ports: Ports,
    /// Whom the guest wanted to reach, if not the host.
    cid: u64,
    socket_type: u16,
}

/// Resets without a connection, in the order in which they go to the guest.
#[derive(Debug, Default)]
pub(super) struct Resets(VecDeque<Reset>);

impl Resets {
    /// Resets a connection that we knew of.
    pub(super) fn push(&mut self, ports: Ports) {
        self.push_once(Reset {
            ports,
            cid: HOST_CID,
            socket_type: TYPE_STREAM,
        });
    }

    /// Answers a packet that belongs to no connection. A reset has no answer,
    /// or the two sides would answer each other's.
    pub(super) fn answer(&mut self, header: &Header) {
        if Op::from_u16(header.op) != Some(Op::Reset) {
            self.push_once(Reset {
                ports: Ports {
                    guest: header.src_port,
                    host: header.dst_port,
                },
                cid: header.dst_cid,
                socket_type: header.socket_type,
            });
        }
    }

    /// The guest has reset a connection or asks for another one between the
    /// same ports: a reset that has not reached it must not any more.
    pub(super) fn cancel(&mut self, ports: Ports) {
        self.0
            .retain(|reset| reset.ports != ports || reset.cid != HOST_CID);
    }

    /// The header of the next one.
    pub(super) fn pop(&mut self, guest_cid: u64) -> Option<Header> {
        self.0.pop_front().map(|reset| Header {
            src_cid: reset.cid,
            dst_cid: guest_cid,
            src_port: reset.ports.host,
            dst_port: reset.ports.guest,
            socket_type: reset.socket_type,
            op: Op::Reset as u16,
            ..Header::default()
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the guest should wait before it provokes more.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= LIMIT
    }

    fn push_once(&mut self, reset: Reset) {
        if !self.0.contains(&reset) {
            self.0.push_back(reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports {
        guest: 5000,
        host: 1024,
    };

    fn packet(op: Op) -> Header {
        Header {
            src_cid: 3,
            dst_cid: HOST_CID,
            src_port: PORTS.guest,
            dst_port: PORTS.host,
            socket_type: TYPE_STREAM,
            op: op as u16,
            ..Header::default()
        }
    }

    #[test]
    fn answer_swaps_ends() {
        let mut resets = Resets::default();
        resets.answer(&Header {
            dst_cid: 77,
            socket_type: 2,
            ..packet(Op::Request)
        });
        assert_eq!(
            resets.pop(3),
            Some(Header {
                src_cid: 77,
                dst_cid: 3,
                src_port: 1024,
                dst_port: 5000,
                socket_type: 2,
                op: Op::Reset as u16,
                ..Header::default()
            })
        );
        assert!(resets.is_empty());
    }

    #[test]
    fn reset_is_not_answered() {
        let mut resets = Resets::default();
        resets.answer(&packet(Op::Reset));
        assert!(resets.is_empty());
    }

    #[test]
    fn same_reset_waits_once() {
        let mut resets = Resets::default();
        resets.push(PORTS);
        resets.answer(&packet(Op::ReadWrite));
        resets.answer(&packet(Op::CreditUpdate));
        assert!(resets.pop(3).is_some());
        assert!(resets.is_empty());
    }

    #[test]
    fn cancelled_reset_is_gone_and_others_stay() {
        let mut resets = Resets::default();
        let other = Ports {
            guest: 5001,
            host: 1024,
        };
        resets.push(PORTS);
        resets.push(other);
        resets.cancel(PORTS);
        assert_eq!(resets.pop(3).unwrap().dst_port, 5001);
        assert!(resets.is_empty());
    }

    #[test]
    fn full_at_limit() {
        let mut resets = Resets::default();
        for guest in 0..LIMIT as u32 {
            assert!(!resets.is_full());
            resets.push(Ports { guest, host: 1 });
        }
        assert!(resets.is_full());
    }
}
