//! `Kernel::btf` and `Kernel::module_btf`: the same ids and the same types as the crate's.

use btf_rs::Type;
use tracepoints::{Error, Kernel};

use crate::support;

/// The struct of each event, by its id, has the name and the members of the context.
#[test]
fn ids_are_those_of_contexts() {
    let mut modules = 0;
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        for name in &kernel.events().expect("events") {
            let event = kernel.tracepoint(name).expect("an event");
            let context = event.context().expect("a context");
            let (Some(id), Some(home)) = (context.type_id(), context.home()) else {
                continue;
            };
            let module;
            let btf = match home {
                "vmlinux" => kernel.btf().expect("BTF"),
                home => {
                    modules += 1;
                    module = kernel.module_btf(home).expect("a module's BTF");
                    &module
                }
            };
            let Type::Struct(record) = btf.resolve_type_by_id(id).expect("a type") else {
                panic!("{name}: {id} is not a struct");
            };
            let Some(struct_name) = context.struct_name() else {
                continue;
            };
            assert_eq!(btf.resolve_name(&record).expect("a name"), struct_name);
            let by_btf_rs = record.members.iter().map(|member| {
                let name = btf.resolve_name(member).expect("a name");
                (name, u64::from(member.bit_offset()))
            });
            let layout = context.layout().expect("a layout");
            let ours = layout.slots().iter().map(|slot| {
                let bits = slot.bits().map(|bits| bits.start);
                let bit_offset = bits.unwrap_or(8 * u64::from(slot.offset()));
                (slot.name().to_owned(), bit_offset)
            });
            assert!(by_btf_rs.eq(ours), "{name}");
        }
    }
    assert!(modules > 0, "no event of a module was compared");
}

#[test]
fn objects_that_are_not_there() {
    let kernel = Kernel::at(support::fixture("6.18.15-x86_64")).expect("a kernel");
    for name in ["no_such", "../btf/vmlinux", "vmlinux", ""] {
        let error = kernel.module_btf(name).map(|_| ()).expect_err(name);
        assert!(matches!(error, Error::NoModule { .. }), "{error}");
    }
}
