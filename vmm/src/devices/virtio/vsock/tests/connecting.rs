//! How connections begin.

use std::io::Write;
use std::os::unix::net::UnixListener;

use super::driver::{
    Driver, GUEST_CID, Packet, Setup, Socket, connect_through, connect_to_guest, connect_to_host,
    is_at_end, read_now,
};
use crate::devices::virtio::device::VirtioDevice;
use crate::devices::virtio::vsock::Vsock;
use crate::devices::virtio::vsock::muxer::MAX_STREAMS;
use crate::devices::virtio::vsock::packet::{Header, Op};

#[test]
fn config_space_tells_context_id() {
    let (device, _directory, _path) = Driver::device();
    assert_eq!(device.device_type(), 19);
    let mut config = [0xff; 12];
    device.read_config(0, &mut config);
    assert_eq!(config, [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut byte = [0xff];
    device.read_config(u64::MAX, &mut byte);
    assert_eq!(byte, [0]);
}

#[test]
fn socket_in_use_is_refused() {
    let (_device, _directory, path) = Driver::device();
    let error = Vsock::new(GUEST_CID, &path).unwrap_err();
    assert!(error.to_string().contains("vsock"));
}

#[test]
fn guest_connects_and_both_talk() {
    for event_idx in [false, true] {
        let mut driver = Driver::with(Setup {
            event_idx,
            ..Setup::default()
        });
        let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
        for round in 0..100u8 {
            socket.write(&mut driver, &[round; 100]);
            assert_eq!(read_now(&mut stream), [round; 100]);
            stream.write_all(&[!round; 50]).unwrap();
            assert_eq!(socket.read(&mut driver), [!round; 50]);
        }
    }
}

#[test]
fn host_connects_and_both_talk() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_guest(&mut driver, 1024);
    assert!(socket.host_port >= 1 << 30);
    stream.write_all(b"ping").unwrap();
    assert_eq!(socket.read(&mut driver), b"ping");
    socket.write(&mut driver, b"pong");
    assert_eq!(read_now(&mut stream), b"pong");
}

#[test]
fn bytes_behind_the_request_reach_the_guest() {
    let mut driver = Driver::new();
    let mut stream = driver.dial();
    stream.write_all(b"CONNECT 7\nhello").unwrap();
    let request = driver.receive();
    driver.assert_no_packet();
    let mut socket = Socket::new(7, request.header.src_port);
    socket.send(&mut driver, Op::Response);
    assert_eq!(socket.read(&mut driver), b"hello");
}

#[test]
fn host_that_connects_before_the_driver_is_up_waits() {
    let (device, directory, path) = Driver::device();
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.write_all(b"CONNECT 7\n").unwrap();
    let mut driver = Driver::activate(device, directory, Setup::default());
    assert_eq!(driver.receive().header.dst_port, 7);
}

#[test]
fn request_waits_for_receive_buffers() {
    let mut driver = Driver::new();
    driver.refill = false;
    driver.take_rx_buffers();
    let mut stream = driver.dial();
    stream.write_all(b"CONNECT 7\n").unwrap();
    driver.assert_no_packet();
    driver.give_rx_buffers();
    assert_eq!(driver.receive().op(), Op::Request);
}

#[test]
fn guest_hears_that_nobody_listens() {
    let mut driver = Driver::new();
    let mut socket = Socket::new(5000, 1024);
    socket.send(&mut driver, Op::Request);
    assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
    driver.assert_no_packet();
}

#[test]
fn guest_hears_that_listener_is_too_slow() {
    let mut driver = Driver::new();
    let listener = driver.listen(1024);
    rustix::net::listen(&listener, 0).unwrap();
    let mut last = None;
    for port in 5000..5003 {
        let mut socket = Socket::new(port, 1024);
        socket.send(&mut driver, Op::Request);
        last = Some(socket.receive(&mut driver).op());
    }
    assert_eq!(last, Some(Op::Reset));
}

#[test]
fn host_hears_that_guest_refuses() {
    let mut driver = Driver::new();
    let mut stream = driver.dial();
    stream.write_all(b"CONNECT 7\n").unwrap();
    let request = driver.receive();
    let socket = Socket::new(7, request.header.src_port);
    socket.send(&mut driver, Op::Reset);
    assert!(is_at_end(&mut stream));
    driver.assert_no_packet();
}

#[test]
fn nonsense_instead_of_a_request_ends_the_stream() {
    for bytes in ["CONNECT x\n", "GET / HTTP/1.1 and so on and on\r\n"] {
        let mut driver = Driver::new();
        let mut stream = driver.dial();
        stream.write_all(bytes.as_bytes()).unwrap();
        driver.assert_no_packet();
        let mut rest = Vec::new();
        // What was not read makes it a reset.
        assert!(std::io::Read::read_to_end(&mut stream, &mut rest).is_err() || rest.is_empty());
    }
}

#[test]
fn host_that_gives_up_before_its_request_is_forgotten() {
    let mut driver = Driver::new();
    driver.run();
    let before = driver.streams();
    let mut unfinished = driver.dial();
    unfinished.write_all(b"CONNECT 1").unwrap();
    let silent = driver.dial();
    driver.run();
    drop((unfinished, silent));
    driver.assert_no_packet();
    assert_eq!(driver.streams(), before);
}

#[test]
fn port_can_be_used_again_at_once() {
    let mut driver = Driver::new();
    driver.refill = false;
    let listener = driver.listen(1024);
    let (mut socket, _first) = connect_through(&mut driver, &listener, 5000);
    // The device has a reset for the guest, for which there is no room.
    driver.take_rx_buffers();
    socket.write(&mut driver, &vec![0; 1 << 16]);
    socket.send(&mut driver, Op::Response);
    // The guest gives up by itself, and starts again.
    socket.send(&mut driver, Op::Reset);
    let mut socket = Socket::new(5000, 1024);
    driver.try_send(socket.header(Op::Request), &[]);
    driver.refill = true;
    driver.give_rx_buffers();
    assert_eq!(socket.receive(&mut driver).op(), Op::Response);
    driver.assert_no_packet();
    let (mut second, _) = listener.accept().unwrap();
    socket.write(&mut driver, b"alive");
    second.set_nonblocking(true).unwrap();
    assert_eq!(read_now(&mut second), b"alive");
}

#[test]
fn second_request_for_a_connection_ends_it() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    socket.send(&mut driver, Op::Request);
    assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
    assert!(is_at_end(&mut stream));
}

