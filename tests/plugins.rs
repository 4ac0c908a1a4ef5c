//! Filters from shared libraries: load errors, and the effect of loaded filters on an exchange.
//!
//! The filters are the bundled ones and those of the fixture `zoo`, which do one thing each. An error at startup exits
//! with code 78 and one line that names the file; an error in a hook fails one exchange.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{
    Exit, OK, Origin, Proxy, ProxyCommand, Scratch, get, plugin_directory, plugin_library, request,
    response,
};

const HOOKS: [&str; 6] = [
    "before_upstream_connection",
    "handle_client_request",
    "handle_upstream_response",
    "handle_upstream_chunk",
    "on_access_log",
    "on_upstream_connection_close",
];

fn zoo(name: &str) -> ProxyCommand {
    Proxy::command().plugin("zoo", name)
}

fn run_with(spec: &str) -> Exit {
    Proxy::command().args(["--plugins", spec]).run()
}

fn assert_unusable(exit: &Exit, words: &[&str]) {
    assert_eq!((exit.code, exit.signal), (Some(78), None), "{exit:?}");
    assert_eq!(exit.stderr.lines().count(), 1, "{:?}", exit.stderr);
    for word in words {
        assert!(
            exit.stderr.contains(word),
            "no {word:?} in {:?}",
            exit.stderr
        );
    }
    assert!(!exit.stdout.contains("Started server"), "{}", exit.stdout);
}

