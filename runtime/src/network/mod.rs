//! The container's network: a namespace that an engine has prepared, whose
//! interfaces become the guest's.
//!
//! For each of them there is a tap. What comes in at the interface goes out at
//! the tap, to the VMM, and the other way round; the guest has the interface's
//! addresses, hardware's and IP's, and the namespace's routes. The host's own
//! network stack does not hear of it.

mod inspect;
mod netlink;
mod redirect;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bulkhead_protocol::Network;
use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sys;
use inspect::Link;
use netlink::Netlink;

/// Names of our taps; the kernel puts a number for `%d`.
const TAP: &str = "bulkhead";

/// Why a network cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The namespace is gone, or none.
    #[error("cannot enter the network namespace {}", path.display())]
    Enter {
        /// Where it was to be found.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The namespace is that of the caller, or the host's.
    #[error(
        "{} is the network namespace that this command runs in: its interfaces cannot be the guest's", path.display()
    )]
    Own {
        /// Where it was found.
        path: PathBuf,
    },
    /// The kernel does not say what there is.
    #[error("cannot inspect the network namespace")]
    Inspect(#[source] io::Error),
    /// Another microVM has the namespace's interfaces.
    #[error(
        "the network namespace has been taken over by another microVM: one cannot be shared by several yet"
    )]
    Taken,
    /// An interface that a microVM cannot have.
    #[error(
        "cannot take over interface {link}: it does not carry Ethernet frames, as a guest's device does"
    )]
    Strange {
        /// Its name.
        link: String,
    },
    /// There is no tap to be had.
    #[error("cannot make a tap for {link}; is /dev/net/tun there, and accessible?")]
    Tap {
        /// For which interface.
        link: String,
        /// How it failed.
        source: io::Error,
    },
    /// Traffic cannot be redirected.
    #[error(
        "cannot redirect the traffic of {link}; the kernel needs the modules sch_ingress, cls_u32 and act_mirred"
    )]
    Redirect {
        /// Of which interface.
        link: String,
        /// How it failed.
        source: io::Error,
    },
}

/// A tap for one of the guest's network devices.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Its queues, which the VMM gets.
    pub(crate) queues: Vec<File>,
    /// The hardware address of the interface it stands for.
    pub(crate) mac: [u8; 6],
    /// The interface's MTU, in bytes.
    pub(crate) mtu: u16,
}

/// A namespace's network in the guest's hands. It is given back when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    /// One for each interface, in their order, for the VMM.
    pub(crate) taps: Vec<Tap>,
    /// What the agent makes of them.
    pub(crate) network: Network,
    links: Vec<Link>,
}

/// Moves this process, which must have one thread, into a network namespace: it is
/// what the container's pid leads to.
pub(crate) fn enter(path: &Path) -> Result<(), NetworkError> {
    let enter = || -> io::Result<bool> {
        let namespace = File::open(path)?;
        let (asked, own) = (namespace.metadata()?, fs::metadata("/proc/self/ns/net")?);
        if (asked.dev(), asked.ino()) == (own.dev(), own.ino()) {
            return Ok(false);
        }
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), network)?;
        Ok(true)
    };
    let path = path.to_owned();
    match enter() {
        Ok(true) => Ok(()),
        Ok(false) => Err(NetworkError::Own { path }),
        Err(source) => Err(NetworkError::Enter { path, source }),
    }
}

/// Takes over the interfaces of this process's network namespace, with so many queues each.
/// `None` if there are none.
pub(crate) fn take_over(queues: usize) -> Result<Option<Taken>, NetworkError> {
    let netlink = Netlink::open().map_err(NetworkError::Inspect)?;
    let links = inspect::links(&netlink).map_err(NetworkError::Inspect)?;
    if links.iter().any(|link| link.name.starts_with(TAP)) {
        return Err(NetworkError::Taken);
    }
    if let Some(link) = inspect::strange_link(&netlink).map_err(NetworkError::Inspect)? {
        return Err(NetworkError::Strange { link });
    }
    if links.is_empty() {
        return Ok(None);
    }
    let network = inspect::network(&netlink, &links).map_err(NetworkError::Inspect)?;
    let mut taken = Taken {
        taps: Vec::new(),
        network,
        links,
    };
    for link in &taken.links {
        taken.taps.push(join(&netlink, link, queues)?);
    }
    Ok(Some(taken))
}

/// Makes a tap and joins it with an interface.
fn join(netlink: &Netlink, link: &Link, queues: usize) -> Result<Tap, NetworkError> {
    let name = &link.name;
    let no_tap = |source| NetworkError::Tap {
        link: name.clone(),
        source,
    };
    let (queues, tap) = sys::open_tap(&format!("{TAP}%d"), queues).map_err(no_tap)?;
    let index = set_up(netlink, &tap, link.mtu).map_err(no_tap)?;
    let redirected = redirect::add(netlink, link.index, index)
        .and_then(|()| redirect::add(netlink, index, link.index));
    redirected.map_err(|source| NetworkError::Redirect {
        link: name.clone(),
        source,
    })?;
    Ok(Tap {
        queues,
        mac: link.mac,
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
    })
}

/// Sets a tap up, and tells its index. The host says nothing on it by itself.
fn set_up(netlink: &Netlink, tap: &str, mtu: u32) -> io::Result<u32> {
    // Where this cannot be written, the guest hears the host's IPv6 come up.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6"), "1");
    let mut up = LinkMessage::default();
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    up.attributes = vec![
        LinkAttribute::IfName(tap.to_owned()),
        LinkAttribute::Mtu(mtu),
    ];
    netlink.order(RouteNetlinkMessage::SetLink(up), NLM_F_ACK)?;
    let links = inspect::links(netlink)?;
    let tap = links.into_iter().find(|link| link.name == tap);
    Ok(tap.ok_or(io::ErrorKind::NotFound)?.index)
}

impl Drop for Taken {
    fn drop(&mut self) {
        // A namespace that is gone has nothing to be given back.
        let Ok(netlink) = Netlink::open() else {
            return;
        };
        for link in &self.links {
            if let Err(error) = redirect::remove(&netlink, link.index) {
                log::debug!("cannot give {} back: {error}", link.name);
            }
        }
    }
}
