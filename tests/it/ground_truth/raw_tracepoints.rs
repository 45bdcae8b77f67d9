//! The arguments of tracepoints, against the counts read from the kernels' own
//! memory (`truth/raw_tp.tsv`: name, function, number of arguments).

use std::collections::HashSet;
use std::fs;

use crate::support;
use tracepoints::{Error, Kernel, context::RawTracepoint};

#[test]
fn as_many_arguments_as_the_kernel_says() {
    for root in support::corpus() {
        let Ok(truth) = fs::read_to_string(root.join("truth/raw_tp.tsv")) else {
            continue;
        };
        let kernel = Kernel::at(&root).expect("a kernel");
        let name = support::name(&root);
        // In this big-endian kernel's capture the column holds the word after the count,
        // `writable_size`: 0, or 4 for bpf_test_finish(int *).
        let is_next_word = name == "6.12.107-s390x";
        let (mut rows, mut named) = (0, 0);
        for row in truth.lines() {
            let mut row = row.split('\t');
            let (Some(tracepoint), Some(_), Some(count)) = (row.next(), row.next(), row.next())
            else {
                panic!("a row of three");
            };
            let raw = kernel.raw_tracepoint(tracepoint).expect(tracepoint);
            let arguments = raw.arguments();
            rows += 1;
            named += usize::from(arguments.iter().all(|argument| argument.name().is_some()));
            if !is_next_word {
                assert_eq!(arguments.len().to_string(), count, "{raw}");
            }
        }
        println!("{name}: {rows} tracepoints, {named} with all arguments named");
    }
}

#[test]
fn bare_tracepoints_are_those_without_an_event() {
    for root in support::corpus() {
        let kernel = Kernel::at(&root).expect("a kernel");
        if matches!(kernel.btf_objects(), Err(Error::NoBtf { .. })) {
            assert!(matches!(
                kernel.bare_tracepoints(),
                Err(Error::NoBtf { .. })
            ));
            continue;
        }
        let events = kernel.events().expect("events");
        let events: HashSet<&str> = events.names().iter().map(|name| name.event()).collect();
        let bare = kernel.bare_tracepoints().expect("bare tracepoints");
        assert!(bare.iter().all(|raw| !events.contains(raw.name())));
        // The captured list covers vmlinux only, not modules.
        let Ok(truth) = fs::read_to_string(root.join("truth/raw_tp.tsv")) else {
            continue;
        };
        let mut expected: Vec<&str> = truth
            .lines()
            .filter_map(|row| row.split('\t').next())
            .collect();
        expected.retain(|name| !events.contains(name));
        expected.sort_unstable();
        let found: Vec<&str> = bare
            .iter()
            .filter(|raw| raw.home() == "vmlinux")
            .map(RawTracepoint::name)
            .collect();
        assert_eq!(found, expected, "{}", support::name(&root));
        println!("{}: {found:?}", support::name(&root));
    }
}
