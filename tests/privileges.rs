//! `user` and `group` in `[server]`: a proxy of root serves as another user.
//!
//! As root, the tests become `nobody`; without root, they check that the proxy refuses to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::process::Signal;

use crate::support::tls::Pki;
use crate::support::{Client, OK, Origin, Proxy, Scratch, get, plugin_library, response};

/// The exit code for an invalid configuration.
const CONFIG: i32 = 78;
const SETTING: &str = "[server]\nuser = \"nobody\"\n";

/// Whether the tests run as root; if not, checks what the proxy says then.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        let exit = Proxy::command().config(SETTING).run();
        assert_eq!(exit.code, Some(CONFIG));
        let reason = "server.user: only root can become `nobody`; start the proxy as root or as that user, or remove the setting";
        assert!(exit.stderr.contains(reason), "{}", exit.stderr);
    }
    is_root
}

/// The number of the user `nobody`.
fn nobody() -> u32 {
    let users = fs::read_to_string("/etc/passwd").expect("the system has users");
    let line = users.lines().find(|line| line.starts_with("nobody:"));
    let uid = line.and_then(|line| line.split(':').nth(2));
    uid.and_then(|uid| uid.parse().ok()).expect("nobody exists")
}

#[test]
fn all_threads_become_the_user_and_the_files_of_listeners_are_its_own() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let table = format!("[[listeners]]\npath = {:?}\n", path.display().to_string());
    let proxy = Proxy::command()
        .plugin("zoo", "AddField")
        .plugin_config("AddField.name=x-added")
        .plugin_config("AddField.value=one")
        .config(SETTING)
        .config(&table)
        .start();
    proxy.wait_for_line("running as user nobody");
    proxy.wait_for_line("Started server on unix:");
    let origin = Origin::answering(OK);
    assert_eq!(
        Client::connect_unix(&path).ask(get(&origin, "/")).status(),
        200
    );
    let uid = nobody();
    assert_eq!(fs::metadata(&path).map(|file| file.uid()).ok(), Some(uid));
    let threads = fs::read_dir(format!("/proc/{}/task", proxy.id())).expect("it runs");
    let mut seen = 0;
    for thread in threads.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.map(|line| {
                line.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(of("Uid:"), Some(vec![uid.to_string(); 4]), "{status}");
        let none = vec!["0000000000000000".to_owned()];
        assert_eq!(of("CapEff:"), Some(none));
        let groups = of("Groups:").unwrap_or_default();
        assert!(!groups.contains(&"0".to_owned()), "{groups:?}");
        seen += 1;
    }
    assert!(seen > 2, "{seen} threads");
}

#[test]
fn a_reload_that_needs_root_says_so_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let pki = Pki::new();
    let (cert, key) = pki.listener_files();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let scratch = Scratch::new();
    let listener = |port: &str| {
        scratch.write(
            "reloaded.toml",
            format!("{SETTING}[tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n{port}"),
        )
    };
    // The key is read before.
    let file = listener("");
    let proxy = Proxy::command()
        .args(["--config".as_ref(), file.as_os_str()])
        .start();
    proxy.signal(Signal::HUP);
    let line = proxy.wait_for_line("not reloaded, generation 1 remains active");
    assert!(line.contains("Permission denied"), "{line}");
    assert!(
        line.contains("the user of the proxy may read the file"),
        "{line}"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    // The lowest ports that nobody may bind.
    listener("[[listeners]]\nhostname = \"127.0.0.1\"\nport = 1\n");
    proxy.signal(Signal::HUP);
    let line = proxy.wait_for_line("cannot listen on 127.0.0.1:1");
    assert!(
        line.contains("ports below 1024 require privileges"),
        "{line}"
    );
    listener("");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
}

#[test]
fn a_changed_library_is_loaded_as_the_user_as_well() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let library = scratch.path("libzoo.so");
    fs::copy(plugin_library("zoo"), &library).expect("a scratch file is ours");
    let configure = |value: &str| {
        scratch.write(
            "reloaded.toml",
            format!(
                "{SETTING}[[plugins]]\nlibrary = {library:?}\nname = \"AddField\"\n\
                 config = {{ name = \"x-added\", value = {value:?} }}\n"
            ),
        )
    };
    let file = configure("one");
    let origin = Origin::replying(|request| {
        let added = request.field("x-added").unwrap_or_default();
        response("200 OK", &added).into_bytes()
    });
    let proxy = Proxy::command()
        .args(["--config".as_ref(), file.as_os_str()])
        .start();
    assert_eq!(proxy.get(&origin, "/").text(), "one");
    // Another content, so that it is another library.
    let mut content = fs::read(&library).expect("a scratch file is ours");
    content.extend(b"more");
    fs::write(&library, content).expect("a scratch file is ours");
    configure("two");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    assert_eq!(proxy.get(&origin, "/").text(), "two");
}

#[test]
fn a_user_that_does_not_exist_is_refused_where_it_is_written() {
    let exit = Proxy::command()
        .config("[server]\nuser = \"no-such-user\"")
        .check();
    assert_eq!(exit.code, Some(CONFIG));
    let reason = "proxy.toml:2:8: server.user: user `no-such-user` does not exist";
    assert!(exit.stderr.contains(reason), "{}", exit.stderr);
}

#[test]
fn root_without_a_user_is_a_warning() {
    let proxy = Proxy::start();
    if rustix::process::geteuid().is_root() {
        proxy.wait_for_line("running as root; set user in [server]");
    }
}

#[test]
fn the_user_owns_what_it_opens_again_and_removes() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    // In a directory of root.
    let dir = scratch.path("files");
    fs::create_dir(&dir).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    let (log, pid, control) = (path("p.log"), path("p.pid"), path("p.sock"));
    let proxy = Proxy::command()
        .args(["--pid-file", &pid])
        .config(&format!(
            "[access_log]\nfile = {log:?}\n{SETTING}control_socket = {control:?}\n"
        ))
        .start();
    proxy.wait_for_line("user nobody cannot write in ");
    let uid = nobody();
    for file in [&log, &pid, &control] {
        assert_eq!(
            fs::metadata(file).map(|file| file.uid()).ok(),
            Some(uid),
            "{file}"
        );
    }
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));
    // It could not be removed, and names no process that does not exist any more.
    assert_eq!(fs::read_to_string(&pid).ok().as_deref(), Some(""));
}
