//! What a guest's network is to be: that of a namespace of the host.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A network, as far as it is not the kernel's own doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its interfaces, in the order of the guest's network devices.
    pub interfaces: Vec<Interface>,
    /// Routes, in an order in which they can be added.
    pub routes: Vec<Route>,
    /// Permanent neighbours.
    pub neighbours: Vec<Neighbour>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The most that a frame may hold, in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// How many of its bits are the network's.
    pub prefix: u8,
    /// The address of the other end, on a link between two.
    pub peer: Option<IpAddr>,
    /// The address of all stations, for IPv4.
    pub broadcast: Option<IpAddr>,
}

/// A way to other networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Index of the interface in [`Network::interfaces`].
    pub interface: u32,
    /// Where to: a network's address, unspecified for all.
    pub destination: IpAddr,
    /// How many of its bits count.
    pub prefix: u8,
    /// By way of whom; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The address to speak from.
    pub source: Option<IpAddr>,
    /// Routes of a lower one are preferred.
    pub metric: Option<u32>,
    /// Whether the gateway is on the link, whatever the addresses say.
    pub on_link: bool,
}

/// A station whose hardware address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Index of the interface in [`Network::interfaces`].
    pub interface: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware's.
    pub mac: [u8; 6],
}
