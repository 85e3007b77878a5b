//! Builds init/main.rs, the init of containers, into a static program that src/init.rs embeds.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init/main.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let var = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let out = PathBuf::from(var("OUT_DIR")).join("init");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if !matches!(arch.as_str(), "x86_64" | "aarch64") {
        std::fs::write(&out, []).unwrap_or_else(|e| panic!("write {}: {e}", out.display()));
        return;
    }
    let mut rustc = Command::new(var("RUSTC"));
    rustc.args(["init/main.rs", "--crate-name=init", "--crate-type=bin", "--edition=2024", "--target"]);
    rustc.arg(var("TARGET")).arg("-o").arg(&out);
    // No standard library, no loader, one page-aligned segment for all: a file of a few KiB.
    let options = ["panic=abort", "opt-level=s", "relocation-model=static", "strip=symbols"];
    let linking =
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-z,noseparate-code"];
    rustc.args(options.iter().flat_map(|option| ["-C", option]));
    rustc.args(linking.iter().map(|argument| format!("-Clink-arg={argument}")));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("-Clinker=");
        option.push(linker);
        rustc.arg(option);
    }
    let status = rustc.status().unwrap_or_else(|e| panic!("run {rustc:?}: {e}"));
    assert!(status.success(), "{rustc:?}: {status}");
}
