//! The page about several kernels. `tests/page.py` uses it in a browser.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Output;
use std::{fs, str};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::command::{stderr, stdout, tracepoints};
use crate::support::repository;

const OLD: &str = "tests/fixtures/6.1.192-rt-x86_64";
const NEW: &str = "tests/fixtures/6.18.15-x86_64";

fn explore(roots: &[&str], out: &Path) -> Output {
    let mut command = tracepoints(&["explore", "--out"]);
    command.current_dir(repository()).arg(out).args(roots);
    command.output().expect("it runs")
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for dir in [dir.to_owned(), dir.join("data")] {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let bytes = fs::read(&path).expect("a file");
                files.insert(
                    path.file_name()
                        .expect("a name")
                        .to_string_lossy()
                        .into_owned(),
                    bytes,
                );
            }
        }
    }
    files
}

/// Returns the name and the data of a script that calls `tracepoints(name, data)`.
fn data(script: &[u8]) -> (String, Value) {
    let text = str::from_utf8(script).expect("ASCII");
    let arguments = text
        .strip_prefix("tracepoints(\"")
        .and_then(|text| text.strip_suffix("\");\n"));
    let (name, packed) = arguments
        .and_then(|text| text.split_once("\", \""))
        .expect("a call");
    let packed = BASE64_STANDARD.decode(packed).expect("base64");
    let mut text = String::new();
    GzDecoder::new(&*packed)
        .read_to_string(&mut text)
        .expect("gzip");
    (name.to_owned(), serde_json::from_str(&text).expect("JSON"))
}

/// Returns what the page knows of an event: for each kernel's name, the values by keys.
fn known(files: &BTreeMap<String, Vec<u8>>, event: &str) -> BTreeMap<String, Value> {
    let (_, index_data) = data(&files["index.js"]);
    let rows = index_data["events"].as_array().expect("events");
    let row = rows
        .iter()
        .find(|row| row["event"] == event)
        .expect("the event");
    let (name, chunk) = data(&files[&format!("{}.js", row["chunk"])]);
    assert_eq!(name, row["chunk"].to_string());
    let entry = &chunk["events"][event];
    let on = entry["on"].as_array().expect("kernels");
    assert_eq!(
        row["kernels"],
        on.iter().map(|on| on["kernel"].clone()).collect::<Value>()
    );
    let index = |value: &Value| usize::try_from(value.as_u64().expect("a number")).expect("small");
    on.iter()
        .map(|on| {
            let variant = entry["variants"][index(&on["variant"])]
                .as_object()
                .expect("keys");
            let mut values: serde_json::Map<String, Value> = variant
                .iter()
                .map(|(key, place)| (key.clone(), chunk["columns"][key][index(place)].clone()))
                .collect();
            values.insert("reason".to_owned(), on["reason"].clone());
            values.insert("siblings".to_owned(), on["siblings"].clone());
            (kernel_name(on, &index_data), Value::Object(values))
        })
        .collect()
}

fn kernel_name(on: &Value, index: &Value) -> String {
    let number = usize::try_from(on["kernel"].as_u64().expect("a number")).expect("small");
    index["kernels"][number]
        .as_str()
        .expect("a name")
        .to_owned()
}

#[test]
fn what_the_page_knows_is_what_format_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = dir.path().join("site");
    // The newer one first: the page sorts them.
    let output = explore(&[NEW, OLD], &site);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("events of 2 kernels"),
        "{}",
        stdout(&output)
    );
    let files = files(&site);
    let (_, index) = data(&files["index.js"]);
    assert!(
        index["kernels"][0]
            .as_str()
            .expect("a name")
            .starts_with("6.1.")
    );
    for event in [
        "sched:sched_process_exit",
        "syscalls:sys_enter_openat",
        "kmem:kmalloc",
    ] {
        let known = known(&files, event);
        for root in [OLD, NEW] {
            let mut format = tracepoints(&["format", "--json", "--root", root, event]);
            let output = format.current_dir(repository()).output().expect("it runs");
            let row: Value = serde_json::from_str(stdout(&output)).expect("JSON");
            let release = row["kernel"]["release"].as_str().expect("a release");
            let (_, values) = known
                .iter()
                .find(|(name, _)| name.starts_with(release))
                .expect("the kernel");
            for key in ["programs", "raw", "print_fmt", "reason", "siblings"] {
                assert_eq!(values[key], row[key], "{event} {root} {key}");
            }
            assert_eq!(values["struct"], row["context"]["struct"]);
            let (shown, said) = (values["fields"].as_array(), row["fields"].as_array());
            let (shown, said) = (shown.expect("fields"), said.expect("fields"));
            assert_eq!(shown.len(), said.len());
            for (shown, said) in shown.iter().zip(said) {
                // The names' numbers are text on the page.
                for key in [
                    "name",
                    "declaration",
                    "offset",
                    "size",
                    "context_slot",
                    "common",
                ] {
                    assert_eq!(shown[key], said[key], "{event} {root}");
                }
            }
        }
    }
}

#[test]
fn what_changed_is_what_diff_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = dir.path().join("site");
    assert!(explore(&[OLD, NEW], &site).status.success());
    let files = files(&site);
    let event = "sched:sched_process_exit";
    let mut diff = tracepoints(&["diff", OLD, NEW, "--only", event]);
    let output = diff.current_dir(repository()).output().expect("it runs");
    let said: Vec<String> = stdout(&output)
        .lines()
        .skip(1)
        .map(|line| line.trim_start().to_owned())
        .collect();
    let chunks = files
        .iter()
        .filter(|(name, _)| name.ends_with(".js") && **name != "index.js" && **name != "page.js");
    let entry = chunks
        .map(|(_, script)| data(script).1["events"][event].clone())
        .find(|entry| !entry.is_null());
    let changes = entry.expect("the event")["changes"].clone();
    assert_eq!(
        changes,
        serde_json::json!([{ "from": 0, "to": 1, "lines": said }])
    );
}

#[test]
fn the_same_kernels_give_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let sites = ["first", "second"].map(|name| dir.path().join(name));
    for site in &sites {
        assert!(explore(&[NEW], site).status.success());
    }
    let [first, second] = sites.map(|site| files(&site));
    assert!(first == second);
    // Nothing of this machine is in it.
    let here = repository().display().to_string();
    for (name, bytes) in &first {
        let text = String::from_utf8_lossy(bytes);
        let text = match text.starts_with("tracepoints(") {
            true => data(bytes).1.to_string(),
            false => text.into_owned(),
        };
        assert!(!text.contains(&here), "{name}");
        assert!(!text.contains("tests/fixtures"), "{name}");
    }
}

#[test]
fn one_kernel_twice_has_two_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = dir.path().join("site");
    assert!(explore(&[NEW, NEW], &site).status.success());
    let (_, index) = data(&files(&site)["index.js"]);
    let names = index["kernels"].as_array().expect("names");
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
}

#[test]
fn wrong_roots_and_places() {
    let dir = tempfile::tempdir().expect("a directory");
    let there = dir.path().join("there");
    fs::create_dir(&there).expect("a directory");
    for (roots, out, complaint) in [
        (&["nowhere"][..], dir.path().join("site"), "nowhere"),
        (
            &[],
            dir.path().join("site"),
            "required arguments were not provided",
        ),
        (&[NEW], there, "exists"),
        (&[NEW], dir.path().join("no/such"), "No such file"),
    ] {
        let output = explore(roots, &out);
        assert!(!output.status.success());
        assert!(stderr(&output).contains(complaint), "{}", stderr(&output));
    }
    // Nothing is left beside it.
    let left = fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(left, 1);
}
