//! The access log names the program that sent the request.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use crate::support::{OK, Origin, Proxy, get};

/// A proxy with the plugin, and the log field that it adds for this program.
fn noting() -> (Proxy, String) {
    let proxy = Proxy::command()
        .plugin("program_name", "ProgramName")
        .plugin_config("ProgramName.max_wait_ms=2000")
        .start();
    let own_name = fs::read_to_string("/proc/self/comm").expect("Linux tells a process's name");
    (proxy, format!(" - program={}", own_name.trim_end()))
}

#[test]
fn every_request_of_a_connection_has_its_program_in_the_log() {
    let origin = Origin::answering(OK);
    let (proxy, noted) = noting();
    let mut client = proxy.client();
    for path in ["/first", "/second"] {
        assert_eq!(client.ask(get(&origin, path)).text(), "origin-ok");
        let line = proxy.wait_for_line(path);
        assert!(line.ends_with(&noted), "{line}");
    }
}

#[test]
fn a_program_that_starts_another_is_still_the_one_that_asks() {
    let origin = Origin::answering(OK);
    let (proxy, noted) = noting();
    let mut client = proxy.client();
    let socket = client.socket().try_clone().expect("sockets can be cloned");
    // A younger process that holds the same connection.
    let other = Command::new("sleep")
        .arg("600")
        .stdin(OwnedFd::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is such a program");
    let _other = Ended(other);
    assert_eq!(client.ask(get(&origin, "/shared")).text(), "origin-ok");
    let line = proxy.wait_for_line("/shared");
    assert!(line.ends_with(&noted), "{line}");
}

/// A process that is killed on drop.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
