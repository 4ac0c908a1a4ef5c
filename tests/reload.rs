//! SIGHUP: a new generation replaces the active one; exchanges in flight continue.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::tls::{Answer, Ask, Gate, Offer, Pki};
use crate::support::{
    HANG, Message, OK, Origin, Proxy, ProxyCommand, Scratch, get, plugin_library, position,
    response,
};

/// A proxy with its own copies of `proxy.toml` and of the plugin library.
struct Reloading {
    scratch: Scratch,
    file: PathBuf,
    library: PathBuf,
}

impl Reloading {
    fn new() -> Self {
        let scratch = Scratch::new();
        let library = scratch.path("libzoo.so");
        fs::copy(plugin_library("zoo"), &library).expect("a scratch file is ours");
        let new = Self {
            file: scratch.path("reloaded.toml"),
            library,
            scratch,
        };
        new.configure("one");
        new
    }

    /// Sets the value of the field that the plugin adds; takes effect at the next reload.
    fn configure(&self, value: &str) {
        self.write(&format!(
            "[[plugins]]\nlibrary = {:?}\nname = \"AddField\"\nconfig = {{ name = \"x-added\", value = {value:?} }}\n",
            self.library.display().to_string()
        ));
    }

    /// Overwrites the plugin library with that of `package`.
    fn replace_library(&self, package: &str) {
        fs::copy(plugin_library(package), &self.library).expect("a scratch file is ours");
    }

    fn write(&self, text: &str) {
        self.scratch.write("reloaded.toml", text);
    }

    fn start(&self) -> Proxy {
        Proxy::command()
            .args(["--config".as_ref(), self.file.as_os_str()])
            .start()
    }
}

/// An origin that replies with the value of the field added by the plugin.
fn telling_origin() -> Origin {
    Origin::replying(|request| {
        let added = request.field("x-added").unwrap_or_default();
        response("200 OK", &added).into_bytes()
    })
}

fn added(answer: &Message) -> String {
    answer.text()
}

#[test]
fn a_changed_plugin_configuration_is_in_force_and_whatever_is_open_goes_on() {
    let reloading = Reloading::new();
    let (origin, echo) = (telling_origin(), Origin::echoing());
    let proxy = reloading.start();
    let mut tunnel = proxy.tunnel(&echo);
    let mut kept = proxy.client();
    assert_eq!(added(&kept.ask(get(&origin, "/"))), "one");
    reloading.configure("two");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active; plugins: 1");
    assert_eq!(added(&proxy.get(&origin, "/")), "two");
    // An existing connection uses the generation that is active when its next request starts.
    assert_eq!(added(&kept.ask(get(&origin, "/"))), "two");
    tunnel.send("after");
    tunnel.read_until(b"after");
    drop(tunnel);
    proxy.wait_for_line("generation 1 has ended; 0 replaced generations are still in use");
}

#[test]
fn a_changed_library_is_loaded_although_its_path_is_the_same() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    assert_eq!(added(&proxy.get(&origin, "/")), "one");
    // The new library does not export `AddField`.
    reloading.replace_library("kinds");
    proxy.signal(Signal::HUP);
    let line = proxy.wait_for_line("not reloaded, generation 1 remains active");
    assert!(line.contains("AddField"), "{line}");
    assert_eq!(added(&proxy.get(&origin, "/")), "one");
    reloading.replace_library("zoo");
    reloading.configure("two");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    assert_eq!(added(&proxy.get(&origin, "/")), "two");
}

#[test]
fn what_cannot_be_in_force_is_named_and_changes_nothing() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    let file = reloading.file.display().to_string();
    let broken: [(&str, &[&str]); 4] = [
        ("[[plugins]]\nlibrary = \"libz", &[&file, "2"]),
        ("no_such_key = 1\n", &[&file, "no_such_key"]),
        (
            "[[plugins]]\nlibrary = \"/no/such/lib.so\"\nname = \"X\"\n",
            &["/no/such/lib.so"],
        ),
        ("[timeouts]\nstall = 0\n", &[&file, "stall"]),
    ];
    for (count, (text, words)) in broken.iter().enumerate() {
        reloading.write(text);
        proxy.signal(Signal::HUP);
        proxy.wait_for_lines("not reloaded, generation 1 remains active", count + 1);
        let lines = proxy.lines();
        let line = lines.iter().rfind(|line| line.contains("not reloaded"));
        let line = line.expect("just seen");
        for word in *words {
            assert!(line.contains(word), "no {word:?} in {line}");
        }
        assert_eq!(added(&proxy.get(&origin, "/")), "one");
    }
    fs::remove_file(&reloading.file).expect("a scratch file is ours");
    proxy.signal(Signal::HUP);
    proxy.wait_for_lines(
        "not reloaded, generation 1 remains active",
        broken.len() + 1,
    );
    assert_eq!(added(&proxy.get(&origin, "/")), "one");
}

