//! Flow control, fairness, and much data.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::driver::{
    Driver, QUEUE_SIZE, RX_PAYLOAD, Setup, Socket, connect_through, connect_to_guest,
    connect_to_host, pattern,
};
use crate::devices::virtio::vsock::packet::{Header, Op};

const MEBIBYTE: usize = 1 << 20;

/// Writes what the stream takes at the moment.
fn write_some(stream: &mut UnixStream, data: &mut &[u8]) {
    match stream.write(data) {
        Ok(count) => *data = &data[count..],
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
    }
}

fn read_some(stream: &mut UnixStream, limit: usize) -> Vec<u8> {
    let mut bytes = vec![0; limit];
    match stream.read(&mut bytes) {
        Ok(count) => bytes.truncate(count),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            bytes.clear();
        }
    }
    bytes
}

#[test]
fn a_mebibyte_to_a_guest_with_a_small_buffer() {
    let mut driver = Driver::with(Setup {
        rx_buffers: 3,
        event_idx: true,
    });
    let (mut socket, mut stream) = connect_to_guest(&mut driver, 7);
    socket.buf_alloc = 1000;
    socket.send(&mut driver, Op::CreditUpdate);
    let data = pattern(MEBIBYTE);
    let mut rest = &data[..];
    let mut received = Vec::new();
    while received.len() < data.len() {
        write_some(&mut stream, &mut rest);
        driver.run();
        let mut in_flight = 0;
        let mut requests = 0;
        while let Some(packet) = driver.inbox.pop_front() {
            match packet.op() {
                Op::ReadWrite => in_flight += packet.data.len(),
                Op::CreditRequest => requests += 1,
                op => panic!("{op:?}"),
            }
            received.extend_from_slice(&packet.data);
        }
        assert!(in_flight <= 1000);
        assert!(requests <= 1);
        socket.fwd_cnt += in_flight as u32;
        socket.send(&mut driver, Op::CreditUpdate);
    }
    assert_eq!(received, data);
}

#[test]
fn a_mebibyte_from_the_guest_to_a_slow_reader() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    let data = pattern(MEBIBYTE);
    let mut rest = &data[..];
    let mut received = Vec::new();
    while received.len() < data.len() {
        while !rest.is_empty() && socket.credit() > 0 {
            let len = rest.len().min(socket.credit() as usize).min(1 << 16);
            socket.write(&mut driver, &rest[..len]);
            rest = &rest[len..];
        }
        received.extend(read_some(&mut stream, 3000));
        driver.run();
        while let Some(packet) = driver.inbox.pop_front() {
            assert_eq!(packet.op(), Op::CreditUpdate);
            socket.learn(&packet);
        }
    }
    assert!(received == data);
}

#[test]
fn guest_never_waits_for_credit_of_a_fast_reader() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    let mut updates = 0;
    for _ in 0..64 {
        assert!(socket.credit() >= 1 << 16);
        socket.write(&mut driver, &pattern(1 << 16));
        assert_eq!(read_some(&mut stream, 1 << 17).len(), 1 << 16);
        while let Some(packet) = driver.inbox.pop_front() {
            socket.learn(&packet);
            updates += 1;
        }
    }
    // Not more than one for each packet, even so.
    assert!(updates <= 64, "{updates}");
}

#[test]
fn guest_that_exceeds_its_credit_is_reset() {
    let mut driver = Driver::new();
    let (mut socket, _stream) = connect_to_host(&mut driver, 5000);
    loop {
        socket.write(&mut driver, &pattern(1 << 16));
        let mut reset = false;
        while let Some(packet) = driver.inbox.pop_front() {
            reset |= packet.op() == Op::Reset;
            if !reset {
                socket.learn(&packet);
            }
        }
        if reset {
            break;
        }
        // It has kept to what it was told so far.
        assert!(socket.tx_cnt - socket.device_fwd_cnt <= socket.device_buf_alloc);
    }
    assert!(socket.tx_cnt - socket.device_fwd_cnt > socket.device_buf_alloc);
    assert_eq!(driver.streams(), 0);
}

#[test]
fn credit_request_is_answered_at_once() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    socket.write(&mut driver, b"a little");
    assert_eq!(read_some(&mut stream, 100), b"a little");
    driver.assert_no_packet();
    socket.send(&mut driver, Op::CreditRequest);
    let update = socket.receive(&mut driver);
    assert_eq!(update.op(), Op::CreditUpdate);
    assert_eq!(update.header.fwd_cnt, 8);
    driver.assert_no_packet();
}

