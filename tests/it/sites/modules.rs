//! Tracepoints of modules, and their callbacks. The guests of `tests/vm` have modules.

use std::fs;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use tracepoints::EventName;
use tracepoints::sites::{Listener, PatchState};

use super::{are_all, sites, unknown_parts};
use crate::support;
use crate::support::live::live;

/// Sends a request of generic netlink, and returns the first answer's bytes.
fn request(kind: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    /// `NLM_F_REQUEST | NLM_F_ACK`.
    const FLAGS: u16 = 5;
    let protocol = Some(netlink::GENERIC);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol);
    let socket = socket.expect("a socket");
    let length = 20 + attributes.len() as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), FLAGS.to_ne_bytes()].concat());
    // No number, no sender; then the command and its version.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, &message, SendFlags::empty(), &kernel).expect("it is sent");
    let mut answer = vec![0; 8192];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty()).expect("an answer");
    answer.truncate(length);
    answer
}

/// The number of the family `NET_DM`; `None` where the kernel has no drop monitor.
fn drop_monitor() -> Option<u16> {
    const CONTROL: u16 = 0x10;
    const GET_FAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    let mut attribute = [11_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat();
    attribute.extend(b"NET_DM\0\0");
    let answer = request(CONTROL, GET_FAMILY, &attribute);
    let number = |at: usize| {
        let bytes = answer.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| u16::from_ne_bytes(*bytes))
    };
    if number(4)? != CONTROL {
        return None;
    }
    let mut at = 20;
    while let (Some(length), Some(kind)) = (number(at), number(at + 2)) {
        if kind == FAMILY_ID {
            return number(at + 4);
        }
        at += usize::from(length).next_multiple_of(4).max(4);
    }
    None
}

#[test]
fn a_modules_callback_is_named() {
    const START: u8 = 3;
    const STOP: u8 = 4;
    let Some(kernel) = live() else { return };
    let loaded = fs::read_to_string("/proc/modules").unwrap_or_default();
    if !loaded.lines().any(|line| line.starts_with("drop_monitor ")) {
        return support::skip("the module drop_monitor is not loaded");
    }
    let names: [EventName; 2] =
        ["skb:kfree_skb", "napi:napi_poll"].map(|name| name.parse().expect("a name"));
    let Some(before) = sites(&kernel, &names) else {
        return;
    };
    let family = drop_monitor().expect("the drop monitor's family");
    let tell = |command| {
        let answer = request(family, command, &[]);
        // A report, without an error.
        assert_eq!((answer[4], &answer[16..20]), (2, &[0; 4][..]));
    };
    tell(START);
    let during = sites(&kernel, &names).expect("the same kernel");
    tell(STOP);
    let after = sites(&kernel, &names).expect("the same kernel");
    for ((before, during), after) in before
        .events()
        .iter()
        .zip(during.events())
        .zip(after.events())
    {
        assert!(are_all(before, PatchState::Nop) && are_all(after, PatchState::Nop));
        assert!(are_all(during, PatchState::Jump), "{during:?}");
        let [
            Listener::Function {
                function: Some(function),
                module: Some(module),
            },
        ] = during.listeners()
        else {
            panic!("{during:?}");
        };
        assert_eq!(module, "drop_monitor");
        assert!(function.contains("_hit"), "{function}");
        assert_eq!((before.listeners(), after.listeners()), (&[][..], &[][..]));
    }
}

/// What a module defines has its sites in that module, and in others that use it: ata_piix
/// has some of libata's.
#[test]
fn tracepoints_of_modules() {
    let Some(kernel) = live() else { return };
    let names: Vec<EventName> = kernel.events().expect("events").into_iter().collect();
    let Some(found) = sites(&kernel, &names) else {
        return;
    };
    assert!(unknown_parts(&found).is_empty(), "{:?}", found.unknown());
    let (mut events, mut own, mut others) = (0, 0, 0);
    for event in found.events() {
        let tracepoint = event.tracepoint().expect("a tracepoint");
        let Some(module) = &tracepoint.module else {
            continue;
        };
        events += 1;
        for site in tracepoint.sites.iter().flatten() {
            let Some(location) = &site.location else {
                assert_eq!(site.state, PatchState::Freed, "{event:?}");
                continue;
            };
            match &location.module {
                Some(of) if of == module => own += 1,
                Some(_) => others += 1,
                None => panic!("in vmlinux: {event:?}"),
            }
        }
    }
    if events == 0 {
        return support::skip("no module with tracepoints is loaded");
    }
    eprintln!("{events} events of modules: {own} sites there, {others} in other modules");
    assert!(own > others);
}
