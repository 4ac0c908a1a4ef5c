//! Under a service manager that speaks systemd's protocols: notifications, the watchdog, sockets that it has opened.

use std::time::Duration;

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use crate::support::{Origin, Proxy, Scratch, ServiceManager, get};

/// The value of a variable in a notification.
fn value<'l>(lines: &'l [String], name: &str) -> &'l str {
    let value = lines
        .iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {lines:?}"))
}

mod notifications {
    use super::*;

    #[test]
    fn tell_of_start_reload_and_end() {
        for manager in [ServiceManager::at_path(), ServiceManager::abstract_socket()] {
            let scratch = Scratch::new();
            let file = scratch.write("reloaded.toml", "");
            let proxy = Proxy::command()
                .env("NOTIFY_SOCKET", manager.name())
                .args(["--config".as_ref(), file.as_os_str()])
                .start();
            let ready = manager.next();
            assert_eq!(value(&ready, "READY"), "1");
            assert_eq!(value(&ready, "MAINPID"), proxy.id().to_string());
            let status = format!("Serving on {}; 1 workers, generation 1", proxy.address());
            assert_eq!(value(&ready, "STATUS"), status);

            let signalled_at = clock_gettime(ClockId::Monotonic);
            proxy.signal(Signal::HUP);
            let reloading = manager.next();
            assert_eq!(value(&reloading, "RELOADING"), "1");
            let since: i64 = value(&reloading, "MONOTONIC_USEC").parse().unwrap();
            assert!(since >= signalled_at.tv_sec * 1_000_000 + signalled_at.tv_nsec / 1_000);
            let ready = manager.next();
            assert_eq!(value(&ready, "READY"), "1");
            assert!(
                value(&ready, "STATUS").ends_with("generation 2"),
                "{ready:?}"
            );

            // A reload that fails is over, too.
            scratch.write("reloaded.toml", "prot = 1");
            proxy.signal(Signal::HUP);
            assert_eq!(value(&manager.next(), "RELOADING"), "1");
            let ready = manager.next();
            assert!(
                value(&ready, "STATUS").ends_with("generation 2"),
                "{ready:?}"
            );

            proxy.signal(Signal::TERM);
            let stopping = manager.next();
            assert_eq!(value(&stopping, "STOPPING"), "1");
            assert_eq!(value(&stopping, "EXTEND_TIMEOUT_USEC"), "40000000");
            assert_eq!(proxy.wait().code, Some(0));
        }
    }

    #[test]
    fn show_what_a_drain_waits_for() {
        let manager = ServiceManager::at_path();
        let origin = Origin::silent();
        let proxy = Proxy::command()
            .env("NOTIFY_SOCKET", manager.name())
            .start();
        let mut client = proxy.client();
        client.send(get(&origin, "/"));
        origin.wait_for(b"GET /");
        proxy.signal(Signal::TERM);
        manager.wait_for("STOPPING=1");
        manager.wait_for("STATUS=Draining: 1 exchange left");
        proxy.signal(Signal::TERM);
        proxy.wait();
    }

    #[test]
    fn are_not_needed_to_serve() {
        for (name, problem) in [
            (
                "notify",
                "neither an absolute path nor `@` and an abstract name",
            ),
            ("/nonexistent/notify", "No such file or directory"),
        ] {
            let proxy = Proxy::command().env("NOTIFY_SOCKET", name).start();
            let warning = proxy.wait_for_line("NOTIFY_SOCKET");
            assert!(
                warning.contains(" - WARNING - ") && warning.contains(problem),
                "{warning}"
            );
        }
    }
}

mod watchdog {
    use super::*;

    #[test]
    fn is_notified_while_all_workers_make_progress() {
        let manager = ServiceManager::at_path();
        let scratch = Scratch::new();
        let open = scratch.path("open");
        let proxy = Proxy::command()
            .env("NOTIFY_SOCKET", manager.name())
            .env("WATCHDOG_USEC", "200000")
            .args(["--num-workers", "2"])
            .plugin("stuck", "BlocksHook")
            .plugin_config(&format!(
                "BlocksHook.until={:?}",
                open.display().to_string()
            ))
            .start();
        for _ in 0..5 {
            manager.wait_for("WATCHDOG=1");
        }
        let origin = Origin::silent();
        let mut client = proxy.client();
        client.send(get(&origin, "/block"));
        let line = proxy.wait_for_line("workers are stuck: not notifying the watchdog");
        assert!(line.contains(" - ERROR - "), "{line}");
        // What was sent before.
        while manager.within(Duration::from_millis(1)).is_some() {}
        assert_eq!(manager.within(Duration::from_millis(500)), None);
        scratch.write("open", "");
        manager.wait_for("WATCHDOG=1");
    }

