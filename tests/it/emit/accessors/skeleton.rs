//! Constants that a libbpf skeleton sets, as README's recipe has it: by a loader in C.

use std::io::Write as _;
use std::process::Stdio;

use super::offsets::{constants, object};
use super::*;
use crate::support::live::live;

/// Reads the constants' bytes from standard input, sets them before it loads the object,
/// and prints what the programs saw of a child that it starts and of a file it unlinks.
const LOADER: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "accessors.h"
#include "offsets.skel.h"

struct event {
	unsigned int kind;
	unsigned int has;
	long long number;
	char text[32];
};

static int child;

static int print(void *unused, void *data, size_t size)
{
	const struct event *event = data;

	if (size < sizeof(*event))
		return 0;
	if (event->kind == 2 ? event->has == (unsigned int)getpid() : event->number == child)
		printf("%u %s %s\n", event->kind,
		       event->kind == 2 && event->number == AT_FDCWD ? "AT_FDCWD" : "child",
		       event->text);
	return 0;
}

int main(int count, char **arguments)
{
	struct offsets *skel = offsets__open();
	struct ring_buffer *ring;
	size_t size;

	if (!skel || count != 2)
		return 2;
	size = sizeof(skel->rodata->tracepoint_fields);
	if (fread((void *)&skel->rodata->tracepoint_fields, 1, size, stdin) != size || getchar() != EOF)
		return 3;
	if (offsets__load(skel) || offsets__attach(skel))
		return 4;
	ring = ring_buffer__new(bpf_map__fd(skel->maps.ring), print, NULL, NULL);
	if (!ring)
		return 5;
	unlinkat(AT_FDCWD, arguments[1], 0);
	child = fork();
	if (child == 0)
		_exit(0);
	waitpid(child, NULL, 0);
	/* A process is freed after the grace period of RCU. */
	sleep(1);
	ring_buffer__consume(ring);
	ring_buffer__free(ring);
	offsets__destroy(skel);
	return 0;
}
"#;

/// Whether this machine links programs with libbpf.
fn links_libbpf(dir: &Path) -> bool {
    let source = dir.join("links.c");
    fs::write(
        &source,
        "#include <bpf/libbpf.h>\nint main(void) { return libbpf_major_version() < 0; }\n",
    )
    .expect("written");
    let mut compiler = Command::new("cc");
    let compiler = compiler
        .arg("-o")
        .arg(dir.join("links"))
        .arg(&source)
        .arg("-lbpf");
    compiler
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn a_skeleton_sets_them() {
    let Some(kernel) = live() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    if !has("bpftool") || !links_libbpf(dir) {
        return support::skip("without bpftool and libbpf no skeleton is built");
    }
    let Some(object) = object() else {
        return;
    };
    fs::write(dir.join("accessors.h"), constants().c()).expect("written");
    fs::write(dir.join("offsets.o"), object).expect("written");
    let skeleton = Command::new("bpftool")
        .args(["gen", "skeleton"])
        .arg(dir.join("offsets.o"))
        .args(["name", "offsets"])
        .output()
        .expect("bpftool");
    assert!(
        skeleton.status.success(),
        "{}",
        String::from_utf8_lossy(&skeleton.stderr)
    );
    fs::write(dir.join("offsets.skel.h"), skeleton.stdout).expect("written");
    fs::write(dir.join("loader.c"), LOADER).expect("written");
    let built = Command::new("cc")
        .args(["-Wall", "-Werror", "-o"])
        .arg(dir.join("loader"))
        .arg(dir.join("loader.c"))
        .arg("-lbpf")
        .output()
        .expect("a compiler");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );

    let bytes = constants().offsets(&kernel).expect("places").to_bytes();
    let run = |bytes: &[u8]| {
        let path = dir.join("unlinked");
        fs::write(&path, "").expect("a file");
        let mut loader = Command::new(dir.join("loader"))
            .arg("unlinked")
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the loader");
        let mut input = loader.stdin.take().expect("a pipe");
        input.write_all(bytes).expect("written");
        drop(input);
        loader.wait_with_output().expect("it ends")
    };
    let output = run(&bytes);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout)
        .expect("text")
        .lines()
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["0 child loader", "1 child loader", "2 AT_FDCWD unlinked"]
    );
    // Of another size than the constants have: told before anything is loaded.
    assert_eq!(run(&bytes[8..]).status.code(), Some(3));
}
