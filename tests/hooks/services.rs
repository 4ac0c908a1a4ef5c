//! Services of the proxy for async hooks and for tasks.

use super::{free_port, nowhere, zoo};
use crate::support::{Ca, HANG, OK, Origin, Proxy, ProxyCommand, get, response};
use std::thread;
use std::time::{Duration, Instant};

mod timers {
    use super::*;

    #[test]
    fn of_the_proxy_hold_up_nobody_else() {
        let origin = Origin::answering(OK);
        let proxy = zoo("HostSleep")
            .plugin_config("HostSleep.milliseconds=300")
            .start();
        let begun = Instant::now();
        let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send(get(&origin, "/"));
        }
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
        let elapsed = begun.elapsed();
        assert!(elapsed >= Duration::from_millis(300), "{elapsed:?}");
        assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    }

    #[test]
    fn a_hook_that_never_ends_is_given_up_and_named() {
        let origin = Origin::answering(OK);
        let proxy = zoo("Never").start();
        let mut stuck = proxy.client();
        let begun = Instant::now();
        stuck.send(get(&origin, "/never"));
        proxy.wait_for_line("waits for ever");
        let asked = Instant::now();
        assert_eq!(proxy.get(&origin, "/").status(), 200);
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{:?}",
            asked.elapsed()
        );
        let answer = stuck.response();
        let elapsed = begun.elapsed();
        assert_eq!(answer.status(), 504);
        assert!(
            elapsed >= Duration::from_millis(4900) && elapsed < HANG,
            "{elapsed:?}"
        );
        let line = proxy.wait_for_line("within 5 s");
        assert!(
            line.contains("Never") && line.contains("before_upstream_connection"),
            "{line}"
        );
        proxy.wait_for_line("gave up waiting");
        assert_eq!(
            stuck.ask(get(&origin, "/")).status(),
            200,
            "the connection goes on"
        );
    }

    #[test]
    fn a_client_that_resets_ends_the_wait() {
        let origin = Origin::answering(OK);
        let proxy = zoo("Never").start();
        let mut client = proxy.client();
        client.send(get(&origin, "/never"));
        proxy.wait_for_line("waits for ever");
        let begun = Instant::now();
        client.reset();
        proxy.wait_for_line("gave up waiting");
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        origin.assert_untouched();
    }

    #[test]
    fn a_thread_of_the_plugins_own_may_wake_a_hook() {
        let proxy = zoo("OwnThread").start();
        let mut client = proxy.client();
        for _ in 0..3 {
            assert_eq!(client.ask(nowhere("/")).text(), "from a thread");
        }
    }
}

mod calls {
    use super::*;

    fn calling(url: &str) -> ProxyCommand {
        zoo("Caller").plugin_config(&format!("Caller.url=\"{url}\""))
    }

    fn answer_to(command: ProxyCommand) -> String {
        command.start().ask(nowhere("/")).text()
    }

    fn assert_failed(command: ProxyCommand, reason: &str) {
        let said = answer_to(command);
        assert!(
            said.starts_with("error: ") && said.contains(reason),
            "{said}"
        );
    }

    #[test]
    fn are_answered_whole_and_reuse_their_connection() {
        let service = Origin::answering(
            "HTTP/1.1 201 Created\r\nX-Answer: 42\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n",
        );
        let url = format!("http://{}/path?query#fragment", service.authority());
        let proxy = calling(&url)
            .plugin_config("Caller.fields=[[\"X-Ask\", \"6 * 7\"], [\"Host\", \"other\"]]")
            .start();
        for _ in 0..3 {
            assert_eq!(proxy.ask(nowhere("/")).text(), "201 42 fine");
        }
        assert_eq!(service.connections().len(), 1, "the connection is kept");
        for asked in service.requests() {
            assert_eq!((asked.method(), asked.target()), ("GET", "/path?query"));
            assert_eq!(asked.all("X-Ask"), ["6 * 7"]);
            assert_eq!(asked.all("Host"), [service.authority()]);
        }
    }

