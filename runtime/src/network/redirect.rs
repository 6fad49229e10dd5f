//! Joins two interfaces so that whatever comes in at the one goes out at the other
//! (`tc-mirred(8)`): what a bridge would do, without being seen.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption, TcU32Key,
    TcU32Selector, TcU32SelectorFlags,
};

use super::netlink::Netlink;

/// All protocols (`ETH_P_ALL`), at the first priority: the upper half of
/// `tcm_info` is the priority, the lower the protocol in network byte order.
const ALL_PROTOCOLS: u32 = 1 << 16 | (3_u16.to_be() as u32);

/// Sends what comes in at `from` out at `to`. What others had done there is undone:
/// nothing of it would be reached.
pub(super) fn add(netlink: &Netlink, from: u32, to: u32) -> io::Result<()> {
    remove(netlink, from)?;
    let ingress = RouteNetlinkMessage::NewQueueDiscipline(ingress(from));
    netlink.order(ingress, NLM_F_CREATE | NLM_F_EXCL)?;
    let filter = RouteNetlinkMessage::NewTrafficFilter(filter(from, to));
    netlink.order(filter, NLM_F_CREATE | NLM_F_EXCL)
}

/// Undoes it, if it was done.
pub(super) fn remove(netlink: &Netlink, from: u32) -> io::Result<()> {
    match netlink.order(RouteNetlinkMessage::DelQueueDiscipline(ingress(from)), 0) {
        Err(error) if is_missing(&error) => Ok(()),
        other => other,
    }
}

/// There is nothing there; the kernel has several ways to say so.
fn is_missing(error: &io::Error) -> bool {
    let missing = [libc::ENOENT, libc::EINVAL, libc::ENODEV];
    error
        .raw_os_error()
        .is_some_and(|code| missing.contains(&code))
}

fn on_link(index: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = i32::try_from(index).unwrap_or_default();
    message
}

fn ingress(index: u32) -> TcMessage {
    let mut message = on_link(index);
    message.header.handle = TcHandle::from(0xffff_0000);
    message.header.parent = TcHandle::INGRESS;
    message.attributes = vec![TcAttribute::Kind("ingress".into())];
    message
}

/// A filter that matches everything, with the classifier that all kernels have.
fn filter(from: u32, to: u32) -> TcMessage {
    let mut anything = TcU32Selector::default();
    anything.flags = TcU32SelectorFlags::Terminal;
    anything.nkeys = 1;
    anything.keys = vec![TcU32Key::default()];
    let mut redirect = TcMirror::default();
    redirect.generic.action = TcActionType::Stolen;
    redirect.eaction = TcMirrorActionType::EgressRedir;
    redirect.ifindex = to;
    let redirect = TcActionOption::Mirror(TcActionMirrorOption::Parms(redirect));
    let mut action = TcAction::default();
    action.tab = 1;
    action.attributes = vec![
        TcActionAttribute::Kind("mirred".into()),
        TcActionAttribute::Options(vec![redirect]),
    ];
    let mut message = on_link(from);
    message.header.parent = TcHandle::from(0xffff_0000);
    message.header.info = ALL_PROTOCOLS;
    message.attributes = vec![
        TcAttribute::Kind("u32".into()),
        TcAttribute::Options(vec![
            TcOption::U32(TcFilterU32Option::Selector(anything)),
            TcOption::U32(TcFilterU32Option::Action(vec![action])),
        ]),
    ];
    message
}
