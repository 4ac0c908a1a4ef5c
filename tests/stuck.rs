//! Plugins that block, loop, or terminate the process: the effect on other clients, and what is logged.
//!
//! A blocked plugin waits until the test creates a file, so only the watchdog depends on time.

use rustix::process::Signal;

use crate::support::{Coding, Exit, Message, OK, Origin, Proxy, ProxyCommand, Scratch, get};

/// The file that a blocked plugin waits for.
struct Gate(Scratch);

impl Gate {
    fn closed() -> Self {
        Self(Scratch::new())
    }

    /// The configuration that makes `plugin` wait for this gate.
    fn setting(&self, plugin: &str) -> String {
        format!(
            "{plugin}.until={:?}",
            self.0.path("open").display().to_string()
        )
    }

    fn open(&self) {
        self.0.write("open", "");
    }
}

impl Drop for Gate {
    /// Unblocks the plugin even if the test fails.
    fn drop(&mut self) {
        self.open();
    }
}

fn stuck(plugin: &str) -> ProxyCommand {
    Proxy::command().plugin("stuck", plugin)
}

fn gated(plugin: &str, gate: &Gate) -> ProxyCommand {
    stuck(plugin).plugin_config(&gate.setting(plugin))
}

mod blocked {
    use super::*;

    #[test]
    fn a_hook_that_does_not_return_is_named_and_so_is_its_return() {
        let (origin, gate) = (Origin::answering(OK), Gate::closed());
        let proxy = gated("BlocksHook", &gate).start();
        let mut client = proxy.client();
        client.send(get(&origin, "/block"));
        let named = proxy.wait_for_line("a plugin call blocks");
        for word in [
            " - WARNING - ",
            "blocks the only worker",
            "plugin=BlocksHook",
            "hook=handle_client_request",
            "worker=0",
        ] {
            assert!(named.contains(word), "no {word:?} in {named:?}");
        }
        gate.open();
        assert_eq!(client.response().status(), 200);
        let returned = proxy.wait_for_line("a plugin call returned late");
        assert!(returned.contains("plugin=BlocksHook hook=handle_client_request worker=0 ms="));
        assert_eq!(proxy.get(&origin, "/block").status(), 200);
    }

    #[test]
    fn new_clients_are_served_by_the_other_workers() {
        let (origin, gate) = (Origin::answering(OK), Gate::closed());
        let proxy = gated("BlocksHook", &gate)
            .args(["--num-workers", "2"])
            .start();
        let mut blocked = proxy.client();
        blocked.send(get(&origin, "/block"));
        // Connections that the blocked worker has already accepted would stay there.
        proxy.wait_for_line("blocks its worker");
        // Clients are served before and after the watchdog acts, whichever worker the kernel selects.
        let ask = || {
            let mut clients: Vec<_> = (0..16).map(|_| proxy.client()).collect();
            for client in &mut clients {
                client.send(get(&origin, "/"));
            }
            let answers = clients.iter_mut().map(|client| client.response().status());
            answers.collect::<Vec<_>>()
        };
        assert_eq!(ask(), [200; 16]);
        proxy.wait_for_line("new connections go to other workers");
        assert_eq!(ask(), [200; 16]);
        gate.open();
        assert_eq!(blocked.response().status(), 200);
        assert_eq!(ask(), [200; 16]);
    }

    #[test]
    fn a_second_signal_ends_a_proxy_whose_worker_is_stuck() {
        let (origin, gate) = (Origin::answering(OK), Gate::closed());
        let proxy = gated("BlocksHook", &gate)
            .args(["--num-workers", "2"])
            .start();
        let mut client = proxy.client();
        client.send(get(&origin, "/block"));
        proxy.wait_for_line("a plugin call blocks");
        proxy.signal(Signal::TERM);
        proxy.wait_for_line("Shutting down");
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait().code, Some(0));
    }

    #[test]
    fn a_listener_closes_on_a_signal_while_another_worker_is_stuck() {
        let (origin, gate) = (Origin::answering(OK), Gate::closed());
        let proxy = gated("BlocksHook", &gate)
            .args(["--num-workers", "2"])
            .start();
        let mut client = proxy.client();
        client.send(get(&origin, "/block"));
        proxy.wait_for_line("a plugin call blocks");
        proxy.signal(Signal::TERM);
        proxy.wait_for_line("Shutting down");
        gate.open();
        assert_eq!(client.response().status(), 200);
        let address = proxy.address();
        assert_eq!(proxy.wait().code, Some(0));
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_plugin_that_does_not_end_is_named_and_not_waited_for() {
        let gate = Gate::closed();
        let proxy = gated("BlocksWhenDropped", &gate).start();
        proxy.signal(Signal::TERM);
        let exit = proxy.wait();
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let named = "plugin=BlocksWhenDropped hook=drop";
        assert!(exit.stdout.contains(named), "{}", exit.stdout);
    }

    #[test]
    fn a_second_signal_ends_a_proxy_whose_plugin_does_not_end() {
        let gate = Gate::closed();
        let proxy = gated("BlocksWhenDropped", &gate).start();
        proxy.signal(Signal::TERM);
        proxy.wait_for_line("Shutting down");
        proxy.signal(Signal::INT);
        assert_eq!(proxy.wait().code, Some(0));
    }

    #[test]
    fn a_subscriber_that_does_not_return_is_not_waited_for() {
        let (origin, gate) = (Origin::answering(OK), Gate::closed());
        let proxy = gated("BlocksEvents", &gate).start();
        assert_eq!(proxy.get(&origin, "/").status(), 200);
        proxy.signal(Signal::TERM);
        let exit = proxy.wait();
        assert_eq!(exit.code, Some(0), "{exit:?}");
    }

    #[test]
    fn stuck_jobs_of_a_plugin_do_not_hold_up_the_proxys_own_work() {
        // Incompressible content, too large to be decoded on the worker.
        let mut noise = 1_u32;
        let content: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(300_000)
        .collect();
        let coded = Coding::Gzip.encode(&content);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            coded.len()
        );
        let origin = Origin::answering([head.into_bytes(), coded].concat());
        let gate = Gate::closed();
        let proxy = gated("BlocksJobs", &gate).plugin("zoo", "Nothing").start();
        for _ in 0..3 {
            assert_eq!(proxy.get(&origin, "/").status(), 200);
        }
    }
}