#[test]
fn settings_of_the_whole_run_stay_and_are_reported() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    reloading.write("backlog = 77\nvia = \"renamed\"\n");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("backlog has changed, which a reload cannot apply: restart the proxy");
    proxy.wait_for_line("generation 2 is active; plugins: 0");
    proxy.get(&origin, "/");
    let requests = origin.requests();
    let mut via = requests.iter().filter_map(|request| request.field("via"));
    assert!(via.next_back().is_some_and(|via| via.contains("renamed")));
}

#[test]
fn signals_that_come_during_a_reload_lead_to_the_last_configuration() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    for value in ["two", "three", "four"] {
        reloading.configure(value);
        for _ in 0..5 {
            proxy.signal(Signal::HUP);
        }
    }
    let deadline = Instant::now() + HANG;
    while added(&proxy.get(&origin, "/")) != "four" {
        assert!(Instant::now() < deadline, "{:?}", proxy.lines());
    }
    // All generations but the active one end.
    proxy.wait_for_line("; 0 replaced generations are still in use");
}

/// The configuration of one plugin of `package`; `config` goes between the braces.
fn plugin(package: &str, name: &str, config: &str) -> String {
    let library = plugin_library(package).display().to_string();
    format!("[[plugins]]\nlibrary = {library:?}\nname = {name:?}\nconfig = {{ {config} }}\n")
}

#[test]
fn what_cannot_be_read_holds_nothing_up() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    let refused = || {
        proxy
            .lines()
            .iter()
            .filter(|line| line.contains("not reloaded"))
            .count()
    };
    // A FIFO without a writer, then a directory.
    fs::remove_file(&reloading.file).expect("a scratch file is ours");
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &reloading.file, fifo, mode, 0).expect("a pipe is made");
    proxy.signal(Signal::HUP);
    let line = proxy.wait_for_line("not reloaded, generation 1 remains active");
    assert!(line.contains("nothing was written to it"), "{line}");
    fs::remove_file(&reloading.file).expect("a scratch file is ours");
    fs::create_dir(&reloading.file).expect("the scratch directory is ours");
    proxy.signal(Signal::HUP);
    proxy.wait_for_lines("not reloaded, generation 1 remains active", refused() + 1);
    fs::remove_dir(&reloading.file).expect("the scratch directory is ours");
    reloading.configure("two");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    assert_eq!(added(&proxy.get(&origin, "/")), "two");
}

#[test]
fn a_library_that_is_half_written_or_gone_changes_nothing() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    let whole = fs::read(&reloading.library).expect("a scratch file is ours");
    let library = reloading.library.display().to_string();
    // Truncated in place, like an unfinished copy. The running generation does not use this file.
    for (count, len) in [0, 100, 5000, whole.len() / 2, whole.len() - 1]
        .into_iter()
        .enumerate()
    {
        fs::write(&reloading.library, &whole[..len]).expect("a scratch file is ours");
        proxy.signal(Signal::HUP);
        proxy.wait_for_lines("not reloaded, generation 1 remains active", count + 1);
        assert_eq!(added(&proxy.get(&origin, "/")), "one");
    }
    let lines = proxy.lines();
    let mut refused = lines.iter().filter(|line| line.contains("not reloaded"));
    assert!(refused.all(|line| line.contains(&library)), "{lines:?}");
    fs::write(&reloading.library, &whole).expect("a scratch file is ours");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
}

#[test]
fn a_plugin_that_panics_when_it_is_made_changes_nothing() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    reloading.write(&plugin("zoo", "PanicInNew", ""));
    proxy.signal(Signal::HUP);
    let line = proxy.wait_for_line("not reloaded, generation 1 remains active");
    assert!(
        line.contains("PanicInNew") && line.contains("no database"),
        "{line}"
    );
    assert_eq!(added(&proxy.get(&origin, "/")), "one");
}

#[test]
fn a_library_may_come_back_with_other_hooks_and_kinds() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    let mut kept = proxy.client();
    assert_eq!(added(&kept.ask(get(&origin, "/"))), "one");
    let library = reloading.library.display().to_string();
    reloading.replace_library("kinds");
    // The library has a filter that replies, a subscriber and a protocol plugin.
    reloading.write(&format!("[[plugins]]\nlibrary = {library:?}\n"));
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active; plugins: 4");
    assert_eq!(kept.ask(get(&origin, "/")).status(), 418);
    let mut echo = proxy.client();
    echo.send("ECHO\n");
    echo.read_until(b"hello\n");
    reloading.replace_library("zoo");
    reloading.configure("three");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 3 is active; plugins: 1");
    assert_eq!(added(&kept.ask(get(&origin, "/"))), "three");
    // The protocol plugin keeps serving its existing connection.
    echo.send("still\n");
    echo.read_until(b"still\n");
}