    #[test]
    fn of_another_process_is_not_notified() {
        let manager = ServiceManager::at_path();
        let _proxy = Proxy::command()
            .env("NOTIFY_SOCKET", manager.name())
            .env("WATCHDOG_USEC", "20000")
            .env("WATCHDOG_PID", "1")
            .start();
        manager.wait_for("READY=1");
        assert_eq!(manager.within(Duration::from_millis(200)), None);
    }
}

mod sockets {
    use std::fs;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::support::{Client, OK, ProxyCommand, proxy_binary};

    /// Starts the proxy with sockets from descriptor 3 on, as systemd does.
    struct Activation {
        scratch: Scratch,
        /// Inherited by the process.
        passed: Vec<OwnedFd>,
    }

    impl Activation {
        fn of(sockets: &[&dyn AsFd]) -> Self {
            let inheritable = |socket: &&dyn AsFd| rustix::io::dup(socket.as_fd());
            Self {
                scratch: Scratch::new(),
                passed: sockets
                    .iter()
                    .map(inheritable)
                    .collect::<Result<_, _>>()
                    .expect("descriptors are left"),
            }
        }

        fn command(&self) -> ProxyCommand {
            let moves = self
                .passed
                .iter()
                .enumerate()
                .map(|(index, socket)| format!("exec {}<&{}\n", 3 + index, socket.as_raw_fd()));
            let script = format!(
                "#!/bin/bash\n{}export LISTEN_PID=${{LISTEN_PID:-$$}}\nexec {:?} \"$@\"\n",
                moves.collect::<String>(),
                proxy_binary()
            );
            let script = self.scratch.write("start", script);
            fs::set_permissions(&script, fs::Permissions::from_mode(0o700))
                .expect("the file is ours");
            Proxy::at(&script)
                .local()
                .env("LISTEN_FDS", self.passed.len().to_string())
        }
    }

    fn socket() -> TcpListener {
        TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port")
    }

    #[test]
    fn replace_the_listener_and_outlive_the_proxy() {
        let origin = Origin::answering(OK);
        let socket = socket();
        let address = socket.local_addr().unwrap();
        let activation = Activation::of(&[&socket]);
        let start = || activation.command().args(["--num-workers", "3"]).start();
        let first = start();
        assert_eq!(first.address(), address);
        for _ in 0..6 {
            assert_eq!(first.get(&origin, "/").status(), 200);
        }
        first.signal(Signal::TERM);
        assert_eq!(first.wait().code, Some(0));
        // It waits in the queue of the socket, which is still open here.
        let mut waiting = Client::connect(address);
        waiting.send(get(&origin, "/"));
        let _second = start();
        assert_eq!(waiting.response().status(), 200);
    }

    #[test]
    fn belong_to_the_listeners_of_their_names() {
        let origin = Origin::answering(OK);
        let (one, other) = (socket(), socket());
        let proxy = Activation::of(&[&one, &other])
            .command()
            .env("LISTEN_FDNAMES", "inside:outside")
            .config(
                "[[listeners]]\nname = \"outside\"\nhostname = \"127.0.0.1\"\nport = 1\n\
                 [[listeners]]\nname = \"inside\"\nhostname = \"127.0.0.1\"\nport = 2\n",
            )
            .start();
        // The log shows them in the order of the configuration, after the one of the flags.
        proxy.wait_for_lines("Started server on ", 3);
        let lines = proxy.lines();
        let shown = lines
            .iter()
            .filter_map(|line| Some(line.split_once("Started server on ")?.1));
        let expected = [&other, &one].map(|socket| socket.local_addr().unwrap().to_string());
        assert_eq!(shown.skip(1).collect::<Vec<_>>(), expected);
        for socket in [one, other] {
            let mut client = Client::connect(socket.local_addr().unwrap());
            assert_eq!(client.ask(get(&origin, "/")).status(), 200);
        }
    }

    #[test]
    fn that_cannot_be_used_are_named() {
        let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let tcp = socket();
        let refused = |activation: Activation, name: &str, value: &str, reason: &str| {
            let exit = activation.command().env(name, value).run();
            assert_eq!(exit.code, Some(78), "{}", exit.stderr);
            assert!(exit.stderr.contains(reason), "{}", exit.stderr);
        };
        refused(
            Activation::of(&[&udp]),
            "LISTEN_FDNAMES",
            "dns",
            "descriptor 3 (dns), which LISTEN_FDS passes, is not a listening stream socket",
        );
        refused(
            Activation::of(&[&tcp]),
            "LISTEN_PID",
            "1",
            "LISTEN_FDS passes sockets to process 1, but this is process ",
        );
        refused(
            Activation::of(&[&tcp]),
            "LISTEN_FDNAMES",
            "a:b",
            "LISTEN_FDNAMES has 2 names for 1 sockets",
        );
        refused(
            Activation::of(&[&tcp]),
            "LISTEN_FDS",
            "2",
            "descriptor 4 (unknown), which LISTEN_FDS passes, is not a listening stream socket",
        );
    }
}
