//! Notes compiler and target, which a library tells the proxy and which help to read a bug report.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=PLUGIN_API_RUSTC={}", compiler());
    println!(
        "cargo::rustc-env=PLUGIN_API_TARGET={}",
        env::var("TARGET").unwrap_or_default()
    );
}

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
