//! The access log names the program that has asked.

use std::fs;

use crate::support::{OK, Origin, Proxy, get};

#[test]
#[cfg(target_os = "linux")]
fn every_request_of_a_connection_has_its_program_in_the_log() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("program_name", "ProgramName")
        .plugin_config("ProgramName.max_wait_ms=2000")
        .start();
    let own_name = fs::read_to_string("/proc/self/comm").expect("Linux tells a process's name");
    let noted = format!(" - program={}", own_name.trim_end());
    let mut client = proxy.client();
    for path in ["/first", "/second"] {
        assert_eq!(client.ask(get(&origin, path)).text(), "origin-ok");
        let line = proxy.wait_for_line(path);
        assert!(line.ends_with(&noted), "{line}");
    }
}
