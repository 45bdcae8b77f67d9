//! The class of an event, by the pointers in an image.

use tracepoints::Evidence;
use tracepoints::context::KernelSource;

use super::read;
use super::wrappings::{self, Tables};
use super::writer;

/// The pointer in the image decides between two classes that BTF cannot tell apart.
#[test]
fn classes_are_proven_by_pointers() {
    let kernel = read(wrappings::vmlinux(&writer::kernel(), Tables::New));
    for (event, class) in [("shapes:first", "shape_b"), ("shapes:second", "shape_a")] {
        let context = kernel.tracepoint(event).expect("an event").context();
        let context = context.expect("a context");
        assert_eq!(context.class(), Some(class));
        assert_eq!(context.evidence(), &Evidence::Kernel(KernelSource::Image));
        assert!(context.evidence().is_proof());
        assert_eq!(
            context.evidence().to_string(),
            "the kernel's image says which of the classes that fit"
        );
    }
}

/// Tables that contradict each other tell no class.
#[test]
fn a_contradiction_is_no_class() {
    let mut kernel = writer::kernel();
    let function = kernel
        .symbols
        .iter_mut()
        .find(|(name, _)| name == "__bpf_trace_shape_b")
        .expect("a symbol");
    function.0 = "__bpf_trace_shape_a".to_owned();
    let kernel = read(wrappings::vmlinux(&kernel, Tables::New));
    let context = kernel
        .tracepoint("shapes:first")
        .expect("an event")
        .context();
    assert_eq!(context.expect("a context").evidence(), &Evidence::Ambiguous);
}
