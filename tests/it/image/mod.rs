//! Kernels read from their images, without booting them (feature `image`).

mod classes;
mod forms;
mod hostile;
mod twins;
mod wrappings;
mod writer;

use std::fs;

use tracepoints::{Error, EventName, Kernel};

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

/// A package is a root like any other: unpacked, or one file of it.
#[test]
fn an_unpacked_package_is_a_root() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path();
    let modules = root.join("lib/modules/6.12.34-test/kernel/drivers");
    fs::create_dir_all(&modules).expect("a directory");
    let is_package = || match Kernel::at(root) {
        Ok(_) => true,
        Err(Error::NotAKernel { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    assert!(!is_package());
    fs::create_dir(root.join("boot")).expect("a directory");
    let image = wrappings::vmlinux(&writer::kernel(), Tables::New);
    let image = wrappings::bz_image(&forms::gzip(&image));
    fs::write(root.join("boot/vmlinuz-6.12.34-test"), &image).expect("a file");
    let module = writer::module("drum", "drum_beat", "drum_class");
    fs::write(modules.join("drum.ko"), &module).expect("a file");
    let module = writer::module("horn", "horn_blow", "horn_class");
    fs::write(modules.join("horn.ko.gz"), forms::gzip(&module)).expect("a file");
    fs::write(modules.join("broken.ko.xz"), "\u{fd}7zXZ").expect("a file");
    assert!(is_package());

    let names = |kernel: &Kernel| {
        let names = kernel.events().expect("events").into_iter();
        let names = names.filter(|name: &EventName| name.category() == "modular");
        names
            .map(|name| name.event().to_owned())
            .collect::<Vec<_>>()
    };
    let kernel = Kernel::at(root).expect("a kernel");
    assert_eq!(names(&kernel), ["drum_beat", "horn_blow"]);
    let [unreadable] = kernel.unreadable() else {
        panic!("{:?}", kernel.unreadable());
    };
    assert!(unreadable.contains("broken.ko.xz"), "{unreadable}");

    let kernel = Kernel::at(modules.join("horn.ko.gz")).expect("a module of a package");
    assert_eq!(names(&kernel), ["horn_blow"]);
    let kernel = Kernel::at(root.join("boot/vmlinuz-6.12.34-test")).expect("an image");
    assert!(names(&kernel).is_empty());

    // A module without its kernel, and a package with two.
    fs::write(root.join("alone.ko"), &module).expect("a file");
    let error = Kernel::at(root.join("alone.ko")).expect_err("no kernel");
    assert!(crate::support::with_causes(&error).contains("a module alone"));
    let mut other = image;
    other.push(0);
    fs::write(root.join("boot/vmlinuz-other"), other).expect("a file");
    let error = Kernel::at(root).expect_err("two kernels");
    assert!(crate::support::with_causes(&error).contains("several kernels' images"));
}

/// A Debian package: an archive of `ar` around a compressed archive of `tar`.
#[test]
fn a_debian_package_is_a_root() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = wrappings::image(&writer::kernel(), Tables::New);
    let module = writer::module("drum", "drum_beat", "drum_class");
    let mut data = tar::Builder::new(Vec::new());
    for (path, bytes) in [
        ("./boot/vmlinuz-6.12.34-test", &image),
        ("./lib/modules/6.12.34-test/kernel/drum.ko", &module),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        data.append_data(&mut header, path, &**bytes)
            .expect("a file");
    }
    let data = forms::gzip(&data.into_inner().expect("an archive"));
    let mut package = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("data.tar.gz", &data)] {
        let header = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            100_644,
            content.len()
        );
        package.extend(header.bytes());
        package.extend(content);
        package.resize(package.len().next_multiple_of(2), b'\n');
    }
    let path = dir.path().join("linux-image.deb");
    fs::write(&path, package).expect("a file");
    let kernel = Kernel::at(&path).expect("a kernel");
    assert!(kernel.tracepoint("modular:drum_beat").is_ok());
    assert!(kernel.tracepoint("shapes:first").is_ok());
    assert!(kernel.unreadable().is_empty());
}
