//! Upstream connections, as far as the configuration controls them.
//!
//! Plugins select parents and TLS; the tests of the dialling code cover how each kind of connection fails.

use crate::support::{Ca, OK, Proxy, Scratch};

const CONFIG: i32 = 78;

#[test]
fn refuses_to_start_with_a_ca_file_that_holds_no_certificate() {
    let scratch = Scratch::new();
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (path, reason) in [
        (scratch.path("missing.pem"), "No such file"),
        (scratch.write("empty.pem", ""), "no certificate in PEM"),
        (scratch.write("broken.pem", no_certificate), "certificate"),
    ] {
        let path = path.to_str().expect("a path that is text");
        for proxy in [
            Proxy::bare().args(["--port", "0", "--ca-file", path]),
            Proxy::bare()
                .args(["--port", "0"])
                .config(&format!("[tls.upstream]\nextra_ca_files = [{path:?}]")),
        ] {
            let exit = proxy.run();
            assert_eq!(exit.code, Some(CONFIG), "{exit:?}");
            for word in [path, reason, "--ca-file"] {
                assert!(exit.stderr.contains(word), "{word}: {}", exit.stderr);
            }
        }
    }
}

#[test]
fn refuses_to_start_with_a_client_certificate_that_cannot_be_used() {
    let (scratch, ca) = (Scratch::new(), Ca::named("known"));
    let certificate = ca.file();
    let empty = scratch.write("empty.pem", "");
    for (cert_file, key_file, words) in [
        (
            scratch.path("missing.pem"),
            empty.clone(),
            ["missing.pem", "No such file"],
        ),
        (empty.clone(), empty.clone(), ["empty.pem", "certificate"]),
        (certificate, empty, ["empty.pem", "key"]),
    ] {
        let exit = Proxy::bare()
            .args(["--port", "0"])
            .config(&format!(
                "[[tls.upstream.client_certificates]]\n\
                 hosts = [\"*\"]\ncert_file = {cert_file:?}\nkey_file = {key_file:?}"
            ))
            .run();
        assert_eq!(exit.code, Some(CONFIG), "{exit:?}");
        // An excerpt of the file may follow.
        let mut problems = exit
            .stderr
            .lines()
            .filter(|line| line.starts_with("proxy: "));
        assert!(
            problems.next().is_some() && problems.next().is_none(),
            "{}",
            exit.stderr
        );
        for word in words.iter().chain(&["tls.upstream.client_certificates"]) {
            assert!(exit.stderr.contains(word), "{word}: {}", exit.stderr);
        }
    }
}

#[test]
fn secrets_are_written_only_where_they_are_asked_for() {
    let (scratch, ca) = (Scratch::new(), Ca::named("known"));
    let origin = ca.origin(&["localhost"], OK);
    for (config, is_written) in [("", false), ("[tls]\nkey_log = true", true)] {
        let path = scratch.path("secrets");
        let proxy = Proxy::command()
            .plugin("zoo", "Detour")
            .plugin_config("Detour.host=\"localhost\"")
            .plugin_config(&format!("Detour.port={}", origin.port()))
            .plugin_config("Detour.scheme=\"https\"")
            .args(["--ca-file".as_ref(), ca.file().as_os_str()])
            .config(config)
            .env("SSLKEYLOGFILE", &path)
            .start();
        let request = "GET http://nowhere.invalid/ HTTP/1.1\r\nHost: nowhere.invalid\r\n\r\n";
        assert_eq!(proxy.ask(request).text(), "origin-ok");
        let secrets = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(secrets.contains("CLIENT_TRAFFIC_SECRET_0 "), is_written);
        assert_eq!(path.exists(), is_written);
        let warns = |line: &String| line.contains("TLS session secrets");
        assert_eq!(proxy.lines().iter().any(warns), is_written);
    }
}
