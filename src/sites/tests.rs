//! Tests of patch sites from bytes. Those that need the running kernel are in
//! `tests/it/sites`.

use proptest::prelude::*;

use super::{BpfAttachment, BpfProgramInfo, EventSites, HoldingProcess, Listener};
use super::{PatchedTracepoint, UnknownPart};
use crate::machine::Machine;
use crate::patch::{CodeLocation, InstructionSet, JumpEntry, JumpLayout, PatchSite, PatchState};

#[test]
fn instructions_of_sites() {
    use InstructionSet::{Arm64, Unknown, X86};
    use PatchState::{Jump, Nop, Other};

    let at = 0xffff_ffff_8100_0000;
    for (set, code, target, expected) in [
        (X86, &[0x0f, 0x1f, 0x44, 0, 0][..], at + 0xa5, (5, Nop)),
        (X86, &[0x66, 0x90, 0x48, 0x89, 0xe5], at + 0x10, (2, Nop)),
        (X86, &[0xe9, 0xa0, 0, 0, 0], at + 0xa5, (5, Jump)),
        // A jump to elsewhere is not the site's.
        (X86, &[0xe9, 0xa0, 0, 0, 0], at + 0xa6, (5, Other)),
        (X86, &[0xe9, 0xfb, 0xff, 0xff, 0xff], at, (5, Jump)),
        (X86, &[0xeb, 0x61, 0, 0, 0], at + 0x63, (2, Jump)),
        (X86, &[0xeb, 0x80, 0, 0, 0], at - 0x7e, (2, Jump)),
        // A site that is patched half way: the kernel writes a breakpoint first.
        (X86, &[0xcc, 0x1f, 0x44, 0, 0], at + 0xa5, (5, Other)),
        (X86, &[0xe9, 0], at, (2, Other)),
        (X86, &[], at, (0, Other)),
        (Arm64, &[0x1f, 0x20, 0x03, 0xd5, 0x90], at, (4, Nop)),
        (Arm64, &[0x19, 0, 0, 0x14, 0x90], at + 0x64, (4, Jump)),
        (Arm64, &[0xff, 0xff, 0xff, 0x17, 0], at - 4, (4, Jump)),
        (Arm64, &[0x19, 0, 0, 0x14, 0], at + 0x60, (4, Other)),
        // `bl`.
        (Arm64, &[0x19, 0, 0, 0x94, 0], at + 0x64, (4, Other)),
        (Unknown, &[0x0f, 0x1f, 0x44, 0, 0], at, (5, Other)),
    ] {
        assert_eq!(set.read(code, at, target), expected, "{set:?} {code:x?}");
    }
}

/// A table as the kernel has it, with entries on either side of their sites.
#[test]
fn entries_relative_to_themselves() {
    let layout = JumpLayout {
        size: 16,
        target: 4,
        key: 8,
        is_relative: true,
    };
    let start: u64 = 0xffff_ffff_8288_0b10;
    let entries: [(u64, u64, u64, u64); 3] = [
        (
            0xffff_ffff_8100_0010,
            0xffff_ffff_8100_0099,
            0xffff_ffff_8300_1000,
            0,
        ),
        (
            0xffff_ffff_82f0_0000,
            0xffff_ffff_82f0_0044,
            0xffff_ffff_8200_0040,
            2,
        ),
        (
            0xffff_ffff_8100_0020,
            0xffff_ffff_8100_0001,
            0xffff_ffff_8300_1010,
            1,
        ),
    ];
    let mut table = Vec::new();
    for (index, (site, target, key, flags)) in entries.iter().enumerate() {
        let at = start + index as u64 * 16;
        let near = |to: u64, from: u64| (to.wrapping_sub(from) as i32).to_ne_bytes();
        table.extend(near(*site, at));
        table.extend(near(*target, at + 4));
        table.extend((key.wrapping_sub(at + 8) | flags).to_ne_bytes());
    }
    let expected = entries.map(
        |(site, target, key, flags): (u64, u64, u64, u64)| JumpEntry {
            site,
            target,
            key,
            is_in_init: flags == 2,
        },
    );
    assert_eq!(
        layout
            .entries(&table, start, Machine::NATIVE)
            .collect::<Vec<_>>(),
        expected
    );
    // A truncated entry is left out.
    assert_eq!(
        layout.entries(&table[..47], start, Machine::NATIVE).count(),
        2
    );
}