    #[test]
    fn may_carry_content() {
        let service = Origin::replying(|request| response("200 OK", &request.text()).into_bytes());
        let proxy = calling(&format!("http://{}/", service.authority()))
            .plugin_config("Caller.method=\"POST\"")
            .plugin_config("Caller.body=\"a question\"")
            .plugin_config(
                "Caller.fields=[[\"Content-Length\", \"3\"], [\"Transfer-Encoding\", \"chunked\"]]",
            )
            .start();
        for _ in 0..2 {
            assert_eq!(proxy.ask(nowhere("/")).text(), "200 - a question");
        }
        let asked = service.requests().remove(0);
        assert_eq!(
            (asked.method(), asked.all("Content-Length")),
            ("POST", vec!["10".to_owned()])
        );
    }

    #[test]
    fn may_be_to_https() {
        let ca = Ca::named("known");
        let service = ca.origin(&["localhost"], OK);
        let url = format!("https://localhost:{}/", service.port());
        let trusting = calling(&url).args(["--ca-file".as_ref(), ca.file().as_os_str()]);
        assert_eq!(answer_to(trusting), "200 - origin-ok");
        assert_failed(calling(&url), "unknown CA");
        assert_eq!(service.requests().len(), 1);
    }

    #[test]
    fn end_at_their_limits() {
        let silent = Origin::silent();
        let url = format!("http://{}/", silent.authority());
        let begun = Instant::now();
        assert_failed(
            calling(&url).plugin_config("Caller.timeout_ms=200"),
            "0.2 s",
        );
        assert!(begun.elapsed() < Duration::from_secs(4));
        silent.wait_for_end();
        let service = Origin::answering(OK);
        let url = format!("http://{}/", service.authority());
        assert_failed(
            calling(&url).plugin_config("Caller.max_body=8"),
            "longer than 8 bytes",
        );
        assert_eq!(
            answer_to(calling(&url).plugin_config("Caller.max_body=9")),
            "200 - origin-ok"
        );
    }

    #[test]
    fn that_reach_nobody_say_why() {
        assert_failed(calling("http://127.0.0.1:1/"), "refused");
        assert_failed(calling("http://nowhere.invalid/"), "nowhere.invalid");
        let torn = Origin::serve(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        });
        assert_failed(
            calling(&format!("http://{}/", torn.authority())),
            "was cut off",
        );
        let nonsense = Origin::answering("220 smtp.example ESMTP\r\n\r\n");
        assert_failed(
            calling(&format!("http://{}/", nonsense.authority())),
            "error",
        );
    }

    #[test]
    fn that_would_say_more_than_they_should_are_refused() {
        let service = Origin::answering(OK);
        let url = format!("http://{}/", service.authority());
        for field in [
            "[\"X-A\", \"1\\r\\nX-B: 2\"]",
            "[\"X-A\\r\\nX-B\", \"1\"]",
            "[\"X A\", \"1\"]",
            "[\"\", \"1\"]",
        ] {
            let command = calling(&url).plugin_config(&format!("Caller.fields=[{field}]"));
            assert_failed(command, "not a valid field");
        }
        for method in ["GET / HTTP/1.1\\r\\nX-B: 2\\r\\nX-C:", "G T", "", "CONNECT"] {
            let command = calling(&url).plugin_config(&format!("Caller.method=\"{method}\""));
            assert_failed(command, "");
        }
        for path in [" HTTP/1.1\\r\\nX-B: 2\\r\\nX-C:", "a b", "\\u0000"] {
            assert_failed(calling(&format!("{url}{path}")), "");
        }
        for url in [
            "",
            "/",
            "ftp://a/",
            "http:///",
            "http://u:p@127.0.0.1/",
            "http://127.0.0.1:0/",
        ] {
            assert_failed(calling(url), "");
        }
        service.assert_untouched();
    }

    #[test]
    fn run_no_plugins_so_that_none_can_ask_itself() {
        let port = free_port();
        let proxy = Proxy::bare()
            .args(["--hostname", "127.0.0.1", "--port", &port.to_string()])
            .plugin("zoo", "Caller")
            .plugin_config(&format!("Caller.url=\"http://127.0.0.1:{port}/\""))
            .start();
        // The call arrives as a request to a web server, which is refused before plugins are called.
        let said = proxy.ask(nowhere("/")).text();
        assert!(said.starts_with("400 "), "{said}");
    }

    #[test]
    fn a_kept_connection_that_was_closed_is_replaced() {
        let service = Origin::serve(|peer| {
            peer.request();
            peer.send(OK);
        });
        let proxy = calling(&format!("http://{}/", service.authority())).start();
        for _ in 0..5 {
            assert_eq!(proxy.ask(nowhere("/")).text(), "200 - origin-ok");
        }
    }
}

