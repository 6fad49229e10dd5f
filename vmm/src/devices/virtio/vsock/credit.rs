//! Flow control: who may send how much (virtio 1.3, 5.10.6.3).
//!
//! All counters run modulo 2^32.

/// Receive buffer of a connection for what the guest sends, in bytes. The
/// socket's own buffer comes behind it. Two of the largest packets that Linux
/// sends: while the host takes in one, the next is on its way. All streams that
/// there may be can pin 64 MiB between them.
pub(super) const RECEIVE_BUFFER: u32 = 128 * 1024;

/// The guest is told of freed space once it is this much, in bytes: often
/// enough that a sender never has to wait for it, seldom enough that it does
/// not cost a packet for each packet.
const UPDATE_THRESHOLD: u32 = RECEIVE_BUFFER / 4;

/// The guest has sent more than it had credit for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes exceed the {free} bytes that were free")]
pub(super) struct CreditExceeded {
    /// Size of the packet in bytes.
    len: u32,
    /// What was left of the receive buffer, in bytes.
    free: u32,
}

/// Our receive buffer as the guest sees it.
#[derive(Debug, Default)]
pub(super) struct ReceiveCredit {
    /// Bytes received from the guest.
    received: u32,
    /// Bytes passed on to the host's stream, or discarded: our `fwd_cnt`.
    forwarded: u32,
    /// The `fwd_cnt` that the guest was told last.
    told: u32,
}

impl ReceiveCredit {
    /// Books `len` bytes received.
    pub(super) fn receive(&mut self, len: u32) -> Result<(), CreditExceeded> {
        let free = RECEIVE_BUFFER - self.received.wrapping_sub(self.forwarded);
        if len > free {
            return Err(CreditExceeded { len, free });
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// Books `len` bytes of those received as passed on.
    pub(super) fn forward(&mut self, len: u32) {
        debug_assert!(len <= self.received.wrapping_sub(self.forwarded));
        self.forwarded = self.forwarded.wrapping_add(len);
    }

    /// Whether the guest should hear of the space that has become free.
    pub(super) fn update_is_due(&self) -> bool {
        self.forwarded.wrapping_sub(self.told) >= UPDATE_THRESHOLD
    }

    /// The `fwd_cnt` for a packet that is about to go to the guest.
    pub(super) fn tell(&mut self) -> u32 {
        self.told = self.forwarded;
        self.forwarded
    }
}

/// The guest's receive buffer as we see it.
#[derive(Debug, Default)]
pub(super) struct SendCredit {
    /// Size of the buffer in bytes.
    buf_alloc: u32,
    /// Bytes the guest's program has taken out of it.
    fwd_cnt: u32,
    /// Bytes sent to the guest.
    tx_cnt: u32,
}

impl SendCredit {
    /// Takes over what a packet of the guest tells.
    pub(super) fn update(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.buf_alloc = buf_alloc;
        self.fwd_cnt = fwd_cnt;
    }

    /// How many bytes the guest can take. None, if what it told makes no sense.
    pub(super) fn available(&self) -> u32 {
        let in_flight = self.tx_cnt.wrapping_sub(self.fwd_cnt);
        self.buf_alloc.saturating_sub(in_flight)
    }

    /// Books `len` bytes sent.
    pub(super) fn send(&mut self, len: u32) {
        self.tx_cnt = self.tx_cnt.wrapping_add(len);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn receive_beyond_buffer_is_refused() {
        let mut credit = ReceiveCredit::default();
        credit.receive(RECEIVE_BUFFER - 1).unwrap();
        assert_eq!(credit.receive(2), Err(CreditExceeded { len: 2, free: 1 }));
        credit.receive(1).unwrap();
        credit.forward(10);
        credit.receive(10).unwrap();
        assert!(credit.receive(1).is_err());
    }

    #[test]
    fn update_is_due_once_enough_is_free_and_until_told() {
        let mut credit = ReceiveCredit::default();
        credit.receive(RECEIVE_BUFFER).unwrap();
        credit.forward(UPDATE_THRESHOLD - 1);
        assert!(!credit.update_is_due());
        credit.forward(1);
        assert!(credit.update_is_due());
        assert_eq!(credit.tell(), UPDATE_THRESHOLD);
        assert!(!credit.update_is_due());
    }

    #[test]
    fn receive_credit_survives_wrapping() {
        let mut credit = ReceiveCredit {
            received: u32::MAX,
            forwarded: u32::MAX,
            told: u32::MAX,
        };
        credit.receive(RECEIVE_BUFFER).unwrap();
        assert!(credit.receive(1).is_err());
        credit.forward(UPDATE_THRESHOLD);
        assert!(credit.update_is_due());
        credit.receive(UPDATE_THRESHOLD).unwrap();
    }

    #[test]
    fn send_credit_survives_wrapping() {
        let mut credit = SendCredit {
            buf_alloc: 100,
            fwd_cnt: u32::MAX - 9,
            tx_cnt: u32::MAX - 9,
        };
        credit.send(60);
        assert_eq!(credit.available(), 40);
        credit.update(100, 10);
        assert_eq!(credit.available(), 60);
    }

    #[test]
    fn shrunk_or_impossible_buffer_leaves_no_credit() {
        let mut credit = SendCredit::default();
        credit.update(100, 0);
        credit.send(80);
        credit.update(50, 0);
        assert_eq!(credit.available(), 0);
        // More taken out than was ever sent.
        credit.update(100, 81);
        assert_eq!(credit.available(), 0);
    }

    proptest! {
        #[test]
        fn send_credit_never_exceeds_buffer(buf_alloc: u32, fwd_cnt: u32, tx_cnt: u32) {
            let credit = SendCredit { buf_alloc, fwd_cnt, tx_cnt };
            prop_assert!(credit.available() <= buf_alloc);
        }
    }
}
