//! What there is in a network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_protocol::{Address, Interface, Neighbour, Network, Route};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::Netlink;

/// An interface of Ethernet's kind that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
}

/// The links, in the order of their indices.
pub(super) fn links(netlink: &Netlink) -> io::Result<Vec<Link>> {
    let mut links: Vec<_> = all(netlink, describe_link)?;
    links.sort_by_key(|link: &Link| link.index);
    Ok(links)
}

/// The name of an interface that is up and carries something else than frames of
/// Ethernet, if there is one.
pub(super) fn strange_link(netlink: &Netlink) -> io::Result<Option<String>> {
    let name_if_strange = |link: &LinkMessage| {
        let known = [LinkLayerType::Ether, LinkLayerType::Loopback];
        let is_up = link.header.flags.contains(LinkFlags::Up);
        let is_strange = is_up && !known.contains(&link.header.link_layer_type);
        let name = link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
        is_strange.then(|| name.unwrap_or_default())
    };
    Ok(all(netlink, name_if_strange)?.pop())
}

fn all<T>(netlink: &Netlink, pick: impl Fn(&LinkMessage) -> Option<T>) -> io::Result<Vec<T>> {
    let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
    netlink.list(question, |message| match message {
        RouteNetlinkMessage::NewLink(link) => pick(&link),
        _ => None,
    })
}

fn describe_link(link: &LinkMessage) -> Option<Link> {
    let header = &link.header;
    let is_ethernet = header.link_layer_type == LinkLayerType::Ether;
    if !is_ethernet || !header.flags.contains(LinkFlags::Up) {
        return None;
    }
    let blank = Link {
        index: header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
    };
    link.attributes
        .iter()
        .try_fold(blank, |mut link, attribute| {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok()?,
                _ => {}
            }
            Some(link)
        })
}

/// What the guest has to know of a namespace with these links.
pub(super) fn network(netlink: &Netlink, links: &[Link]) -> io::Result<Network> {
    let addresses = addresses(netlink)?;
    let interface = |link: &Link| {
        let own = addresses.iter().filter(|(index, _)| *index == link.index);
        Interface {
            name: link.name.clone(),
            mtu: link.mtu,
            addresses: own.map(|(_, address)| *address).collect(),
        }
    };
    Ok(Network {
        interfaces: links.iter().map(interface).collect(),
        routes: routes(netlink, links)?,
        neighbours: neighbours(netlink, links)?,
    })
}

fn position(links: &[Link], index: u32) -> Option<u32> {
    let position = links.iter().position(|link| link.index == index)?;
    u32::try_from(position).ok()
}

fn addresses(netlink: &Netlink) -> io::Result<Vec<(u32, Address)>> {
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    netlink.list(question, |message| match message {
        RouteNetlinkMessage::NewAddress(address) => describe_address(&address),
        _ => None,
    })
}

/// Link-local addresses of IPv6 follow from the hardware's, in the guest, too.
fn describe_address(message: &AddressMessage) -> Option<(u32, Address)> {
    let find =
        |pick: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(pick);
    // On a link between two, the local one is this end's, the other the peer's.
    let local = find(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let other = find(|a| match a {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    let ip = local.or(other)?;
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return None;
    }
    let broadcast = find(|a| match a {
        AddressAttribute::Broadcast(ip) => Some(IpAddr::V4(*ip)),
        _ => None,
    });
    let address = Address {
        ip,
        prefix: message.header.prefix_len,
        peer: other.filter(|other| *other != ip),
        broadcast,
    };
    Some((message.header.index, address))
}

/// Those of the main table that somebody has added: the kernel adds the others by
/// itself. Those by which gateways are reached come first.
fn routes(netlink: &Netlink, links: &[Link]) -> io::Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let question = RouteNetlinkMessage::GetRoute(question);
        routes.extend(netlink.list(question, |message| match message {
            RouteNetlinkMessage::NewRoute(route) => describe_route(&route, links),
            _ => None,
        })?);
    }
    routes.sort_by_key(|route| route.gateway.is_some());
    Ok(routes)
}

fn describe_route(message: &RouteMessage, links: &[Link]) -> Option<Route> {
    let header = &message.header;
    let is_ours = header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
        && header.protocol != RouteProtocol::Kernel;
    if !is_ours {
        return None;
    }
    let everywhere = match header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let mut interface = None;
    let mut route = Route {
        interface: 0,
        destination: everywhere,
        prefix: header.destination_prefix_length,
        gateway: None,
        source: None,
        metric: None,
        on_link: header.flags.contains(RouteFlags::Onlink),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = position(links, *index),
            RouteAttribute::Destination(to) => route.destination = ip(to)?,
            RouteAttribute::Gateway(via) => route.gateway = ip(via),
            // By way of another family, or of several: not what it would become.
            RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => return None,
            RouteAttribute::PrefSource(from) => route.source = ip(from),
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            _ => {}
        }
    }
    route.interface = interface?;
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn neighbours(netlink: &Netlink, links: &[Link]) -> io::Result<Vec<Neighbour>> {
    let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    netlink.list(question, |message| match message {
        RouteNetlinkMessage::NewNeighbour(neighbour) => describe_neighbour(&neighbour, links),
        _ => None,
    })
}

fn describe_neighbour(message: &NeighbourMessage, links: &[Link]) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let attributes = &message.attributes;
    let ip = attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    let mac = attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })?;
    // Groups have addresses that follow from theirs.
    (!ip.is_multicast()).then_some(())?;
    Some(Neighbour {
        interface: position(links, message.header.ifindex)?,
        ip,
        mac,
    })
}
