//! Compilers for emitted source, where they are installed.

use std::path::Path;
use std::process::Command;

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| output.status.success())
}

/// Compiles a file. Panics with the compiler's first messages if that fails.
pub(crate) fn compile(program: &str, arguments: &[&str], file: &Path) {
    let mut command = Command::new(program);
    let output = command.args(arguments).arg(file).output().expect(program);
    let messages = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = messages.lines().take(30).collect();
    assert!(
        output.status.success(),
        "{program} {arguments:?} {}:\n{}",
        file.display(),
        first.join("\n")
    );
}

/// Checks a file in C by clang, warnings being errors.
pub(crate) fn compile_c(arguments: &[&str], file: &Path) {
    let all = ["-Wall", "-Werror", "-fsyntax-only"];
    compile("clang", &[&all, arguments].concat(), file);
}

/// Compiles a file as a library in Rust, warnings being errors.
pub(crate) fn compile_rust(file: &Path) {
    let out = file.with_file_name("emitted.rmeta").display().to_string();
    let arguments = [
        "--edition=2024",
        "--crate-type=lib",
        "--crate-name=emitted",
        "--emit=metadata",
        "-Dwarnings",
        "-o",
        &out,
    ];
    compile("rustc", &arguments, file);
}

/// The option by which clang finds libbpf's headers, or `None`, having reported the
/// skipped test, where there is no clang or no libbpf.
pub(crate) fn libbpf() -> Option<String> {
    if !has("clang") || !Path::new("/usr/include/bpf/bpf_helpers.h").exists() {
        crate::support::skip("there is no clang, or no libbpf");
        return None;
    }
    Some(format!(
        "-I/usr/include/{}-linux-gnu",
        std::env::consts::ARCH
    ))
}