#[test]
fn an_idle_client_keeps_no_generation_in_use() {
    let reloading = Reloading::new();
    let (subscriber, origin) = (plugin("kinds", "EventLog", ""), Origin::answering(OK));
    reloading.write(&subscriber);
    let proxy = reloading.start();
    let mut kept = proxy.client();
    for generation in 2..5 {
        assert_eq!(kept.ask(get(&origin, "/")).status(), 200);
        reloading.write(&format!("via = \"v{generation}\"\n{subscriber}"));
        proxy.signal(Signal::HUP);
        let ended = format!("generation {} has ended; 0 replaced", generation - 1);
        proxy.wait_for_line(&ended);
    }
    drop(kept);
    proxy.wait_for_line("event ConnectionClosed connection=1 ");
}

#[test]
fn a_subscriber_that_stays_hears_all_in_its_order() {
    let reloading = Reloading::new();
    let (subscriber, origin) = (plugin("kinds", "EventLog", ""), Origin::answering(OK));
    reloading.write(&subscriber);
    let proxy = reloading.start();
    for round in 0..10 {
        let mut client = proxy.client();
        // Reload after the connection is accepted and before its first request.
        reloading.write(&format!("via = \"v{round}\"\n{subscriber}"));
        proxy.signal(Signal::HUP);
        proxy.wait_for_line(&format!("generation {} is active", round + 2));
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    }
    proxy.wait_for_lines("event ConnectionClosed", 10);
    let lines = proxy.lines();
    for connection in 1..=10 {
        let of_connection = format!(" connection={connection} ");
        let events = lines.iter().filter(|line| line.contains(&of_connection));
        let kinds = events.filter_map(|line| line.split("event ").nth(1)?.split(' ').next());
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            [
                "ConnectionOpened",
                "RequestStarted",
                "ResponseStarted",
                "ExchangeEnded",
                "ConnectionClosed"
            ]
        );
    }
}

#[test]
fn a_plugin_that_is_never_made_is_named_and_keeps_nothing_from_ending() {
    let reloading = Reloading::new();
    let (subscriber, origin) = (plugin("kinds", "EventLog", ""), Origin::answering(OK));
    reloading.write(&subscriber);
    let proxy = reloading.start();
    let never = reloading.scratch.path("never").display().to_string();
    let stuck = plugin("stuck", "BlocksNew", &format!("until = {never:?}"));
    reloading.write(&format!("{subscriber}{stuck}"));
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("blocks while it is made");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("a reload is already running (in new of BlocksNew)");
    assert_eq!(proxy.get(&origin, "/last").status(), 200);
    proxy.signal(Signal::TERM);
    let exit = proxy.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    for line in [
        "not reloaded: shutting down",
        "/last status=Some(200)",
        "a plugin did not stop within 5s",
    ] {
        assert!(exit.stdout.contains(line), "no {line:?} in {}", exit.stdout);
    }
}

#[test]
fn a_reload_that_ends_during_the_drain_is_given_up() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    let until = reloading.scratch.path("until");
    let config = format!("until = {:?}", until.display().to_string());
    reloading.write(&plugin("stuck", "BlocksNew", &config));
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("blocks while it is made");
    assert_eq!(added(&proxy.get(&origin, "/")), "one");
    proxy.signal(Signal::TERM);
    proxy.wait_for_line("not reloaded: shutting down");
    fs::write(&until, "").expect("a scratch file is ours");
    let exit = proxy.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(!exit.stdout.contains("did not stop"), "{}", exit.stdout);
}

/// An intercepting proxy whose configuration the test changes.
fn intercepting(pki: &Pki, reloading: &Reloading) -> ProxyCommand {
    let file = ["--config".as_ref(), reloading.file.as_os_str()];
    pki.intercepting().args(file)
}

#[test]
fn a_tunnel_keeps_the_timeouts_of_its_host() {
    let (pki, reloading, gate) = (Pki::new(), Reloading::new(), Gate::closed());
    let own = |host, seconds| {
        format!("[[timeouts.hosts]]\nhosts = [{host:?}]\nupstream_response = {seconds}\n")
    };
    reloading.write(&own("localhost", 1));
    let proxy = intercepting(&pki, &reloading).start();
    let origin = pki.origin().offering(Offer::Http1);
    let origin = origin.answering(Answer::ok("never").behind(&gate));
    let mut session = pki.client(&proxy).https(&origin.authority());
    // Replace the entry with one for another host.
    reloading.write(&own("other.example", 3600));
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    let received = session.ask(Ask::get(&origin.authority(), "/"));
    assert_eq!(received.status, 504);
}