mod waiting {
    use super::*;

    fn late(command: ProxyCommand, limit: &str) {
        let origin = Origin::answering(OK);
        let proxy = command.start();
        assert_eq!(proxy.get(&origin, "/").status(), 504);
        let line = proxy.wait_for_line("it did not finish within");
        for word in [limit, "NeverDecides", "before_upstream_connection"] {
            assert!(line.contains(word), "no {word:?} in {line:?}");
        }
        origin.assert_untouched();
    }

    #[test]
    fn a_hook_may_wait_as_long_as_is_configured() {
        let command = stuck("NeverDecides").config("[timeouts]\nplugin_hook = 0.25");
        late(command, "within 0.25 s");
    }

    #[test]
    fn a_plugin_may_have_a_limit_of_its_own() {
        let library = crate::support::plugin_library("stuck");
        let toml = format!(
            "[timeouts]\nplugin_hook = 60\n[[plugins]]\nlibrary = \"{}\"\nname = \"NeverDecides\"\ntimeout = 0.5",
            library.display()
        );
        late(Proxy::command().config(&toml), "within 0.5 s");
    }
}

mod deaths {
    use super::*;

    /// Lets a plugin terminate the process; returns exit status and output.
    fn death(plugin: &str) -> Exit {
        let origin = Origin::answering(OK);
        let proxy = stuck(plugin).start();
        let mut client = proxy.client();
        client.send(get(&origin, "/"));
        proxy.wait()
    }

    /// Asserts that the line appears once in the log and once on standard error, and that earlier log lines are kept.
    fn assert_told(exit: &Exit, words: &[&str]) {
        for text in [&exit.stdout, &exit.stderr] {
            let lines: Vec<_> = text
                .lines()
                .filter(|line| line.contains("terminated the process"))
                .collect();
            let [line] = lines[..] else {
                panic!("{exit:?}")
            };
            assert!(line.contains(" - CRITICAL - pid:"), "{line}");
            for word in words {
                assert!(line.contains(word), "no {word:?} in {line:?}");
            }
        }
        assert!(exit.stdout.contains("Started server"), "{}", exit.stdout);
    }

    const ABORT: Option<i32> = Some(6);
    const SEGV: Option<i32> = Some(11);

    #[test]
    fn a_second_panic_while_unwinding_is_told_with_both() {
        let exit = death("DoublePanic");
        assert_eq!(exit.signal, ABORT, "{exit:?}");
        assert_told(
            &exit,
            &[
                "plugin DoublePanic of libstuck.so terminated the process in before_upstream_connection: abort",
                "the first panic (at ",
                "the second panic (at ",
                "deaths.rs:",
            ],
        );
    }

    #[test]
    fn a_stack_overflow_is_told() {
        let exit = death("Overflow");
        assert_eq!(exit.signal, ABORT, "{exit:?}");
        assert_told(
            &exit,
            &[
                "plugin Overflow of",
                "in handle_client_request: stack overflow",
            ],
        );
        // The standard library's message is kept.
        assert!(
            exit.stderr.contains("has overflowed its stack"),
            "{}",
            exit.stderr
        );
    }

    #[test]
    fn a_stack_overflow_of_blocking_work_is_told() {
        let exit = death("OverflowInJob");
        assert_eq!(exit.signal, ABORT, "{exit:?}");
        assert_told(
            &exit,
            &["plugin OverflowInJob of", "in run_blocking: stack overflow"],
        );
    }

    #[test]
    fn an_abort_is_told() {
        let exit = death("Aborts");
        assert_eq!(exit.signal, ABORT, "{exit:?}");
        assert_told(
            &exit,
            &["plugin Aborts of", "in before_upstream_connection: abort"],
        );
    }

    #[test]
    fn a_memory_fault_is_told() {
        let exit = death("Faults");
        assert_eq!(exit.signal, SEGV, "{exit:?}");
        let words = [
            "plugin Faults of",
            "in before_upstream_connection: memory fault at 0x1230",
        ];
        assert_told(&exit, &words);
    }

    #[test]
    fn an_exit_is_told() {
        let exit = death("Exits");
        assert_eq!((exit.code, exit.signal), (Some(7), None), "{exit:?}");
        assert_told(
            &exit,
            &[
                "plugin Exits of",
                "in before_upstream_connection: call to exit",
            ],
        );
    }

    #[test]
    fn a_log_file_has_the_line_as_well() {
        let origin = Origin::answering(OK);
        // The proxy opens this path as its log file, and the harness reads it as standard output.
        let command = stuck("Aborts").args(["--log-file", "/dev/stdout"]);
        let proxy = command.start();
        let mut client = proxy.client();
        client.send(get(&origin, "/"));
        assert_told(&proxy.wait(), &["plugin Aborts of libstuck.so"]);
    }

    #[test]
    fn panics_that_are_caught_end_nothing() {
        let origin = Origin::answering(OK);
        let proxy = stuck("PanicsTwiceInOrder").start();
        for _ in 0..2 {
            let answer: Message = proxy.get(&origin, "/");
            assert_eq!(answer.status(), 500);
        }
        proxy.wait_for_line("a panic after it");
    }
}
