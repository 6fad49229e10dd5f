//! Orders to the kernel's network (`rtnetlink(7)`), one at a time.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NLM_F_REQUEST | NLM_F_ACK`.
const FLAGS: u16 = 1 | 4;

/// Length of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;

/// The answer to an order, by its type.
const NLMSG_ERROR: u16 = 2;

/// A message under construction, in the host's byte order.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// One of this type (`RTM_…`) with the family's header.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(FLAGS | flags).to_ne_bytes());
        let mut message = Self(bytes);
        message.extend(header);
        message
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(attribute.to_ne_bytes());
        self.extend(value);
        self
    }

    /// Adds an attribute if there is a value for it.
    pub(super) fn with_some(self, attribute: u16, value: Option<impl AsRef<[u8]>>) -> Self {
        match value {
            Some(value) => self.with(attribute, value.as_ref()),
            None => self,
        }
    }

    /// Everything is aligned to four bytes.
    fn extend(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// An address's bytes.
pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

/// Its family (`AF_…`).
pub(super) fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => AddressFamily::INET.as_raw() as u8,
        IpAddr::V6(_) => AddressFamily::INET6.as_raw() as u8,
    }
}

/// A socket.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Has something done.
    pub(super) fn order(&self, message: Message) -> io::Result<()> {
        rustix::net::send(&self.0, &message.finish(), SendFlags::empty())?;
        let mut answer = [0; 1024];
        let (_, len) = rustix::net::recv(&self.0, &mut answer, RecvFlags::empty())?;
        match result(&answer[..len.min(answer.len())]) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The code in an answer, 0 or a negative one.
fn result(answer: &[u8]) -> Option<i32> {
    let kind = answer.get(4..6)?.try_into().ok()?;
    if u16::from_ne_bytes(kind) != NLMSG_ERROR {
        return None;
    }
    let code = answer.get(HEADER_LEN..HEADER_LEN + 4)?.try_into().ok()?;
    Some(i32::from_ne_bytes(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_aligned_and_know_their_length() {
        let message = Message::new(16, 0x400, &[1, 2]).with(3, b"eth0\0").finish();
        assert_eq!(message.len(), 16 + 4 + 12);
        assert_eq!(message[..4], 32_u32.to_ne_bytes());
        assert_eq!(message[6..8], 0x405_u16.to_ne_bytes());
        assert_eq!(message[20..22], 9_u16.to_ne_bytes());
    }

    #[test]
    fn answers_have_a_code() {
        let mut answer = vec![0; 20];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[16..].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(result(&answer), Some(-17));
        assert_eq!(result(&answer[..18]), None);
        assert_eq!(result(&[0; 20]), None);
    }
}