mod loading {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        assert_unusable(
            &run_with("/no/such/libnothing.so:Nothing"),
            &["/no/such/libnothing.so"],
        );
        assert_unusable(&run_with("libnothing.so:Nothing"), &["libnothing.so"]);
    }

    #[test]
    fn a_directory_is_no_library() {
        let scratch = Scratch::new();
        let path = scratch.path("dir.so");
        fs::create_dir(&path).expect("a scratch directory can be made");
        assert_unusable(
            &run_with(&format!("{}:X", path.display())),
            &["dir.so", "directory"],
        );
    }

    #[test]
    fn a_text_is_no_library() {
        let scratch = Scratch::new();
        for (name, content) in [
            (
                "text.so",
                "this is text, and long enough to be read as a header of 64 bytes or so",
            ),
            ("empty.so", ""),
        ] {
            let path = scratch.write(name, content);
            assert_unusable(&run_with(&format!("{}:X", path.display())), &[name]);
        }
    }

    #[test]
    fn a_file_that_is_cut_off_never_crashes_the_process() {
        let whole = fs::read(plugin_library("zoo")).expect("the zoo is built");
        let scratch = Scratch::new();
        let lengths = [
            1,
            4,
            16,
            63,
            64,
            65,
            200,
            1000,
            4096,
            whole.len() / 8,
            whole.len() / 4,
            whole.len() / 2,
            whole.len() * 3 / 4,
            whole.len() - 1,
        ];
        for len in lengths {
            let path = scratch.write("libcut.so", &whole[..len]);
            let exit = run_with(&format!("{}:Nothing", path.display()));
            assert_eq!(
                exit.signal,
                None,
                "a signal at {len} of {} bytes",
                whole.len()
            );
            assert_unusable(&exit, &["libcut.so"]);
        }
    }

    #[test]
    fn a_library_for_another_processor_is_refused() {
        let mut bytes = fs::read(plugin_library("zoo")).expect("the zoo is built");
        bytes[18] = 0x2b;
        bytes[19] = 0;
        let scratch = Scratch::new();
        let path = scratch.write("libother.so", bytes);
        assert_unusable(
            &run_with(&format!("{}:Nothing", path.display())),
            &["libother.so", "architecture"],
        );
    }

    #[test]
    fn a_library_for_another_api_shows_both_versions() {
        let mut bytes = fs::read(plugin_library("zoo")).expect("the zoo is built");
        let note = b"plugin-api=01.";
        let at = crate::support::position(&bytes, note).expect("the library says what it is for");
        bytes[at + note.len() - 2] = b'9';
        let scratch = Scratch::new();
        let path = scratch.write("libnewer.so", bytes);
        let exit = run_with(&format!("{}:Nothing", path.display()));
        assert_unusable(&exit, &["libnewer.so", "9.0", "1.0"]);
    }

    #[test]
    fn a_library_without_entry_point_is_told_how_to_get_one() {
        let path = plugin_library("not_a_plugin");
        assert_unusable(
            &run_with(&format!("{}:X", path.display())),
            &["not_a_plugin", "export_plugins!"],
        );
    }

    #[test]
    fn an_unknown_name_lists_the_names_there_are() {
        assert_unusable(
            &zoo("NoSuchAnimal").run(),
            &["libzoo", "NoSuchAnimal", "Upper", "AddField"],
        );
    }

    #[test]
    fn the_same_plugin_twice_is_refused() {
        let exit = zoo("Nothing").plugin("zoo", "Nothing").run();
        assert_unusable(&exit, &["libzoo", "Nothing", "twice"]);
    }

    #[test]
    fn the_same_plugin_by_another_path_is_refused() {
        let scratch = Scratch::new();
        let link = scratch.path("liblink.so");
        std::os::unix::fs::symlink(plugin_library("zoo"), &link).expect("a link can be made");
        let exit = zoo("Nothing")
            .args(["--plugins", &format!("{}:Nothing", link.display())])
            .run();
        assert_unusable(&exit, &["Nothing", "twice"]);
    }

    #[test]
    fn the_same_content_in_another_file_is_the_same_library() {
        let scratch = Scratch::new();
        let copy = scratch.path("libcopy.so");
        fs::copy(plugin_library("zoo"), &copy).expect("the zoo can be copied");
        let exit = zoo("Nothing")
            .args(["--plugins", &format!("{}:Nothing", copy.display())])
            .run();
        assert_unusable(&exit, &["Nothing", "twice"]);
    }

    #[test]
    fn two_libraries_of_one_file_name_are_two() {
        let (first, second) = (Scratch::new(), Scratch::new());
        for (scratch, package) in [(&first, "shortlink"), (&second, "filter_by_upstream_host")] {
            let copy = scratch.path("libsame.so");
            fs::copy(plugin_library(package), copy).expect("a library can be copied");
        }
        let specs =
            [&first, &second].map(|scratch| scratch.path("libsame.so").display().to_string());
        let proxy = Proxy::command()
            .args(["--plugins", &specs.join(",")])
            .start();
        proxy.wait_for_line("Loaded plugin libsame.so:ShortLink ");
        proxy.wait_for_line("Loaded plugin libsame.so:FilterByUpstreamHost ");
        let request = "GET http://google.com/ HTTP/1.1\r\nHost: google.com\r\n\r\n";
        assert_eq!(proxy.ask(request).status(), 418);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_that_is_overwritten_goes_on_as_it_was_loaded() {
        let origin = Origin::answering(OK);
        let scratch = Scratch::new();
        let library = scratch.path("libguard.so");
        fs::copy(plugin_library("filter_by_upstream_host"), &library).expect("it can be copied");
        let proxy = Proxy::command()
            .args([
                "--plugins",
                &format!("{}:FilterByUpstreamHost", library.display()),
            ])
            .start();
        let maps =
            fs::read_to_string(format!("/proc/{}/maps", proxy.id())).expect("a live process");
        let mapped = |line: &str| line.contains("memfd:libguard.so") && line.contains("r-xp");
        assert!(maps.lines().any(mapped), "{maps}");
        let denied = "GET http://google.com/ HTTP/1.1\r\nHost: google.com\r\n\r\n";
        // `cp` overwrites in place; editors and builds remove the file first.
        let other = fs::read(plugin_library("shortlink")).expect("it is built");
        for overwrite in [&other[..], &other[..100], b""] {
            fs::write(&library, overwrite).expect("it can be overwritten");
            assert_eq!(proxy.get(&origin, "/").status(), 200);
            assert_eq!(proxy.ask(denied).status(), 418);
        }
        fs::remove_file(&library).expect("it can be removed");
        assert_eq!(proxy.ask(denied).status(), 418);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_costs_one_descriptor() {
        let none = Proxy::start().open_files();
        let both = zoo("Nothing")
            .plugin("zoo", "Upper")
            .plugin("shortlink", "ShortLink");
        assert_eq!(both.start().open_files(), none + 2);
    }

    #[test]
    fn a_configuration_that_a_plugin_refuses_stops_the_start() {
        assert_unusable(&zoo("RefuseConfig").run(), &["libzoo", "RefuseConfig"]);
        let exit = Proxy::command()
            .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
            .plugin_config("FilterByUpstreamHost.hosts=5")
            .run();
        assert_unusable(&exit, &["FilterByUpstreamHost", "hosts"]);
    }

    #[test]
    fn a_plugin_that_panics_while_starting_stops_the_start() {
        assert_unusable(&zoo("PanicInNew").run(), &["libzoo", "PanicInNew", "panic"]);
    }

    #[test]
    fn settings_for_a_plugin_that_is_not_loaded_are_refused() {
        let exit = zoo("Nothing").plugin_config("Upper.x=1").run();
        assert!(matches!(exit.code, Some(2 | 78)), "{exit:?}");
        assert!(exit.stderr.contains("Upper"), "{}", exit.stderr);
    }

    #[test]
    fn names_are_looked_up_in_the_plugin_directory() {
        let directory = plugin_directory().as_os_str().to_owned();
        for spec in [
            "libshortlink.so:ShortLink",
            "shortlink:ShortLink",
            "shortlink.ShortLinkPlugin",
            "plugin_examples/shortlink.ShortLinkPlugin",
        ] {
            let command = Proxy::command().args(["--plugin-dir".as_ref(), directory.as_os_str()]);
            let proxy = command.args(["--plugins", spec]).start();
            proxy.wait_for_line("Loaded plugin libshortlink.so:ShortLink ");
        }
    }

    #[test]
    fn a_dotted_spec_finds_the_platforms_file_name() {
        for name in ["libshortlink.ShortLink", "shortlink.ShortLink"] {
            let spec = plugin_directory().join(name);
            Proxy::command()
                .args(["--plugins".as_ref(), spec.as_os_str()])
                .start()
                .wait_for_line(":ShortLink ");
        }
    }

    #[test]
    fn a_missing_file_is_not_replaced_by_a_bundled_one() {
        let scratch = Scratch::new();
        let directory = plugin_directory().display().to_string();
        let missing = scratch.path("libshortlink.so").display().to_string();
        for spec in [
            format!("{missing}:ShortLink"),
            missing.clone(),
            missing.replace("libshortlink.so", "shortlink.ShortLinkPlugin"),
            "./libshortlink.so:ShortLink".to_owned(),
            "../none/libshortlink.so".to_owned(),
        ] {
            let exit = Proxy::command()
                .args(["--plugin-dir", &directory, "--plugins", &spec])
                .run();
            assert_unusable(&exit, &[&spec, "library not found"]);
        }
    }

    #[test]
    fn the_file_that_was_loaded_is_in_the_log() {
        let directory = plugin_directory();
        let proxy = Proxy::command()
            .args(["--plugin-dir".as_ref(), directory.as_os_str()])
            .args(["--plugins", "shortlink.ShortLinkPlugin"])
            .start();
        let file = plugin_library("shortlink").display().to_string();
        proxy.wait_for_line(&format!(" from {file}"));
    }

    #[test]
    fn a_library_without_a_name_loads_all_it_has() {
        let spec = plugin_library("shortlink");
        let proxy = Proxy::command()
            .args(["--plugins".as_ref(), spec.as_os_str()])
            .start();
        proxy.wait_for_line("Loaded plugin libshortlink.so:ShortLink ");
    }

    #[test]
    fn lists_and_repeats_keep_their_order() {
        let list = format!(
            "{}:FilterByUpstreamHost,{}:ShortLink",
            plugin_library("filter_by_upstream_host").display(),
            plugin_library("shortlink").display()
        );
        let last = format!("{}:Nothing", plugin_library("zoo").display());
        let proxy = Proxy::command()
            .args(["--plugins", &list, "--plugins", &last])
            .start();
        let loaded: Vec<String> = proxy
            .lines()
            .into_iter()
            .filter(|line| line.contains("Loaded plugin"))
            .collect();
        assert_eq!(loaded.len(), 3, "{loaded:#?}");
        assert!(
            loaded[0].contains("FilterBy")
                && loaded[1].contains("ShortLink")
                && loaded[2].contains("Nothing"),
            "{loaded:#?}"
        );
    }

    #[test]
    fn the_file_lists_plugins_with_their_settings() {
        let origin = Origin::answering(OK);
        let library = plugin_library("filter_by_upstream_host");
        let toml = format!(
            "[[plugins]]\nlibrary = \"{}\"\nname = \"FilterByUpstreamHost\"\nconfig = {{ hosts = [\"127.0.0.1\"] }}",
            library.display()
        );
        let proxy = Proxy::command().config(&toml).start();
        assert_eq!(proxy.get(&origin, "/").status(), 418);
        origin.assert_untouched();
    }

    #[test]
    fn an_empty_entry_is_no_plugin() {
        for spec in [":Name", "lib.so:"] {
            let exit = run_with(spec);
            assert!(matches!(exit.code, Some(2 | 78)), "{spec:?}: {exit:?}");
        }
    }
}

mod hooks {
    use super::*;

    /// The calls that tracers logged, as `label hook`; consecutive repeats appear once.
    fn traced(proxy: &Proxy) -> Vec<String> {
        let lines = proxy.lines();
        let mut calls: Vec<String> = lines
            .iter()
            .filter_map(|line| line.split_once("trace "))
            .map(|(_, call)| {
                call.split_whitespace()
                    .take(2)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        calls.dedup();
        calls
    }

    #[test]
    fn are_called_in_order_for_one_exchange() {
        let origin = Origin::answering(OK);
        let proxy = zoo("Tracer").plugin_config("Tracer.label=\"a\"").start();
        assert_eq!(proxy.get(&origin, "/").status(), 200);
        proxy.wait_for_line("trace a on_upstream_connection_close");
        assert_eq!(traced(&proxy), HOOKS.map(|hook| format!("a {hook}")));
    }

    #[test]
    fn are_called_in_the_order_of_the_command_line() {
        let origin = Origin::answering(OK);
        let labels = ["Tracer.label=\"first\"", "TracerB.label=\"second\""];
        for (names, trace) in [
            (["Tracer", "TracerB"], ["first", "second"]),
            (["TracerB", "Tracer"], ["second", "first"]),
        ] {
            let command = zoo(names[0]).plugin("zoo", names[1]);
            let proxy = labels
                .into_iter()
                .fold(command, ProxyCommand::plugin_config)
                .start();
            assert_eq!(proxy.get(&origin, "/").status(), 200);
            proxy.wait_for_line(&format!("trace {} on_upstream_connection_close", trace[1]));
            let mut calls = traced(&proxy);
            calls.retain(|call| !call.ends_with("chunk"));
            let hooks = HOOKS.into_iter().filter(|hook| !hook.ends_with("chunk"));
            let wanted: Vec<String> = hooks
                .flat_map(|hook| trace.map(|label| format!("{label} {hook}")))
                .collect();
            assert_eq!(calls, wanted);
            let seen = origin
                .requests()
                .pop()
                .and_then(|request| request.field("X-Trace"));
            assert_eq!(seen, Some(trace.join(",")));
        }
    }

    #[test]
    fn keep_a_state_for_each_exchange() {
        let origin = Origin::answering(OK);
        let proxy = zoo("Tracer").plugin_config("Tracer.label=\"a\"").start();
        let mut client = proxy.client();
        for path in ["/one", "/two"] {
            client.ask(get(&origin, path));
            let line = proxy.wait_for_line(path);
            let count = line
                .split_once("trace_a=")
                .map(|(_, count)| count.trim().parse::<u32>());
            assert!(matches!(count, Some(Ok(5..=7))), "{line}");
        }
    }

    #[test]
    fn may_answer_without_an_upstream() {
        let origin = Origin::answering(OK);
        let proxy = zoo("HeaderReader").plugin("zoo", "AddField").start();
        let mut client = proxy.client();
        let answer = client.ask(request("GET", &origin, "/", "X-Denied: 1\r\n"));
        assert_eq!(
            (answer.start.as_str(), answer.text().trim()),
            ("HTTP/1.1 403 Denied", "Denied")
        );
        assert_eq!(answer.field("X-Zoo"), None, "later plugins are not asked");
        origin.assert_untouched();
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    }

    #[test]
    fn may_close_in_place_of_an_answer() {
        let origin = Origin::answering(OK);
        let proxy = zoo("CloseClient").start();
        let mut client = proxy.client();
        client.send(get(&origin, "/"));
        client.read_to_end();
        assert_eq!(client.received(), b"");
        origin.assert_untouched();
    }

    #[test]
    fn may_use_sockets_of_their_own() {
        let origin = Origin::answering(OK);
        let asked = Origin::silent();
        for (address, status) in [(asked.authority(), 200), ("127.0.0.1:1".into(), 403)] {
            let setting = format!("AsyncTcp.address=\"{address}\"");
            let proxy = zoo("AsyncTcp").plugin_config(&setting).start();
            assert_eq!(proxy.get(&origin, "/").status(), status);
        }
    }

    #[test]
    fn a_panic_in_a_destructor_costs_nothing() {
        let origin = Origin::answering(OK);
        let proxy = zoo("PanicInState").start();
        for _ in 0..3 {
            assert_eq!(proxy.get(&origin, "/").text(), "origin-ok");
        }
    }

    #[test]
    fn see_every_request_of_a_connection() {
        let origin = Origin::answering(OK);
        let proxy = zoo("AddField")
            .plugin_config("AddField.name=\"x-added\"")
            .plugin_config("AddField.value=\"yes\"")
            .start();
        let mut client = proxy.client();
        for _ in 0..3 {
            let answer = client.ask(get(&origin, "/"));
            assert_eq!(answer.field("x-added").as_deref(), Some("yes"));
        }
        assert!(
            origin
                .requests()
                .iter()
                .all(|request| request.field("x-added").as_deref() == Some("yes"))
        );
    }

    #[test]
    fn a_plugin_without_hooks_changes_nothing() {
        let origin = Origin::answering(OK);
        let plain = Proxy::start();
        let proxy = zoo("Nothing").start();
        let fields = "X-A: 1\r\nAccept: */*\r\n";
        let (with, without) = (
            proxy.ask(request("GET", &origin, "/", fields)),
            plain.ask(request("GET", &origin, "/", fields)),
        );
        assert_eq!(with.head, without.head);
        let requests = origin.requests();
        assert_eq!(requests[0].head, requests[1].head);
    }

    #[test]
    fn a_panic_is_the_failure_of_one_exchange() {
        let origin = Origin::answering(OK);
        for hook in &HOOKS[..3] {
            let proxy = zoo("PanicIn")
                .plugin_config(&format!("PanicIn.hook=\"{hook}\""))
                .start();
            for _ in 0..3 {
                let answer = proxy.get(&origin, "/");
                assert_eq!(answer.status(), 500, "{hook}");
                assert!(answer.field("Proxy-Status").is_some(), "{hook}");
            }
            let log = proxy.wait_for_line("PanicIn");
            assert!(log.contains("panic") || log.contains("Panic"), "{log}");
        }
    }

    #[test]
    fn a_panic_in_a_chunk_is_visible() {
        let origin = Origin::answering(OK);
        let proxy = zoo("PanicIn")
            .plugin_config("PanicIn.hook=\"handle_upstream_chunk\"")
            .start();
        for _ in 0..3 {
            let answer = proxy.get(&origin, "/");
            assert!(
                answer.status() == 500 || !answer.complete,
                "{} {:?}",
                answer.start,
                answer.text()
            );
        }
    }

    #[test]
    fn a_panic_after_the_answer_costs_nothing() {
        let origin = Origin::answering(OK);
        for hook in &HOOKS[4..] {
            let proxy = zoo("PanicIn")
                .plugin_config(&format!("PanicIn.hook=\"{hook}\""))
                .start();
            let mut client = proxy.client();
            for _ in 0..3 {
                assert_eq!(client.ask(get(&origin, "/")).text(), "origin-ok", "{hook}");
            }
        }
    }

    #[test]
    fn an_error_is_the_failure_of_one_exchange() {
        let origin = Origin::answering(OK);
        for hook in &HOOKS[..3] {
            let proxy = zoo("ErrorIn")
                .plugin_config(&format!("ErrorIn.hook=\"{hook}\""))
                .start();
            assert_eq!(proxy.get(&origin, "/").status(), 500, "{hook}");
            assert_eq!(proxy.get(&origin, "/").status(), 500, "{hook}");
        }
    }

    #[test]
    fn a_panic_in_an_async_hook_is_the_failure_of_one_exchange() {
        let origin = Origin::answering(OK);
        let proxy = zoo("AsyncPanic").start();
        for _ in 0..3 {
            assert_eq!(proxy.get(&origin, "/").status(), 500);
        }
    }

    #[test]
    fn an_async_hook_does_not_hold_up_other_exchanges() {
        let origin = Origin::answering(OK);
        let proxy = zoo("AsyncSleep").plugin_config("AsyncSleep.ms=500").start();
        let started = Instant::now();
        let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send(get(&origin, "/"));
        }
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
        let elapsed = started.elapsed();
        assert!(
            elapsed >= Duration::from_millis(500),
            "the hook did not sleep"
        );
        assert!(
            elapsed < Duration::from_secs(3),
            "twenty exchanges of half a second took {elapsed:?}"
        );
    }

    #[test]
    fn a_client_that_leaves_cancels_an_async_hook() {
        let origin = Origin::answering(OK);
        let proxy = zoo("AsyncSleep").plugin_config("AsyncSleep.ms=300").start();
        for _ in 0..20 {
            let mut client = proxy.client();
            client.send(get(&origin, "/left"));
            client.reset();
        }
        assert_eq!(proxy.get(&origin, "/stayed").status(), 200);
        let targets: Vec<String> = origin
            .requests()
            .iter()
            .map(|request| request.target().to_owned())
            .collect();
        assert_eq!(targets, ["/stayed"]);
    }

    #[test]
    fn log_fields_stand_in_the_access_line() {
        let origin = Origin::answering(OK);
        let proxy = zoo("LogFields").start();
        assert_eq!(proxy.get(&origin, "/logged").status(), 200);
        let line = proxy.wait_for_line("/logged");
        assert!(
            line.rsplit(" ms")
                .next()
                .is_some_and(|fields| fields.contains('=')),
            "{line}"
        );
    }

    #[test]
    fn a_plugin_may_suppress_the_access_line() {
        let origin = Origin::answering(OK);
        let proxy = zoo("SuppressLog").start();
        assert_eq!(proxy.get(&origin, "/hidden").status(), 200);
        proxy.signal(rustix::process::Signal::TERM);
        assert!(!proxy.wait().stdout.contains("/hidden"));
    }

    #[test]
    fn an_answer_in_the_upstreams_place_keeps_the_clients_connection() {
        let origin = Origin::answering(OK);
        let endless = Origin::serve(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun");
            peer.park();
        });
        let closing = Origin::serve(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\n\r\nall");
        });
        let proxy = zoo("Answer")
            .plugin_config("Answer.hook=\"handle_upstream_response\"")
            .plugin_config("Answer.status=403")
            .plugin_config("Answer.body=\"instead\"")
            .start();
        let mut client = proxy.client();
        for origin in [&origin, &endless, &closing, &origin] {
            let content = "Content-Length: 3\r\n";
            for (method, fields, rest) in [("GET", "", ""), ("POST", content, "abc")] {
                let answer = client.ask(request(method, origin, "/", fields) + rest);
                assert_eq!((answer.status(), &*answer.text()), (403, "instead"));
                assert_eq!(answer.field("Connection"), None);
            }
        }
    }
}

