//! The proxy and the plugin libraries under test.
//!
//! `PROXY_BIN` and `PLUGIN_DIR` name existing builds. Without them, everything is built once per run, with the profile
//! `fast`, into the target directory of this test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

struct Binaries {
    proxy: PathBuf,
    plugins: PathBuf,
}

/// The proxy's executable.
pub(crate) fn proxy_binary() -> &'static Path {
    &binaries().proxy
}

/// The directory of the plugin libraries.
pub(crate) fn plugin_directory() -> &'static Path {
    &binaries().plugins
}

/// The library of one plugin package.
pub(crate) fn plugin_library(package: &str) -> PathBuf {
    let name = format!(
        "{}{package}{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    );
    plugin_directory().join(name)
}

fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| given().unwrap_or_else(build))
}

fn given() -> Option<Binaries> {
    let proxy = env::var_os("PROXY_BIN")?.into();
    let plugins = env::var_os("PLUGIN_DIR")?.into();
    Some(Binaries { proxy, plugins })
}

fn build() -> Binaries {
    let target = target_directory();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo.args(["build", "--profile", "fast", "--package", "proxy"]);
    for plugin in plugin_packages() {
        cargo.args(["--package", &plugin]);
    }
    cargo.arg("--target-dir").arg(&target);
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "the proxy and its plugins do not build");
    let built = target.join("fast");
    Binaries {
        proxy: built.join(format!("proxy{}", env::consts::EXE_SUFFIX)),
        plugins: built,
    }
}

/// The packages whose libraries the tests load: each has a directory of its own name.
fn plugin_packages() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    [tests.join("../plugins"), tests.join("fixtures")]
        .iter()
        .flat_map(|directory| fs::read_dir(directory).expect("the plugins are in the tree"))
        .map(|entry| entry.expect("a directory can be listed").path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect()
}

/// This test's executable is `<target>/<profile>/deps/<name>`.
fn target_directory() -> PathBuf {
    let executable = env::current_exe().expect("a process knows its executable");
    executable
        .ancestors()
        .nth(3)
        .expect("cargo puts tests three levels deep")
        .to_path_buf()
}
