//! `proxy check`: finds what would prevent a start, without starting.

use std::net::TcpListener;

use crate::support::{Exit, Proxy, ProxyCommand, Scratch};

fn assert_valid(exit: &Exit) {
    assert_eq!((exit.code, exit.signal), (Some(0), None), "{exit:?}");
    assert!(exit.stdout.ends_with("configuration is valid"), "{exit:?}");
    assert!(!exit.stdout.contains("Started server"), "{exit:?}");
}

fn problems(command: ProxyCommand) -> Vec<String> {
    let exit = command.check();
    assert_eq!((exit.code, exit.signal), (Some(78), None), "{exit:?}");
    assert!(!exit.stdout.contains("is valid"), "{exit:?}");
    exit.stderr.lines().map(str::to_owned).collect()
}

#[test]
fn a_valid_configuration_is_named_with_its_plugins_and_nothing_is_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let exit = Proxy::command()
        .args(["--port", &port])
        .plugin("zoo", "AddField")
        .plugin_config("AddField.name=x-a")
        .plugin_config("AddField.value=one")
        .check();
    assert_valid(&exit);
    assert!(exit.stdout.contains(":AddField "), "{exit:?}");
}

#[test]
fn the_flag_t_checks_as_well() {
    for flag in ["-t", "--test"] {
        let exit = Proxy::command().args([flag]).run();
        assert_valid(&exit);
    }
    let exit = Proxy::command().args(["-t", "--disable-http-proxy"]).run();
    assert_eq!(exit.code, Some(78), "{exit:?}");
}

#[test]
fn no_file_is_created() {
    let scratch = Scratch::new();
    let files = ["proxy.log", "proxy.pid", "access.log"].map(|name| scratch.path(name));
    let [log, pid, access] = &files;
    let text = format!(
        "log_file = {log:?}\npid_file = {pid:?}\n[access_log]\nfile = {access:?}\n[server]\ncontrol_socket = {:?}\n",
        scratch.path("control.sock")
    );
    let file = scratch.write("proxy.toml", &text);
    let exit = Proxy::command()
        .args(["--config".as_ref(), file.as_os_str()])
        .check();
    assert_valid(&exit);
    for file in &files {
        assert!(!file.exists(), "{}", file.display());
    }
}

#[test]
fn a_running_proxy_can_be_checked() {
    let scratch = Scratch::new();
    let pid_file = scratch.path("proxy.pid");
    let flags = ["--pid-file".as_ref(), pid_file.as_os_str()];
    let _proxy = Proxy::command().args(flags).start();
    assert_valid(&Proxy::command().args(flags).check());
}

#[test]
fn files_that_cannot_be_written_are_reported_with_their_flags() {
    let scratch = Scratch::new();
    let missing = scratch.path("missing").join("proxy.log");
    let reported = problems(
        Proxy::command()
            .args(["--log-file".as_ref(), missing.as_os_str()])
            .args(["--pid-file".as_ref(), scratch.path("").as_os_str()]),
    );
    for (line, words) in reported.iter().zip([
        ["--log-file: ", "create this directory"],
        ["--pid-file: ", "is a directory"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{reported:?}");
    }
    assert_eq!(reported.len(), 2, "{reported:?}");
}

#[test]
fn all_problems_are_reported_at_once() {
    let scratch = Scratch::new();
    let file = scratch.write("no-certificate.pem", "this is no certificate");
    let reported = problems(
        Proxy::command()
            .args(["--plugins", "/no/such/libnothing.so:Nothing"])
            .args(["--ca-file", "/no/such/roots.pem"])
            .args(["--cert-file".as_ref(), file.as_os_str()])
            .args(["--key-file".as_ref(), file.as_os_str()]),
    );
    assert_eq!(reported.len(), 3, "{reported:?}");
    for (line, word) in reported
        .iter()
        .zip(["libnothing.so", "roots.pem", "no-certificate.pem"])
    {
        assert!(line.starts_with("proxy: "), "{line}");
        assert!(line.contains(word), "no {word:?} in {line:?}");
    }
}

#[test]
fn a_proxy_with_nothing_to_serve_is_a_problem() {
    let reported = problems(Proxy::command().args(["--disable-http-proxy"]));
    assert!(reported[0].contains("nothing to serve"), "{reported:?}");
}