#[test]
fn a_guest_without_credit_is_asked_once() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    socket.buf_alloc = 0;
    socket.send(&mut driver, Op::CreditUpdate);
    stream.write_all(b"data").unwrap();
    assert_eq!(socket.receive(&mut driver).op(), Op::CreditRequest);
    // Its answer brings no credit: it is left alone until there is some.
    socket.send(&mut driver, Op::CreditUpdate);
    stream.write_all(b", more").unwrap();
    driver.assert_no_packet();
    socket.buf_alloc = 6;
    socket.send(&mut driver, Op::CreditUpdate);
    assert_eq!(socket.read(&mut driver), b"data, ");
    assert_eq!(socket.receive(&mut driver).op(), Op::CreditRequest);
}

#[test]
fn impossible_credit_stops_only_the_connection_that_tells_it() {
    let mut driver = Driver::new();
    let listener = driver.listen(1024);
    let (liar, mut to_liar) = connect_through(&mut driver, &listener, 1);
    let (mut honest, mut to_honest) = connect_through(&mut driver, &listener, 2);
    let header = Header {
        fwd_cnt: 12345,
        ..liar.header(Op::CreditUpdate)
    };
    driver.send(header, &[]);
    to_liar.write_all(b"lost").unwrap();
    to_honest.write_all(b"found").unwrap();
    driver.run();
    driver.inbox.retain(|packet| honest.owns(packet));
    assert_eq!(honest.read(&mut driver), b"found");
}

#[test]
fn connections_take_turns() {
    let mut driver = Driver::with(Setup {
        rx_buffers: 4,
        event_idx: false,
    });
    driver.refill = false;
    driver.give_rx_buffers();
    let listener = driver.listen(1024);
    let mut ends: Vec<(Socket, UnixStream)> = Vec::new();
    for port in 0..2 {
        ends.push(connect_through(&mut driver, &listener, port));
        driver.give_rx_buffers();
    }
    ends[0].1.write_all(&pattern(20 * RX_PAYLOAD)).unwrap();
    driver.run();
    // The first has filled all buffers there were. Now the second comes.
    ends[1].1.write_all(b"short").unwrap();
    driver.inbox.clear();
    driver.give_rx_buffers();
    driver.run();
    let owners: Vec<bool> = driver
        .inbox
        .iter()
        .map(|packet| ends[1].0.owns(packet))
        .collect();
    assert_eq!(owners.len(), 4);
    assert!(owners[..2].contains(&true), "{owners:?}");
}

#[test]
fn more_than_a_queue_holds_goes_through_at_once() {
    for event_idx in [false, true] {
        let mut driver = Driver::with(Setup {
            rx_buffers: QUEUE_SIZE,
            event_idx,
        });
        let listener = driver.listen(1024);
        let data = pattern(50 * RX_PAYLOAD);
        let mut ends: Vec<_> = (0..6)
            .map(|port| connect_through(&mut driver, &listener, port))
            .collect();
        for (_, stream) in &mut ends {
            stream.write_all(&data).unwrap();
        }
        driver.run();
        let received: usize = driver.inbox.iter().map(|packet| packet.data.len()).sum();
        assert_eq!(received, 6 * data.len());
    }
}

#[test]
fn a_full_transmit_queue_is_emptied_again_and_again() {
    for event_idx in [false, true] {
        let mut driver = Driver::with(Setup {
            event_idx,
            ..Setup::default()
        });
        let (mut socket, _stream) = connect_to_host(&mut driver, 5000);
        for _ in 0..3 {
            driver.flood(socket.header(Op::CreditUpdate));
            driver.assert_no_packet();
        }
        socket.send(&mut driver, Op::CreditRequest);
        assert_eq!(socket.receive(&mut driver).op(), Op::CreditUpdate);
    }
}

#[test]
fn receive_buffers_need_no_kick_unless_the_device_waits_for_them() {
    let mut driver = Driver::new();
    let (_socket, mut stream) = connect_to_host(&mut driver, 5000);
    assert!(!driver.waits_for_rx_buffers());
    driver.refill = false;
    driver.take_rx_buffers();
    assert!(!driver.waits_for_rx_buffers());
    stream.write_all(b"data").unwrap();
    driver.run();
    assert!(driver.waits_for_rx_buffers());
}
