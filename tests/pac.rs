//! PAC files made by `proxy pac generate`, from outside.
//!
//! What a browser would make of them is asked of Node, with only those functions at hand that old engines have, too,
//! and an `isInNet` that refuses what it would have to resolve. 0 is done, 1 means that a file cannot be written, 2 a
//! wrong command line, 78 an unusable configuration.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Exit, Proxy, Scratch};

const USAGE: i32 = 2;
const CONFIG: i32 = 78;

/// Prints what the PAC file in the first argument answers for each host in the others.
const BROWSER: &str = r#"
const fail = what => { throw new Error(what); };
const literal = text => /^\d{1,3}(\.\d{1,3}){3}$/.test(text) ? text : fail(`${text} is no address`);
const bits = text => literal(text).split(".").reduce((sum, part) => sum * 256 + Number(part), 0) | 0;
const engine = {
  isPlainHostName: host => !host.includes("."),
  dnsDomainIs: (host, domain) => host.endsWith(domain),
  shExpMatch: (text, pattern) => pattern === "*" || fail(`${pattern} is not expected`),
  isInNet: (host, net, mask) => (bits(host) & bits(mask)) === (bits(net) & bits(mask)),
};
const [file, ...hosts] = process.argv.slice(1);
require("vm").runInNewContext(require("fs").readFileSync(file, "utf8"), engine);
for (const host of hosts) console.log(engine.FindProxyForURL(`http://${host}/`, host));
"#;

/// Runs `proxy pac generate`.
fn generate(args: &[&str]) -> Exit {
    Proxy::bare().args(["pac", "generate"]).args(args).run()
}

/// As `generate`, with this text as `--config`.
fn generate_from(config: &str, args: &[&str]) -> Exit {
    let command = Proxy::bare().args(["pac", "generate"]).args(args);
    command.config(config).run()
}

/// The PAC file that was printed.
fn done(exit: Exit) -> String {
    assert_eq!(exit.code, Some(0), "{exit:?}");
    exit.stdout
}

/// Must have failed with one error whose line has all of `words`; lines of a file are indented.
fn assert_refused(exit: &Exit, code: i32, words: &[&str]) {
    assert_eq!(exit.code, Some(code), "{exit:?}");
    assert!(exit.stdout.is_empty(), "{exit:?}");
    let mut lines = exit.stderr.lines().filter(|line| !line.starts_with(' '));
    let line = lines.next().unwrap_or_default();
    assert!(lines.next().is_none(), "{exit:?}");
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
}

/// What a browser with this PAC file does for each of the hosts.
fn ways(script: &str, hosts: &[&str]) -> Vec<String> {
    let scratch = Scratch::new();
    let output = Command::new("node")
        .args(["-e", BROWSER, "--"])
        .arg(scratch.write("proxy.pac", script))
        .args(hosts)
        .output()
        .expect("Node (Debian's package nodejs) is there to run PAC files");
    assert!(output.status.success(), "{output:?}\n{script}");
    let lines = String::from_utf8(output.stdout).expect("answers are UTF-8");
    lines.lines().map(str::to_owned).collect()
}

/// Asserts that a browser with this PAC file goes the same `way` for all of the hosts.
fn assert_way(script: &str, hosts: &[&str], way: &str) {
    let answers = ways(script, hosts);
    assert_eq!(answers.len(), hosts.len());
    for (host, answer) in hosts.iter().zip(&answers) {
        assert_eq!(answer, way, "{host}\n{script}");
    }
}

#[test]
fn browsers_use_the_proxy_for_all_but_this_machine_and_the_proxy_itself() {
    let script = done(generate(&["--proxy", "Proxy.Example:3128"]));
    let hosts = [
        "example.com",
        "intranet",
        "notlocalhost",
        "10.0.0.1",
        "128.0.0.1",
        "127.0.0.1.example.com",
        "xproxy.example",
        "2001:db8::1",
        "[2001:db8::1]",
    ];
    assert_way(&script, &hosts, "PROXY proxy.example:3128; DIRECT");
    let hosts = [
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1",
        "127.255.0.9",
        "::1",
        "[::1]",
        "proxy.example",
        "PROXY.example.",
    ];
    assert_way(&script, &hosts, "DIRECT");
}