mod bodies {
    use super::*;

    /// The same content in every framing an origin may use.
    fn framings(content: &str) -> Vec<(&'static str, Origin)> {
        let chunked = content.as_bytes().chunks(3).map(|chunk| {
            format!(
                "{:x}\r\n{}\r\n",
                chunk.len(),
                String::from_utf8_lossy(chunk)
            )
        });
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunked.collect::<String>()
        );
        let until_close = format!("HTTP/1.1 200 OK\r\n\r\n{content}");
        let closing = Origin::serve(move |peer| {
            peer.request();
            peer.send(&until_close);
        });
        vec![
            ("length", Origin::answering(response("200 OK", content))),
            ("chunked", Origin::answering(chunked)),
            ("close-delimited", closing),
        ]
    }

    #[test]
    fn are_replaced_exactly_in_every_framing() {
        let content = "The quick brown fox jumps over the lazy dog. ".repeat(5000);
        let proxy = zoo("Upper").start();
        for (framing, origin) in framings(&content) {
            let answer = proxy.get(&origin, "/");
            assert!(answer.is_sound(), "{framing}: {:?}", answer.fault);
            assert!(
                answer.text() == content.to_uppercase(),
                "{framing}: {} bytes",
                answer.body.len()
            );
        }
    }

    #[test]
    fn are_dropped_exactly_in_every_framing() {
        let proxy = zoo("DropBody").start();
        for (framing, origin) in framings("something to drop") {
            let mut client = proxy.client();
            for _ in 0..2 {
                let answer = client.ask(get(&origin, "/"));
                assert!(
                    answer.is_sound() && answer.body.is_empty(),
                    "{framing}: {:?}",
                    answer.text()
                );
            }
        }
    }

    #[test]
    fn may_be_replaced_at_their_end() {
        let content = "x".repeat(300_000);
        let proxy = zoo("ReplaceBody").start();
        for (framing, origin) in framings(&content) {
            assert_eq!(proxy.get(&origin, "/").text(), "300000 bytes", "{framing}");
        }
    }

    #[test]
    fn are_replaced_for_http_1_0_too() {
        let proxy = zoo("Upper").start();
        for (framing, origin) in framings("hello") {
            let mut client = proxy.client();
            let answer = client.ask(format!(
                "GET http://{}/ HTTP/1.0\r\n\r\n",
                origin.authority()
            ));
            assert_eq!(answer.text(), "HELLO", "{framing}");
            assert_eq!(answer.field("Transfer-Encoding"), None, "{framing}");
        }
    }

    #[test]
    fn pass_one_plugin_after_the_other() {
        let proxy = zoo("Upper").plugin("zoo", "DropBody").start();
        assert_eq!(proxy.get(&Origin::answering(OK), "/").text(), "");
    }

    #[test]
    fn that_are_not_there_stay_away() {
        let head = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let proxy = zoo("Upper").start();
        let mut client = proxy.client();
        let answer = client.ask(request("HEAD", &head, "/", ""));
        assert!(answer.status() == 200 && client.rest().is_empty());
        let none = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.ask(get(&none, "/")).status(), 204);
        assert_eq!(
            client.ask(get(&Origin::answering(OK), "/")).text(),
            "ORIGIN-OK"
        );
    }

    #[test]
    fn that_break_off_stay_broken() {
        let origin = Origin::serve(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
        });
        let proxy = zoo("Upper").start();
        let answer = proxy.get(&origin, "/");
        assert!(
            !answer.complete || answer.status() == 502,
            "{} looks whole",
            answer.start
        );
    }
}

