//! Packs the kernel of `--demo`, and finds the commit that `--version` shows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use flate2::Compression;
use flate2::write::DeflateEncoder;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    pack(Path::new("demo"), &out.join("demo.tar.deflate"));
    println!("cargo::rerun-if-changed=demo/");
    let version = env::var("CARGO_PKG_VERSION").expect("set by cargo");
    let version = match commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=TRACEPOINTS_VERSION={version}");
}

fn pack(dir: &Path, to: &Path) {
    let file = fs::File::create(to).expect("OUT_DIR can be written");
    let mut archive = tar::Builder::new(DeflateEncoder::new(file, Compression::best()));
    // The archive has the same bytes from every checkout.
    archive.mode(tar::HeaderMode::Deterministic);
    archive
        .append_dir_all(".", dir)
        .expect("the demo kernel is there");
    let encoder = archive.into_inner().expect("OUT_DIR can be written");
    encoder.finish().expect("OUT_DIR can be written");
}

/// Returns the commit of the checkout, or the one that `cargo package` recorded.
fn commit() -> Option<String> {
    let packaged = fs::read_to_string(".cargo_vcs_info.json").ok();
    if let Some(text) = packaged {
        let hash = text.split("\"sha1\": \"").nth(1)?.split('"').next()?;
        return Some(hash.get(..9)?.to_owned());
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let head = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={head}");
    git(&["rev-parse", "--short=9", "HEAD"])
}
