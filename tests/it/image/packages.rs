//! Packages: unpacked ones, Debian's and RPM's, of our own making.

use std::fs;
use std::io::Write;

use tracepoints::{Error, EventName, Kernel};

use super::forms;
use super::wrappings::{self, Tables};
use super::writer;
use crate::support::with_causes;

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
    // As `/vmlinuz` is in Debian.
    #[cfg(unix)]
    {
        let link = root.join("vmlinuz");
        std::os::unix::fs::symlink("boot/vmlinuz-6.12.34-test", &link).expect("a link");
        let linked = Kernel::at(&link).expect("an image");
        let events = |kernel: &Kernel| kernel.events().expect("events").names().to_vec();
        assert_eq!(events(&linked), events(&kernel));
        fs::remove_file(link).expect("removed");
    }

    // A module without its kernel, and a package with two.
    fs::write(root.join("alone.ko"), &module).expect("a file");
    let error = Kernel::at(root.join("alone.ko")).expect_err("no kernel");
    assert!(with_causes(&error).contains("a module alone"));
    let mut other = image;
    other.push(0);
    fs::write(root.join("boot/vmlinuz-other"), other).expect("a file");
    let error = Kernel::at(root).expect_err("two kernels");
    assert!(with_causes(&error).contains("several kernels' images"));
}

/// A module that is not in the package is read with it, if it is this kernel's.
#[test]
fn modules_beside_an_image() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    let image = file(
        "vmlinuz",
        &wrappings::vmlinux(&writer::kernel(), Tables::New),
    );
    let release = "6.12.34-test";
    let drum = writer::module_for(Some(release), "drum", "drum_beat", "drum_class");
    let drum = file("drum.ko.xz", &forms::xz(&drum));
    let other = writer::module_for(Some("6.12.35"), "horn", "horn_blow", "horn_class");
    let other = file("horn.ko", &other);

    let kernel = Kernel::at_with_modules(&image, [&drum]).expect("a kernel");
    let beat = kernel.tracepoint("modular:drum_beat").expect("an event");
    assert!(
        beat.format()
            .fields()
            .iter()
            .any(|field| field.name() == "cores")
    );
    assert!(kernel.unreadable().is_empty());
    let machine = kernel.image_files();
    let mut machine = machine.filter(|(path, _)| *path == "proc/sys/kernel/arch");
    assert_eq!(machine.next().map(|(_, text)| text), Some(&b"x86_64\n"[..]));

    let failed = |root: &std::path::Path, module: &std::path::Path| {
        let error = Kernel::at_with_modules(root, [module]).expect_err("an error");
        with_causes(&error)
    };
    let error = failed(&image, &other);
    assert!(error.contains("horn.ko"), "{error}");
    assert!(
        error.ends_with("the module was built for 6.12.35, and the kernel is 6.12.34-test"),
        "{error}"
    );
    // In a package, only that module is left out.
    let kernel = Kernel::from_image(
        fs::read(&image).expect("a file"),
        [fs::read(&other).expect("a file")],
    );
    let kernel = kernel.expect("a kernel");
    assert_eq!(
        kernel.unreadable(),
        ["horn: the module was built for 6.12.35, and the kernel is 6.12.34-test"]
    );
    assert!(kernel.tracepoint("modular:horn_blow").is_err());

    let error = with_causes(&Kernel::at(&other).expect_err("a module alone"));
    assert!(
        error.ends_with(
            "a module alone: the image of its kernel, 6.12.35, has the types that it uses"
        ),
        "{error}"
    );
    assert!(failed(&image, &image).contains("not a kernel image"));
    let btf = file("vmlinux.btf", &writer::types().bytes());
    let captured = crate::support::fixture("6.18.15-x86_64");
    for root in [&btf, &captured] {
        let error = failed(root, &drum);
        assert!(error.contains("a captured kernel or BTF alone"), "{error}");
    }
    let nothing = dir.path().join("nothing");
    assert!(failed(&nothing, &drum).contains("nothing"));
    assert!(failed(&image, &nothing).contains("nothing"));
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

/// A lead, two headers that say nothing, and an archive of `cpio`.
fn rpm(files: &[(&str, u32, &[u8])], compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut package = vec![0; 96];
    package[..4].copy_from_slice(&[0xed, 0xab, 0xee, 0xdb]);
    for store in [&b"12345"[..], b"1234"] {
        // One entry, whose bytes do not matter.
        package.extend([0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        package.extend((store.len() as u32).to_be_bytes());
        package.extend([0; 16]);
        package.extend(store);
        if store.len() == 5 {
            package.resize(package.len().next_multiple_of(8), 0);
        }
    }
    let mut archive = Vec::new();
    for (path, mode, bytes) in files {
        let entry = cpio::newc::Builder::new(path).mode(*mode);
        let mut entry = entry.write(&mut archive, bytes.len() as u32);
        entry.write_all(bytes).expect("memory");
        entry.finish().expect("memory");
    }
    cpio::newc::trailer(&mut archive).expect("memory");
    package.extend(compress(&archive));
    package
}

#[test]
fn an_rpm_package_is_a_root() {
    const FILE: u32 = 0o100_644;
    const LINK: u32 = 0o120_777;
    let dir = tempfile::tempdir().expect("a directory");
    let image = wrappings::image(&writer::kernel(), Tables::New);
    let module = writer::module("drum", "drum_beat", "drum_class");
    let files: [(&str, u32, &[u8]); 4] = [
        ("./lib/modules/6.12.34-test/vmlinuz", FILE, &image),
        ("./lib/modules/6.12.34-test/kernel/drum.ko", FILE, &module),
        // Neither is a module.
        (
            "./lib/modules/6.12.34-test/kernel/horn.ko",
            LINK,
            b"/etc/passwd",
        ),
        ("./lib/modules/6.12.34-test/modules.dep", FILE, b""),
    ];
    let path = dir.path().join("kernel.rpm");
    for compress in [forms::gzip, forms::xz, forms::zstd, <[u8]>::to_vec] {
        fs::write(&path, rpm(&files, compress)).expect("a file");
        let kernel = Kernel::at(&path).expect("a kernel");
        assert!(kernel.tracepoint("modular:drum_beat").is_ok());
        assert!(kernel.tracepoint("shapes:first").is_ok());
        assert!(kernel.unreadable().is_empty(), "{:?}", kernel.unreadable());
    }

    // Cut anywhere, and with a name that has no end.
    let whole = rpm(&files, <[u8]>::to_vec);
    for length in (4..whole.len()).step_by(4099) {
        fs::write(&path, &whole[..length]).expect("a file");
        Kernel::at(&path).expect_err("a part");
    }
    let start = whole.windows(6).position(|window| window == b"070701");
    let start = start.expect("an entry");
    let mut long = whole;
    long[start + 94..start + 102].copy_from_slice(b"ffffffff");
    fs::write(&path, long).expect("a file");
    let error = Kernel::at(&path).expect_err("a name of 4 GiB");
    assert!(
        with_causes(&error).contains("invalid data"),
        "{}",
        with_causes(&error)
    );
}
