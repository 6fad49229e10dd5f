//! How connections end: each direction by itself, and nothing is lost.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::driver::{
    Driver, Socket, connect_to_guest, connect_to_host, is_at_end, pattern, read_now,
};
use crate::devices::virtio::vsock::packet::Op;

const RECEIVE: u32 = 1;
const SEND: u32 = 2;

/// Reads all that the guest has sent, with the device at work in between.
fn read_to_end(driver: &mut Driver, stream: &mut std::os::unix::net::UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = [0; 10_000];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        driver.run();
    }
}

#[test]
fn host_ends_its_direction_and_still_gets_the_answer() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_guest(&mut driver, 7);
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(socket.read(&mut driver), b"question");
    assert_eq!(socket.read_shutdown(&mut driver), SEND);
    driver.assert_no_packet();
    socket.write(&mut driver, b"answer");
    socket.shut_down(&mut driver, RECEIVE | SEND);
    assert_eq!(read_now(&mut stream), b"answer");
    assert!(is_at_end(&mut stream));
    assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
    driver.assert_no_packet();
}

#[test]
fn guest_ends_its_direction_and_still_gets_the_answer() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    socket.write(&mut driver, b"question");
    socket.shut_down(&mut driver, SEND);
    assert_eq!(read_now(&mut stream), b"question");
    assert!(is_at_end(&mut stream));
    driver.assert_no_packet();
    stream.write_all(b"answer").unwrap();
    assert_eq!(socket.read(&mut driver), b"answer");
    drop(stream);
    assert_eq!(socket.read_shutdown(&mut driver), SEND);
    assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
    driver.assert_no_packet();
}

#[test]
fn host_may_end_its_direction_before_the_guest_accepts() {
    let mut driver = Driver::new();
    let mut stream = driver.dial();
    stream.write_all(b"CONNECT 7\nquestion").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let request = driver.receive();
    driver.assert_no_packet();
    let mut socket = Socket::new(7, request.header.src_port);
    socket.send(&mut driver, Op::Response);
    assert_eq!(socket.read(&mut driver), b"question");
    assert_eq!(socket.read_shutdown(&mut driver), SEND);
    socket.write(&mut driver, b"answer");
    let answer = read_now(&mut stream);
    assert!(answer.ends_with(b"\nanswer"), "{answer:?}");
}

#[test]
fn host_may_close_before_the_guest_accepts() {
    let mut driver = Driver::new();
    let mut stream = driver.dial();
    stream.write_all(b"CONNECT 7\nlast words").unwrap();
    drop(stream);
    let request = driver.receive();
    let mut socket = Socket::new(7, request.header.src_port);
    socket.send(&mut driver, Op::Response);
    assert_eq!(socket.read(&mut driver), b"last words");
    assert_eq!(socket.read_shutdown(&mut driver), RECEIVE | SEND);
    socket.send(&mut driver, Op::Reset);
    driver.assert_no_packet();
    assert_eq!(driver.streams(), 0);
}

#[test]
fn guest_gets_all_that_was_written_before_host_closed() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    let data = pattern(100_000);
    stream.write_all(&data).unwrap();
    drop(stream);
    let mut received = Vec::new();
    // The guest hears early that it need not send, and last that it is all.
    let mut last = 0;
    while last & SEND == 0 {
        let packet = socket.receive(&mut driver);
        match packet.op() {
            Op::ReadWrite => received.extend_from_slice(&packet.data),
            Op::Shutdown => last = packet.header.flags,
            op => panic!("{op:?}"),
        }
    }
    assert_eq!(received, data);
    assert_eq!(last, RECEIVE | SEND);
    socket.send(&mut driver, Op::Reset);
    driver.assert_no_packet();
    assert_eq!(driver.streams(), 0);
}

/// Writes until nobody has room for more: neither the host's socket, which is
/// not read, nor the device.
fn write_all_there_is_room_for(socket: &mut Socket, driver: &mut Driver) -> Vec<u8> {
    let mut written = Vec::new();
    while socket.credit() > 0 {
        let data = pattern(socket.credit().min(1 << 16) as usize);
        socket.write(driver, &data);
        written.extend(data);
        while let Some(packet) = driver.inbox.pop_front() {
            socket.learn(&packet);
        }
    }
    written
}

#[test]
fn host_gets_all_that_guest_wrote_before_it_closed() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    let data = write_all_there_is_room_for(&mut socket, &mut driver);
    socket.shut_down(&mut driver, RECEIVE | SEND);
    // Not before all of it is written.
    driver.assert_no_reset();
    assert_eq!(read_to_end(&mut driver, &mut stream), data);
    assert_eq!(driver.receive_last().op(), Op::Reset);
    assert_eq!(driver.streams(), 0);
}