#[test]
fn reset_is_never_answered() {
    let mut driver = Driver::new();
    let (socket, mut stream) = connect_to_host(&mut driver, 5000);
    socket.send(&mut driver, Op::Reset);
    assert!(is_at_end(&mut stream));
    socket.send(&mut driver, Op::Reset);
    driver.assert_no_packet();
}

#[test]
fn packet_without_connection_is_answered_with_reset() {
    let mut driver = Driver::new();
    let mut socket = Socket::new(5000, 1024);
    for op in [
        Op::Response,
        Op::Shutdown,
        Op::ReadWrite,
        Op::CreditUpdate,
        Op::CreditRequest,
    ] {
        socket.send(&mut driver, op);
        assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
        driver.assert_no_packet();
    }
}

#[test]
fn foreign_addresses_and_types_are_refused() {
    let mut driver = Driver::new();
    let _listener = driver.listen(1024);
    let request = Socket::new(5000, 1024).header(Op::Request);
    // Another guest.
    driver.send(
        Header {
            dst_cid: 9,
            ..request
        },
        &[],
    );
    let reset = driver.receive();
    assert_eq!((reset.op(), reset.header.src_cid), (Op::Reset, 9));
    // A datagram.
    driver.send(
        Header {
            socket_type: 3,
            ..request
        },
        &[],
    );
    let reset = driver.receive();
    assert_eq!((reset.op(), reset.header.socket_type), (Op::Reset, 3));
    // Somebody else's packet.
    driver.send(
        Header {
            src_cid: 9,
            ..request
        },
        &[],
    );
    driver.assert_no_packet();
}

#[test]
fn streams_are_bounded() {
    let needed = 2 * MAX_STREAMS as u64 + 200;
    if !raise_descriptor_limit(needed) {
        eprintln!("skipped: needs {needed} file descriptors");
        return;
    }
    let mut driver = Driver::new();
    let listener = driver.listen(1024);
    let mut open = Vec::new();
    for port in 0..MAX_STREAMS as u32 {
        open.push(connect_through(&mut driver, &listener, port));
    }
    let mut refused = Socket::new(9_000_000, 1024);
    refused.send(&mut driver, Op::Request);
    assert_eq!(refused.receive(&mut driver).op(), Op::Reset);
    let mut stream = driver.dial();
    driver.assert_no_packet();
    assert!(is_at_end(&mut stream));
    // Room for one again.
    let (socket, _) = open.pop().unwrap();
    socket.send(&mut driver, Op::Reset);
    connect_to_guest(&mut driver, 5);
}

fn raise_descriptor_limit(wanted: u64) -> bool {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        return setrlimit(Resource::Nofile, limit).is_ok();
    }
    true
}

#[test]
fn reset_device_starts_afresh() {
    let mut driver = Driver::new();
    let (_socket, mut stream) = connect_to_host(&mut driver, 5000);
    let mut driver = driver.reset();
    assert!(is_at_end(&mut stream));
    let (socket, _stream) = connect_to_guest(&mut driver, 1);
    assert_eq!(socket.host_port, 1 << 30);
    connect_to_host(&mut driver, 5000);
}

#[test]
fn a_hundred_connections_at_once() {
    let mut driver = Driver::new();
    let listener = driver.listen(1024);
    let mut ends = Vec::new();
    for port in 0..50 {
        ends.push(connect_through(&mut driver, &listener, 10_000 + port));
        ends.push(connect_to_guest(&mut driver, 20_000 + port));
    }
    for round in 0..5u8 {
        for (index, (_, stream)) in ends.iter_mut().enumerate() {
            stream.write_all(&[round, index as u8]).unwrap();
        }
        driver.run();
        let packets: Vec<Packet> = driver.inbox.drain(..).collect();
        assert_eq!(packets.len(), ends.len());
        for packet in packets {
            let owner = ends.iter().position(|(socket, _)| socket.owns(&packet));
            assert_eq!(packet.data, [round, owner.unwrap() as u8]);
        }
        for (index, (socket, stream)) in ends.iter_mut().enumerate() {
            socket.write(&mut driver, &[round, index as u8]);
            assert_eq!(read_now(stream), [round, index as u8]);
        }
    }
    drop::<UnixListener>(listener);
}
