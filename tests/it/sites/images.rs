//! The sites of kernels that were never booted, where `TRACEPOINTS_IMAGES` names a directory
//! of unpacked packages.

use std::path::Path;

use tracepoints::sites::{PatchState, UnknownPart};
use tracepoints::{EventName, Kernel};

use crate::support::{name, skip};

#[test]
fn sites_are_no_ops_in_functions() {
    let Some(images) = std::env::var_os("TRACEPOINTS_IMAGES") else {
        return skip("TRACEPOINTS_IMAGES names no directory of unpacked kernel packages");
    };
    for entry in Path::new(&images).read_dir().expect("a directory") {
        let package = entry.expect("an entry").path();
        let kernel = Kernel::at(&package).expect("a package");
        let names: Vec<EventName> = kernel.events().expect("events").into_iter().collect();
        let found = kernel.sites(&names, &[]).expect("its sites");
        if found.unknown() == [UnknownPart::Tables] {
            skip(&format!("{}: no tables of sites", name(&package)));
            continue;
        }
        let (mut events, mut sites, mut of_modules) = (0, 0, 0);
        for (event, name) in found.events().iter().zip(&names) {
            assert_eq!((event.event(), event.listeners()), (Some(name), &[][..]));
            let Some(tracepoint) = event.tracepoint() else {
                let [UnknownPart::Modules { names }] = event.unknown() else {
                    panic!("{event:?}");
                };
                assert_eq!(names.len(), 1);
                of_modules += 1;
                continue;
            };
            events += 1;
            assert_eq!(tracepoint.enabled, 0);
            for site in tracepoint.sites.iter().flatten() {
                sites += 1;
                assert_eq!(site.state, PatchState::Nop, "{name}: {site:?}");
                assert!(site.location.is_some() && site.target_location.is_some());
            }
        }
        eprintln!(
            "{}: {sites} sites of {events} events, and {of_modules} events of modules",
            name(&package)
        );
        assert!(events > 100 && sites > 100);
    }
}