#[test]
fn entries_that_are_addresses() {
    let layout = JumpLayout {
        size: 24,
        target: 8,
        key: 16,
        is_relative: false,
    };
    let table: Vec<u8> = [0x1000_u64, 0x1040, 0x8001]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let entries: Vec<_> = layout.entries(&table, 0x5000, Machine::NATIVE).collect();
    let expected = JumpEntry {
        site: 0x1000,
        target: 0x1040,
        key: 0x8000,
        is_in_init: false,
    };
    assert_eq!(entries, [expected]);
}

#[test]
fn symbols_as_the_kernel_prints_them() {
    let parse = |text| CodeLocation::parse(text).map(|found| found.to_string());
    for (printed, shown) in [
        (
            "netif_rx_internal+0x1c/0x120",
            Some("netif_rx_internal+0x1c"),
        ),
        ("xfs_iread+0x0/0x90 [xfs]", Some("xfs_iread+0x0 [xfs]")),
        ("f.cold+0x5/0x10", Some("f.cold+0x5")),
        (
            "bpf_prog_7b0346d7cac7b8a6_x+0x1/0x2 [bpf]",
            Some("bpf_prog_7b0346d7cac7b8a6_x+0x1 [bpf]"),
        ),
        ("0xffffffff81000000", None),
        ("f+0x5", None),
        ("f+5/0x10", None),
        ("f+0x5/0x10 xfs", None),
        ("", None),
    ] {
        assert_eq!(parse(printed).as_deref(), shown, "{printed}");
    }
}

proptest! {
    /// Any bytes can be read, and a jump counts only if it leads to its own target.
    #[test]
    fn any_code(code in prop::collection::vec(any::<u8>(), 0..8), at: u64, target: u64) {
        for set in [InstructionSet::X86, InstructionSet::Arm64, InstructionSet::Unknown] {
            let (length, state) = set.read(&code, at, target);
            prop_assert!(length <= code.len() && length <= InstructionSet::LONGEST);
            prop_assert!(state != PatchState::Freed);
        }
    }

    #[test]
    fn any_table(table in prop::collection::vec(any::<u8>(), 0..80), start: u64, size in 0usize..40) {
        let layout = JumpLayout { size, target: 4, key: 8, is_relative: size % 2 == 0 };
        let count = layout.entries(&table, start, Machine::NATIVE).count();
        prop_assert_eq!(count, table.len() / size.max(1));
    }
}

/// The output of `--json` can be read again.
#[test]
fn json_is_read_again() {
    let location = CodeLocation::parse("netif_rx_internal+0x1c/0x130 [net]").expect("a place");
    let site = PatchSite {
        address: 0xffff_ffff_81e5_eddc,
        location: Some(location.clone()),
        bytes: vec![0xe9, 0xa0, 0, 0, 0],
        state: PatchState::Jump,
        target: u64::MAX,
        target_location: None,
    };
    let holder = HoldingProcess {
        pid: 1,
        comm: "init".to_owned(),
        descriptors: 2,
    };
    let listeners = vec![
        Listener::Ftrace {
            instance: None,
            is_filtered: true,
            is_soft_disabled: false,
        },
        Listener::Perf {
            events: 2,
            inherited: 1,
            holders: vec![holder.clone()],
        },
        Listener::Bpf {
            program: BpfProgramInfo {
                id: 3,
                name: "netif_rx".to_owned(),
                tag: "7b0346d7cac7b8a6".to_owned(),
            },
            attachment: BpfAttachment::RawTracepoint,
            link: Some(4),
            holders: vec![holder],
        },
        Listener::Function {
            function: None,
            module: Some("net".to_owned()),
        },
    ];
    let sites = EventSites {
        event: Some("net:netif_rx".parse().expect("a name")),
        tracepoint: Some(PatchedTracepoint {
            name: "netif_rx".to_owned(),
            module: None,
            enabled: 1,
            sites: Some(vec![site]),
            static_call: Some(location),
        }),
        listeners,
        unknown: vec![
            UnknownPart::Tables,
            UnknownPart::Modules {
                names: vec!["net".to_owned()],
            },
            UnknownPart::Processes { count: 5 },
        ],
    };
    let json = serde_json::to_string(&sites).expect("JSON");
    let read: EventSites = serde_json::from_str(&json).expect("the same sites");
    assert_eq!(read, sites, "{json}");
    for (good, bad) in [
        ("0xffffffff81e5eddc", "81e5eddc"),
        ("e9a0000000", "e9a"),
        ("e9a0", "+1a0"),
    ] {
        let other = json.replace(good, bad);
        assert_ne!(other, json);
        serde_json::from_str::<EventSites>(&other).expect_err(bad);
    }
}
