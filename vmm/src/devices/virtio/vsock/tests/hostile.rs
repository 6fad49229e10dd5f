//! Guests that mean harm.

use super::driver::{Buffer, Driver, Setup, Socket, connect_to_host, is_at_end};
use crate::devices::virtio::vsock::packet::{HEADER_SIZE, Header, Op};

/// A buffer in the middle of the guest's memory.
fn buffer(len: u32, writable: bool) -> Buffer {
    Buffer {
        address: 0x20_0000,
        len,
        writable,
    }
}

fn fails(for_rx: bool, buffers: &[Buffer]) {
    let mut driver = Driver::with(Setup {
        rx_buffers: if for_rx { 2 } else { 16 },
        event_idx: false,
    });
    let (socket, mut stream) = connect_to_host(&mut driver, 5000);
    assert!(!driver.interrupt.needs_reset());
    if for_rx {
        // It is the next that the device finds, with something to send.
        driver.refill = false;
        driver.take_rx_buffers();
        driver.offer_raw(true, buffers);
        driver.try_send(socket.header(Op::CreditRequest), &[]);
    } else {
        driver.offer_raw(false, buffers);
    }
    driver.run();
    assert!(driver.interrupt.needs_reset(), "{buffers:?}");
    assert!(is_at_end(&mut stream));
    // Deaf from now on.
    driver.try_send(socket.header(Op::Request), &[]);
    driver.assert_no_packet();
    // Until it is reset.
    let mut driver = driver.reset();
    connect_to_host(&mut driver, 5000);
}

#[test]
fn bad_transmit_chains_need_a_reset() {
    let header = HEADER_SIZE as u32;
    fails(false, &[buffer(header, true)]);
    fails(false, &[buffer(header - 1, false)]);
    fails(false, &[buffer(0, false)]);
    fails(false, &[buffer(header, false), buffer(10, true)]);
    fails(false, &[buffer(1, false); 65]);
    let outside = Buffer {
        address: 0x100_0000 - 10,
        ..buffer(header, false)
    };
    fails(false, &[outside]);
    let overflowing = Buffer {
        address: u64::MAX - 10,
        ..buffer(header, false)
    };
    fails(false, &[overflowing]);
}

#[test]
fn bad_receive_chains_need_a_reset() {
    let header = HEADER_SIZE as u32;
    fails(true, &[buffer(header + 1, false)]);
    // No room for data: nothing could ever be sent.
    fails(true, &[buffer(header, true)]);
    fails(true, &[buffer(header, true), buffer(1, false)]);
}

#[test]
fn payload_that_is_not_there_needs_a_reset() {
    for len in [11, 1 << 16, 1 << 20, u32::MAX] {
        let mut driver = Driver::new();
        let header = Header {
            len,
            ..Socket::new(5000, 1024).header(Op::ReadWrite)
        };
        let address = 0x20_0000;
        driver.write_memory(address, &header.to_bytes());
        driver.offer_raw(
            false,
            &[Buffer {
                address,
                len: HEADER_SIZE as u32 + 10,
                writable: false,
            }],
        );
        driver.run();
        assert!(driver.interrupt.needs_reset());
    }
}

#[test]
fn payload_beyond_the_limit_needs_a_reset() {
    let mut driver = Driver::new();
    let header = Header {
        len: (1 << 16) + 1,
        ..Socket::new(5000, 1024).header(Op::ReadWrite)
    };
    let address = 0x20_0000;
    driver.write_memory(address, &header.to_bytes());
    driver.offer_raw(false, &[buffer(1 << 17, false)]);
    driver.run();
    assert!(driver.interrupt.needs_reset());
}

#[test]
fn more_chains_than_the_ring_holds_need_a_reset() {
    let mut driver = Driver::new();
    driver.announce_chains(129);
    driver.run();
    assert!(driver.interrupt.needs_reset());
}

#[test]
fn unknown_operations_are_reset() {
    for op in [0, 8, u16::MAX] {
        let mut driver = Driver::new();
        let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
        let header = Header {
            op,
            ..socket.header(Op::Request)
        };
        driver.send(header, &[]);
        assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
        assert!(is_at_end(&mut stream));
        // And without a connection, too.
        driver.send(header, &[]);
        assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
        driver.assert_no_packet();
    }
}

#[test]
fn data_after_the_end_is_reset() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    socket.shut_down(&mut driver, 2);
    socket.write(&mut driver, b"more");
    assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
    assert!(is_at_end(&mut stream));
}

#[test]
fn provoked_resets_pile_up_only_so_far() {
    let mut driver = Driver::with(Setup {
        rx_buffers: 1,
        event_idx: false,
    });
    driver.refill = false;
    driver.give_rx_buffers();
    let mut sent = 0;
    while driver.try_send(Socket::new(sent, 1024).header(Op::ReadWrite), &[]) {
        driver.run();
        sent += 1;
        assert!(sent < 1000, "no bound");
    }
    // All of them come once there is room, and those that waited, too.
    driver.refill = true;
    driver.give_rx_buffers();
    driver.run();
    let ports: Vec<u32> = driver
        .inbox
        .iter()
        .map(|packet| packet.header.dst_port)
        .collect();
    assert_eq!(ports, (0..sent).collect::<Vec<_>>());
    driver.inbox.clear();
    connect_to_host(&mut driver, 5000);
}