#[test]
fn host_gets_all_even_if_guest_grows_tired_of_waiting() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    let data = write_all_there_is_room_for(&mut socket, &mut driver);
    socket.shut_down(&mut driver, RECEIVE | SEND);
    socket.send(&mut driver, Op::Reset);
    driver.inbox.clear();
    // The same ports again, meanwhile.
    let (mut again, mut other) = connect_to_host(&mut driver, 5000);
    assert_eq!(read_to_end(&mut driver, &mut stream), data);
    driver.assert_no_packet();
    again.write(&mut driver, b"alive");
    assert_eq!(read_now(&mut other), b"alive");
    assert_eq!(driver.streams(), 1);
}

#[test]
fn host_sees_a_plain_end_even_if_it_was_not_heard_out() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    // Without credit the device leaves it in the stream.
    socket.buf_alloc = 0;
    socket.send(&mut driver, Op::CreditUpdate);
    stream.write_all(b"typed ahead").unwrap();
    socket.write(&mut driver, b"bye");
    socket.shut_down(&mut driver, RECEIVE | SEND);
    assert_eq!(read_now(&mut stream), b"bye");
    assert!(is_at_end(&mut stream));
}

#[test]
fn guest_that_does_not_receive_stops_the_host_writing() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    socket.shut_down(&mut driver, RECEIVE);
    let error = stream.write_all(b"in vain").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    socket.write(&mut driver, b"still here");
    assert_eq!(read_now(&mut stream), b"still here");
    driver.assert_no_packet();
}

#[test]
fn host_that_does_not_read_stops_the_guest_writing() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    stream.shutdown(Shutdown::Read).unwrap();
    socket.write(&mut driver, b"in vain");
    assert_eq!(socket.read_shutdown(&mut driver), RECEIVE);
    // On its way already: not an offence.
    socket.write(&mut driver, b"in vain");
    driver.assert_no_packet();
    stream.write_all(b"still here").unwrap();
    assert_eq!(socket.read(&mut driver), b"still here");
    socket.shut_down(&mut driver, SEND);
    drop(stream);
    assert_eq!(socket.read_shutdown(&mut driver) & SEND, SEND);
    assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
}

#[test]
fn guest_gets_credit_back_for_what_nobody_will_read() {
    let mut driver = Driver::new();
    let (mut socket, stream) = connect_to_host(&mut driver, 5000);
    write_all_there_is_room_for(&mut socket, &mut driver);
    drop(stream);
    assert_eq!(socket.read_shutdown(&mut driver), RECEIVE | SEND);
    assert_eq!(socket.device_fwd_cnt, socket.tx_cnt);
}

#[test]
fn host_that_closes_is_noticed_at_once() {
    let mut driver = Driver::new();
    let (mut socket, stream) = connect_to_host(&mut driver, 5000);
    drop(stream);
    assert_eq!(socket.read_shutdown(&mut driver), RECEIVE | SEND);
    driver.assert_no_packet();
}

#[test]
fn end_needs_no_credit() {
    let mut driver = Driver::new();
    let (mut socket, stream) = connect_to_host(&mut driver, 5000);
    socket.buf_alloc = 0;
    socket.send(&mut driver, Op::CreditUpdate);
    stream.shutdown(Shutdown::Write).unwrap();
    // Whether there is more to read cannot be known without room for it.
    assert_eq!(socket.receive(&mut driver).op(), Op::CreditRequest);
    socket.buf_alloc = 1;
    socket.send(&mut driver, Op::CreditUpdate);
    assert_eq!(socket.read_shutdown(&mut driver), SEND);
}

#[test]
fn each_order_of_ends_closes_the_connection() {
    // Who does what, in which order: guest's or host's sending half.
    for guest_first in [true, false] {
        for guest_asked in [true, false] {
            let mut driver = Driver::new();
            let (mut socket, mut stream) = if guest_asked {
                connect_to_host(&mut driver, 5000)
            } else {
                connect_to_guest(&mut driver, 5000)
            };
            if guest_first {
                socket.shut_down(&mut driver, SEND);
                assert!(is_at_end(&mut stream));
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(socket.read_shutdown(&mut driver), SEND);
            } else {
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(socket.read_shutdown(&mut driver), SEND);
                socket.shut_down(&mut driver, SEND);
                assert!(is_at_end(&mut stream));
            }
            assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
            driver.assert_no_packet();
            assert_eq!(driver.streams(), 0);
        }
    }
}