mod statistics {
    use rustix::process::Signal;

    use super::*;

    /// The call statistics logged at shutdown, after three forwarded requests and one denied request.
    fn lines_at_the_end(command: ProxyCommand) -> Vec<String> {
        let origin = Origin::answering(OK);
        let proxy = command
            .args(["--log-level", "DEBUG", "--num-workers", "2"])
            .start();
        for _ in 0..3 {
            assert_eq!(proxy.get(&origin, "/").status(), 200);
        }
        let denied = request("GET", &origin, "/", "X-Denied: 1\r\n");
        assert_eq!(proxy.ask(denied).status(), 403);
        proxy.signal(Signal::TERM);
        let Exit { stdout, stderr, .. } = proxy.wait();
        let lines = stdout.lines().chain(stderr.lines());
        let about_calls = lines.filter(|line| line.contains("calls of a plugin"));
        about_calls.map(str::to_owned).collect()
    }

    #[test]
    fn calls_of_all_workers_are_counted_by_hook_and_outcome() {
        let lines = lines_at_the_end(zoo("HeaderReader"));
        let of = |hook: &str| {
            let hook = format!(" hook={hook} ");
            let mut found = lines.iter().filter(|line| line.contains(&hook));
            let line = found.next().unwrap_or_else(|| panic!("{lines:#?}"));
            assert_eq!(found.next(), None);
            line
        };
        let line = of("before_upstream_connection");
        for word in [
            " - DEBUG - ",
            "plugin=HeaderReader",
            " calls=4 ",
            "proceed=3 respond=1",
        ] {
            assert!(line.contains(word), "no {word:?} in {line:?}");
        }
        for once in ["new", "drop"] {
            assert!(of(once).contains(" calls=1 "));
        }
        assert_eq!(lines.len(), 3, "{lines:#?}");
    }

    #[test]
    fn nothing_is_counted_where_that_is_turned_off() {
        let command = zoo("HeaderReader").config("plugin_statistics = false");
        assert_eq!(lines_at_the_end(command), [""; 0]);
    }
}