mod work {
    use super::*;

    #[test]
    fn on_other_threads_waits_its_turn_and_all_of_it_is_done() {
        let proxy = zoo("Blocker").start();
        let mut client = proxy.client();
        client.send(nowhere("/many"));
        // The worker serves other clients meanwhile.
        assert_ne!(
            proxy.ask("OPTIONS * HTTP/1.1\r\nHost: p\r\n\r\n").status(),
            500
        );
        assert_eq!(client.response().text(), (1..=200).sum::<u32>().to_string());
    }

    #[test]
    fn that_panics_gives_its_message() {
        let proxy = zoo("Blocker").start();
        let mut client = proxy.client();
        for _ in 0..20 {
            let said = client.ask(nowhere("/panic")).text();
            assert!(said.starts_with("panicked: out of paper"), "{said}");
        }
        assert_eq!(
            client.ask(nowhere("/many")).text(),
            "20100",
            "no thread is lost"
        );
    }
}

mod tasks {
    use super::*;

    #[test]
    fn outlive_their_exchange() {
        let origin = Origin::answering(OK);
        let proxy = zoo("Spawner")
            .plugin_config("Spawner.milliseconds=200")
            .start();
        let mut client = proxy.client();
        assert_eq!(client.ask(get(&origin, "/later")).status(), 200);
        drop(client);
        proxy.wait_for_line("the task has run");
    }

    #[test]
    fn that_panic_are_logged_and_harm_nobody() {
        let origin = Origin::answering(OK);
        let proxy = zoo("Spawner").start();
        let mut client = proxy.client();
        for _ in 0..3 {
            assert_eq!(client.ask(get(&origin, "/panic")).status(), 200);
        }
        let line = proxy.wait_for_line("the task is lost");
        assert!(line.contains("ERROR"), "{line}");
        assert_eq!(client.ask(get(&origin, "/later")).status(), 200);
        proxy.wait_for_line("the task has run");
    }

    #[test]
    fn end_with_the_proxy() {
        let origin = Origin::answering(OK);
        let proxy = zoo("Spawner")
            .plugin_config("Spawner.milliseconds=60000")
            .start();
        for path in ["/forever", "/later"] {
            assert_eq!(proxy.get(&origin, path).status(), 200);
        }
        proxy.wait_for_line("the task has begun");
        let begun = Instant::now();
        proxy.signal(rustix::process::Signal::TERM);
        let exit = proxy.wait();
        assert_eq!((exit.code, exit.signal), (Some(0), None), "{}", exit.stderr);
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
        assert!(
            exit.stdout.contains("the task was dropped"),
            "{}",
            exit.stdout
        );
    }

    #[test]
    fn are_begun_on_workers_alone() {
        let proxy = zoo("SpawnInNew").start();
        let line = proxy.wait_for_line("no task: ");
        assert!(line.contains("is not a worker"), "{line}");
    }

    #[test]
    fn many_at_once_are_all_served() {
        let origin = Origin::answering(OK);
        let proxy = zoo("Spawner")
            .plugin_config("Spawner.milliseconds=20")
            .start();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    for _ in 0..25 {
                        assert_eq!(client.ask(get(&origin, "/later")).status(), 200);
                    }
                });
            }
        });
        proxy.wait_for_lines("the task has run", 100);
    }
}
