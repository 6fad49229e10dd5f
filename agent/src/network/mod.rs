//! Makes the guest's network devices what the host's interfaces were.

mod netlink;
mod settle;
mod uapi;

use std::io;

use bulkhead_protocol::{Address, Interface, Neighbour, Network, Route};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub(crate) use settle::settle;

use netlink::{Message, Netlink, family, octets};

/// Why the network is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// There is no netlink to be had.
    #[error("cannot talk to the kernel's network")]
    Netlink(#[source] io::Error),
    /// The guest has fewer devices than it should.
    #[error("network device {device} is missing")]
    Device { device: String, source: io::Error },
    /// A device could not be set up.
    #[error("cannot set up interface {name}")]
    Interface { name: String, source: io::Error },
    /// An address could not be added.
    #[error("cannot give interface {name} the address {address:?}")]
    Address {
        name: String,
        address: Address,
        source: io::Error,
    },
    /// A route could not be added.
    #[error("cannot add the route {route:?}")]
    Route { route: Route, source: io::Error },
    /// A neighbour could not be added.
    #[error("cannot add the neighbour {neighbour:?}")]
    Neighbour {
        neighbour: Neighbour,
        source: io::Error,
    },
    /// Something is to be added to an interface that there is not.
    #[error("there is no interface {0}")]
    NoInterface(u32),
}

/// Sets up the network. Its interfaces are the guest's network devices in the order
/// in which the kernel has found them: `eth0`, `eth1`, ….
pub(crate) fn set_up(network: &Network) -> Result<(), NetworkError> {
    let netlink = Netlink::open().map_err(NetworkError::Netlink)?;
    let indices = network.interfaces.iter().enumerate();
    let indices = indices
        .map(|(i, _)| index_of(&format!("eth{i}")))
        .collect::<Result<Vec<_>, _>>()?;
    let interfaces = || indices.iter().copied().zip(&network.interfaces);
    for (index, interface) in interfaces() {
        // One may be to have the name that another still has.
        rename(&netlink, index, &format!("taken{index}"), interface)?;
    }
    for (index, interface) in interfaces() {
        rename(&netlink, index, &interface.name, interface)?;
        bring_up(&netlink, index, interface)?;
    }
    let at = |interface: u32| {
        let index = indices.get(interface as usize).copied();
        index.ok_or(NetworkError::NoInterface(interface))
    };
    for route in &network.routes {
        add_route(&netlink, at(route.interface)?, *route)?;
    }
    for neighbour in &network.neighbours {
        add_neighbour(&netlink, at(neighbour.interface)?, *neighbour)?;
    }
    Ok(())
}

fn index_of(device: &str) -> Result<u32, NetworkError> {
    let index = || -> io::Result<u32> {
        let flags = SocketFlags::CLOEXEC;
        let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let socket = rustix::net::socket_with(family, kind, flags, None)?;
        Ok(name_to_index(&socket, device)?)
    };
    index().map_err(|source| NetworkError::Device {
        device: device.to_owned(),
        source,
    })
}

fn rename(
    netlink: &Netlink,
    index: u32,
    name: &str,
    interface: &Interface,
) -> Result<(), NetworkError> {
    let mut c_string = name.as_bytes().to_vec();
    c_string.push(0);
    let message = link(index, 0).with(uapi::IFLA_IFNAME, &c_string);
    netlink.order(message).map_err(failed(interface))
}

/// Addresses come first: the interface is not seen without.
fn bring_up(netlink: &Netlink, index: u32, interface: &Interface) -> Result<(), NetworkError> {
    let mtu = interface.mtu.to_ne_bytes();
    netlink
        .order(link(index, 0).with(uapi::IFLA_MTU, &mtu))
        .map_err(failed(interface))?;
    for address in &interface.addresses {
        add_address(netlink, index, *address).map_err(|source| NetworkError::Address {
            name: interface.name.clone(),
            address: *address,
            source,
        })?;
    }
    netlink
        .order(link(index, uapi::IFF_UP))
        .map_err(failed(interface))
}

fn failed(interface: &Interface) -> impl FnOnce(io::Error) -> NetworkError {
    let name = interface.name.clone();
    move |source| NetworkError::Interface { name, source }
}

/// A change to an interface: `struct ifinfomsg`.
fn link(index: u32, up: u32) -> Message {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&up.to_ne_bytes());
    header[12..].copy_from_slice(&up.to_ne_bytes());
    Message::new(uapi::RTM_SETLINK, 0, &header)
}

/// Nobody else has it: the host's interface had it before.
fn add_address(netlink: &Netlink, index: u32, address: Address) -> io::Result<()> {
    let Address {
        ip,
        prefix,
        peer,
        broadcast,
    } = address;
    // `struct ifaddrmsg`.
    let mut header = [
        family(ip),
        prefix,
        uapi::IFA_F_NODAD,
        uapi::RT_SCOPE_UNIVERSE,
        0,
        0,
        0,
        0,
    ];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let message = Message::new(
        uapi::RTM_NEWADDR,
        uapi::NLM_F_CREATE | uapi::NLM_F_REPLACE,
        &header,
    )
    .with(uapi::IFA_LOCAL, &octets(ip))
    .with(uapi::IFA_ADDRESS, &octets(peer.unwrap_or(ip)))
    .with_some(uapi::IFA_BROADCAST, broadcast.map(octets));
    netlink.order(message)
}

fn add_route(netlink: &Netlink, index: u32, route: Route) -> Result<(), NetworkError> {
    let scope = match route.gateway {
        Some(_) => uapi::RT_SCOPE_UNIVERSE,
        None => uapi::RT_SCOPE_LINK,
    };
    let flags = if route.on_link {
        uapi::RTNH_F_ONLINK
    } else {
        0
    };
    // `struct rtmsg`.
    let mut header = [
        family(route.destination),
        route.prefix,
        0,
        0,
        uapi::RT_TABLE_MAIN,
        uapi::RTPROT_BOOT,
        scope,
        uapi::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    header[8..].copy_from_slice(&flags.to_ne_bytes());
    let destination = (route.prefix > 0).then(|| octets(route.destination));
    let message = Message::new(
        uapi::RTM_NEWROUTE,
        uapi::NLM_F_CREATE | uapi::NLM_F_REPLACE,
        &header,
    )
    .with_some(uapi::RTA_DST, destination)
    .with_some(uapi::RTA_GATEWAY, route.gateway.map(octets))
    .with_some(uapi::RTA_PREFSRC, route.source.map(octets))
    .with_some(uapi::RTA_PRIORITY, route.metric.map(u32::to_ne_bytes))
    .with(uapi::RTA_OIF, &index.to_ne_bytes());
    netlink
        .order(message)
        .map_err(|source| NetworkError::Route { route, source })
}

fn add_neighbour(netlink: &Netlink, index: u32, neighbour: Neighbour) -> Result<(), NetworkError> {
    // `struct ndmsg`.
    let mut header = [0; 12];
    header[0] = family(neighbour.ip);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&uapi::NUD_PERMANENT.to_ne_bytes());
    let message = Message::new(
        uapi::RTM_NEWNEIGH,
        uapi::NLM_F_CREATE | uapi::NLM_F_REPLACE,
        &header,
    )
    .with(uapi::NDA_DST, &octets(neighbour.ip))
    .with(uapi::NDA_LLADDR, &neighbour.mac);
    netlink
        .order(message)
        .map_err(|source| NetworkError::Neighbour { neighbour, source })
}