#[test]
fn hosts_of_flags_and_configuration_are_reached_directly() {
    let script = done(generate_from(
        "[web_server.pac]\ndirect = [\"*.corp.example\", \"192.168.0.0/16\"]",
        &[
            "--proxy=p:1",
            "--direct=.lan.example",
            "--direct",
            "<local>",
            "--direct=Exact.Example",
            "--direct=[2001:DB8::7]",
            "--direct=10.1.2.3/8",
        ],
    ));
    let direct = [
        "www.corp.example",
        "a.b.CORP.example.",
        "lan.example",
        "www.lan.example",
        "intranet",
        "exact.example",
        "2001:db8::7",
        "[2001:db8::7]",
        "10.255.255.255",
        "192.168.7.1",
    ];
    assert_way(&script, &direct, "DIRECT");
    let proxied = [
        "corp.example",
        "xcorp.example",
        "xlan.example",
        "www.exact.example",
        "2001:db8::8",
        "11.0.0.0",
        "192.169.0.0",
        "10.example",
    ];
    assert_way(&script, &proxied, "PROXY p:1; DIRECT");
    let script = done(generate(&["--proxy=p:1", "--direct=*"]));
    assert_way(&script, &["example.com", "10.0.0.1", "::2"], "DIRECT");
}

#[test]
fn further_proxies_and_going_directly_are_the_fallback() {
    let proxies = ["--proxy=a.example:1", "--proxy", "[2001:db8::1]:2"];
    let script = done(generate(&proxies));
    let way = "PROXY a.example:1; PROXY [2001:db8::1]:2; DIRECT";
    assert_way(&script, &["example.com"], way);
    assert_way(&script, &["a.example", "[2001:db8::1]"], "DIRECT");
    let script = done(generate(&[&proxies[..], &["--no-fallback"]].concat()));
    let way = "PROXY a.example:1; PROXY [2001:db8::1]:2";
    assert_way(&script, &["example.com"], way);
}

#[test]
fn the_proxy_is_where_its_configuration_says() {
    let listen = "hostname = \"192.0.2.1\"\nport = 3128";
    let exit = generate_from(listen, &[]);
    assert!(exit.stderr.is_empty(), "{exit:?}");
    assert!(done(exit).contains("return \"PROXY 192.0.2.1:3128; DIRECT\";"));

    let scratch = Scratch::new();
    let file = scratch.write("proxy.toml", listen);
    let command = Proxy::bare().env("PROXY_CONFIG", &file);
    let script = done(command.args(["pac", "generate"]).run());
    assert!(script.contains("\"PROXY 192.0.2.1:3128; DIRECT\""));

    let flags = ["--port", "1", "pac", "generate", "--config"];
    let command = Proxy::bare().env("PROXY_CONFIG", "/nonexistent");
    let script = done(command.args(flags).args([&file]).run());
    assert!(script.contains("\"PROXY 192.0.2.1:1; DIRECT\""));
}

#[test]
fn a_listener_of_tls_is_a_proxy_of_https() {
    let tls = "[tls]\ncert_file = \"not-read.pem\"\nkey_file = \"not-read.pem\"";
    let script = done(generate_from(tls, &["--proxy", "proxy.example:443"]));
    assert_way(&script, &["example.com"], "HTTPS proxy.example:443; DIRECT");
    let flags = ["--cert-file=c", "--key-file=k", "--hostname=192.0.2.1"];
    let script = done(Proxy::bare().args(flags).args(["pac", "generate"]).run());
    assert!(script.contains("\"HTTPS 192.0.2.1:8899; DIRECT\""));
}

#[test]
fn an_address_that_may_not_do_is_told() {
    let told = |hostname: &str, words: &str| {
        let exit = generate_from(&format!("hostname = \"{hostname}\""), &[]);
        assert_eq!(exit.stderr.lines().count(), 1, "{exit:?}");
        assert!(exit.stderr.contains("--proxy HOST:PORT"), "{exit:?}");
        assert!(exit.stderr.to_ascii_lowercase().contains(words), "{exit:?}");
        exit
    };
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().to_ascii_lowercase();
    for hostname in ["::", "0.0.0.0"] {
        let exit = told(hostname, &name);
        // A machine may have a name that is no host, such as 4711.
        if exit.code != Some(CONFIG) {
            assert!(done(exit).contains(&format!("\"PROXY {name}:8899; DIRECT\"")));
        }
    }
    for (hostname, address) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")] {
        let script = done(told(hostname, "only this machine"));
        assert!(script.contains(&format!("\"PROXY {address}:8899; DIRECT\"")));
    }
    let exit = generate(&["--proxy", "127.0.0.1:1"]);
    assert!(exit.stderr.is_empty(), "{exit:?}");
}

