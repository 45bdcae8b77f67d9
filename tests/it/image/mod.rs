//! Kernels read from their images, without booting them (feature `image`).

mod classes;
mod forms;
mod hostile;
mod packages;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod sites;
mod twins;
mod wrappings;
mod writer;

use tracepoints::Kernel;

use wrappings::Tables;

/// The kernel of [`writer::kernel`], from an image.
fn read(image: Vec<u8>) -> Kernel {
    let kernel = Kernel::from_image(image, []).expect("a kernel");
    assert!(kernel.is_image());
    assert!(kernel.unreadable().is_empty(), "{:?}", kernel.unreadable());
    kernel
}

/// All formats and classes, as one text.
fn told(kernel: &Kernel) -> String {
    let listed = kernel.events().expect("events");
    let mut text = String::new();
    for name in &kernel.event_directories().expect("events") {
        let event = kernel.tracepoint(name).expect("an event");
        assert_eq!(event.id(), None);
        let context = event.context().expect("a context");
        let is_listed = listed.contains(name);
        text += &format!(
            "== {name}, listed: {is_listed}, class: {:?}, {}\n{}",
            context.class(),
            context.evidence().as_str(),
            event.format()
        );
    }
    text
}

#[test]
fn events_are_what_tracefs_would_show() {
    let kernel = read(wrappings::vmlinux(&writer::kernel(), Tables::OldButPercpu));
    insta::assert_snapshot!(told(&kernel));
}

#[test]
fn the_version_is_in_the_image() {
    let kernel = read(wrappings::image(&writer::kernel(), Tables::New));
    let version = kernel.version().expect("no file").expect("a version");
    assert_eq!(version.to_string(), "6.12.34");
}

#[test]
fn a_module_is_linked_to_its_kernel() {
    let modules = [
        writer::module("drum", "drum_beat", "drum_class"),
        b"not a module".to_vec(),
    ];
    let image = wrappings::vmlinux(&writer::kernel(), Tables::New);
    let kernel = Kernel::from_image(image, modules).expect("a kernel");
    assert_eq!(
        kernel.unreadable(),
        [
            "module 1: not a kernel image, a module or a BTF object (bzImage, Image, zboot, ELF; compressed or not)"
        ]
    );
    let beat = kernel.tracepoint("modular:drum_beat").expect("an event");
    insta::assert_snapshot!(beat.format(), @r#"
    name: drum_beat
    format:
    	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
    	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
    	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
    	field:int common_pid;	offset:4;	size:4;	signed:1;

    	field:u32 cores[2];	offset:8;	size:8;	signed:0;

    print fmt: "%u", REC->cores[2 - 1]
    "#);
}