#[test]
fn a_library_that_is_refused_once_it_is_open_costs_nothing_more() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = reloading.start();
    // The library has a plugin note but exports no plugin.
    let note = fs::read(&reloading.library).expect("a scratch file is ours");
    let begin = position(&note, b"proxy-plugin-note:").expect("a plugin has a note");
    let len = note[begin..].iter().position(|byte| *byte == 0);
    let note = &note[begin..=begin + len.expect("a note ends with NUL")];
    let mut content = fs::read(plugin_library("not_a_plugin")).expect("the fixture is built");
    content.extend_from_slice(note);
    fs::write(&reloading.library, content).expect("a scratch file is ours");
    let refused = |count| {
        proxy.signal(Signal::HUP);
        proxy.wait_for_lines("is not a proxy plugin", count);
        proxy.open_files()
    };
    let held = refused(1);
    for count in 2..6 {
        assert_eq!(refused(count), held, "open files");
    }
    assert_eq!(added(&proxy.get(&origin, "/")), "one");
}

#[test]
fn plugins_are_watched_although_there_were_none_at_the_start() {
    let reloading = Reloading::new();
    let origin = Origin::answering(OK);
    reloading.write("");
    let proxy = reloading.start();
    let gate = reloading.scratch.path("gate");
    let until = format!("until = {:?}", gate.display().to_string());
    let patience = "[timeouts]\nplugin_hook = 0.2\nplugin_budget = 0.2\n";
    reloading.write(&(patience.to_owned() + &plugin("stuck", "BlocksNew", &until)));
    proxy.signal(Signal::HUP);
    // The new generation is not active yet.
    let line = proxy.wait_for_line("a blocking task of a plugin occupies its thread");
    assert!(line.contains("plugin=BlocksNew hook=new"), "{line}");
    fs::write(&gate, "").expect("a scratch file is ours");
    proxy.wait_for_line("generation 2 is active; plugins: 1");
    let gate = reloading.scratch.path("second gate");
    let until = format!("until = {:?}", gate.display().to_string());
    reloading.write(&(patience.to_owned() + &plugin("stuck", "BlocksHook", &until)));
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 3 is active; plugins: 1");
    let mut client = proxy.client();
    client.send(get(&origin, "/block"));
    proxy.wait_for_line("plugin=BlocksHook hook=handle_client_request");
    fs::write(&gate, "").expect("a scratch file is ours");
    assert_eq!(client.response().status(), 200);
}

#[test]
fn counting_of_calls_is_turned_off_and_on() {
    let reloading = Reloading::new();
    let origin = telling_origin();
    let proxy = Proxy::command()
        .args(["--config".as_ref(), reloading.file.as_os_str()])
        .args(["--log-level", "DEBUG"])
        .start();
    let library = reloading.library.display().to_string();
    let entry = format!(
        "[[plugins]]\nlibrary = {library:?}\nname = \"AddField\"\nconfig = {{ name = \"x-added\", value = \"one\" }}\n"
    );
    for (generation, is_on) in [(1, true), (2, false), (3, true)] {
        if generation > 1 {
            reloading.write(&format!("plugin_statistics = {is_on}\n{entry}"));
            proxy.signal(Signal::HUP);
            proxy.wait_for_line(&format!("generation {generation} is active"));
        }
        assert_eq!(added(&proxy.get(&origin, "/")), "one");
    }
    proxy.signal(Signal::TERM);
    let exit = proxy.wait();
    let line = exit.stdout.lines().find(|line| {
        line.contains("calls of a plugin") && line.contains(" hook=handle_client_request ")
    });
    assert!(
        line.is_some_and(|line| line.contains(" calls=2 ")),
        "{}",
        exit.stdout
    );
}

#[test]
fn a_changed_ca_signs_from_the_reload_on() {
    let (before, after, reloading) = (Pki::new(), Pki::new(), Reloading::new());
    reloading.write("");
    let origin = before.origin().answering(Answer::ok("ok"));
    let authority = origin.authority();
    let proxy = intercepting(&before, &reloading).start();
    let mut session = before.client(&proxy).https(&authority);
    let ask = || Ask::get(&authority, "/");
    assert_eq!(session.ask(ask()).told(), (200, "ok".into()));
    assert!(after.client(&proxy).try_secure(&authority).is_err());
    after.interception();
    for name in ["ca-cert.pem", "ca-key.pem"] {
        let (from, to) = (after.scratch().path(name), before.scratch().path(name));
        fs::copy(from, to).expect("a scratch file is ours");
    }
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    assert_eq!(
        after.client(&proxy).https(&authority).ask(ask()).told(),
        (200, "ok".into())
    );
    assert!(before.client(&proxy).try_secure(&authority).is_err());
    // A session that was accepted with the old certificate continues.
    assert_eq!(session.ask(ask()).told(), (200, "ok".into()));
}