#[test]
fn a_file_is_replaced_only_by_force() {
    let scratch = Scratch::new();
    let path = scratch.path("proxy.pac");
    let file = path.to_str().expect("scratch paths are UTF-8");
    assert!(done(generate(&["--proxy=a:1", "-o", file])).is_empty());
    let first = fs::read_to_string(&path).expect("the file is there");
    assert!(first.contains("PROXY a:1"));
    let exit = generate(&["--proxy=b:1", "--output", file]);
    assert_refused(&exit, 1, &[file, "exists", "--force"]);
    assert_eq!(fs::read_to_string(&path).ok(), Some(first));
    done(generate(&["--proxy=b:1", "-o", file, "--force"]));
    let second = fs::read_to_string(&path).expect("the file is there");
    assert!(second.contains("PROXY b:1"));
    let directory = path.parent().unwrap_or(Path::new("/"));
    let entries = fs::read_dir(directory).expect("the directory is there");
    assert_eq!(entries.count(), 1, "something is left in {directory:?}");
}

#[test]
fn what_cannot_be_written_is_named() {
    for force in [&[][..], &["--force"]] {
        let args = ["--proxy=a:1", "-o", "/nonexistent/proxy.pac"];
        let exit = generate(&[&args, force].concat());
        assert_refused(&exit, 1, &["/nonexistent/proxy.pac", "No such file"]);
    }
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    for (args, word) in [
        (&["--proxy", "proxy.example"][..], "--proxy"),
        (&["--proxy", "http://proxy.example:1"], "--proxy"),
        (&["--proxy", "a:1; DIRECT"], "--proxy"),
        (&["--direct", "a b"], "--direct"),
        (&["--direct", "10.0.0.0/33"], "--direct"),
        (&["--fallback"], "--fallback"),
        (&["surplus"], "surplus"),
    ] {
        assert_refused(&generate(args), USAGE, &[word]);
    }
    let exit = Proxy::bare().args(["pac"]).run();
    assert_refused(&exit, USAGE, &["generate"]);
    let exit = Proxy::bare().args(["pac", "frobnicate"]).run();
    assert_refused(&exit, USAGE, &["frobnicate"]);
}

#[test]
fn an_unusable_configuration_is_refused() {
    let exit = generate_from("port = 0", &[]);
    assert_refused(&exit, CONFIG, &["port 0", "--proxy HOST:PORT"]);
    let exit = generate_from("port = 0", &["--proxy=a:1"]);
    assert!(done(exit).contains("PROXY a:1"));
    let exit = generate_from("hostname = \"fe80::1%eth0\"", &[]);
    assert_refused(&exit, CONFIG, &["fe80::1%eth0", "--proxy HOST:PORT"]);
    let exit = generate_from("[web_server.pac]\ndirect = [\"a b\"]", &[]);
    assert_refused(&exit, CONFIG, &["2:11", "web_server.pac.direct[0]"]);
    let exit = generate(&["--config", "/nonexistent/proxy.toml"]);
    assert_refused(&exit, CONFIG, &["/nonexistent/proxy.toml"]);
}

#[test]
fn the_text_is_for_engines_of_any_age() {
    let script = done(generate(&[
        "--proxy=a:1",
        "--direct=<local>",
        "--direct=.b",
    ]));
    assert!(script.is_ascii());
    let code: Vec<&str> = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .collect();
    let code = code.join("\n");
    for young in [
        "let ", "const ", "=>", "`", "===", "Resolve", "endsWith", "includes",
    ] {
        assert!(!code.contains(young), "{young} in {code}");
    }
}

#[test]
fn the_help_leads_to_the_command() {
    let help = done(Proxy::bare().args(["-h"]).run());
    assert!(help.contains("\n  pac\n"), "{help}");
    let help = done(Proxy::bare().args(["pac", "generate", "--help"]).run());
    for flag in [
        "--config",
        "--proxy",
        "--direct",
        "--no-fallback",
        "--output",
        "--force",
    ] {
        assert!(help.contains(flag), "{flag} is not in {help}");
    }
}
