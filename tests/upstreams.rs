//! Ways to upstreams, as far as the configuration names them.
//!
//! Routes through parents and with TLS are for plugins to choose; how each kind fails is tested where it is dialled.

use crate::support::{Proxy, Scratch};

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
