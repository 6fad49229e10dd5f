//! The last words of connections: on a host they outlive their processes, and here
//! they would end with the guest.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long a peer that takes nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long peers are waited for in all.
const LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked; the kernel does not tell.
const INTERVAL: Duration = Duration::from_millis(5);

/// States of sockets that have been closed, and whose peers have not yet
/// confirmed it: `FIN_WAIT1`, `LAST_ACK`, `CLOSING`
/// (`include/net/tcp_states.h`).
const CLOSING: [&str; 3] = ["04", "09", "0B"];

/// Waits until peers have what was sent to them, or do not take it. Nothing else
/// is done meanwhile: there are no processes any more.
pub(crate) fn settle() {
    let end = Instant::now() + LIMIT;
    let mut last = Unsent::now();
    let mut patience = Instant::now() + PATIENCE;
    while last.sockets > 0 && Instant::now() < patience.min(end) {
        thread::sleep(INTERVAL);
        let now = Unsent::now();
        if now != last {
            patience = Instant::now() + PATIENCE;
        }
        last = now;
    }
}

/// What is still on its way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unsent {
    sockets: usize,
    bytes: u64,
}

impl Unsent {
    fn now() -> Self {
        let mut all = Self::default();
        for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            all.add(&fs::read_to_string(table).unwrap_or_default());
        }
        all
    }

    /// Fields of a line are a number, two addresses, the state, `tx:rx` queues.
    fn add(&mut self, table: &str) {
        for line in table.lines().skip(1) {
            let mut fields = line.split_ascii_whitespace().skip(3);
            let (Some(state), Some(queues)) = (fields.next(), fields.next()) else {
                continue;
            };
            if CLOSING.contains(&state) {
                let unsent = queues.split(':').next().unwrap_or_default();
                self.sockets += 1;
                self.bytes += u64::from_str_radix(unsent, 16).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_sockets_are_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:0 0 0 0 1\n\
            1: 0202580A:D431 0102580A:0051 04 000000FF:00000000 01:1 0 0 0 0\n\
            2: 0202580A:D432 0102580A:0051 06 00000000:00000000 03:1 0 0 0 0\n\
            broken\n";
        let mut unsent = Unsent::default();
        unsent.add(table);
        let expected = Unsent {
            sockets: 1,
            bytes: 255,
        };
        assert_eq!(unsent, expected);
    }
}
