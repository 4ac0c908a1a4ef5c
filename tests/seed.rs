//! Compatibility with proxy.py: the examples in its documentation, as printed there, and its plugin names.
//!
//! Each row has the plugins on the command line as printed, the curl command, the printed part of the response, and the
//! log line. The requests are the bytes that curl 7.54 sends. Named hosts are stand-ins on loopback. A fixture at the
//! end of the chain connects to them, so the log shows their addresses; the tests put the names back. Not compared:
//! values specific to the machine that printed them, `Connection` (never forwarded) and `Proxy-agent` (differs between
//! proxies).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::{fs, process, thread};

use crate::support::tls::{
    Answer, Ask as TlsAsk, Form, Identity, Offer, Pipe, Pki, Received, ReceivedRequest, Shown,
    TlsOrigin, Trust,
};
use crate::support::{
    Message, Origin, Proxy, ProxyCommand, Scratch, contains, plugin_directory, proxy_binary,
    response,
};

/// One section of the documentation.
struct Row {
    section: &'static str,
    plugins: &'static str,
    asks: Vec<Ask>,
}

/// One curl command and the output printed for it.
struct Ask {
    request: String,
    /// The status line and field lines in this order; others may appear between them.
    head: Vec<String>,
    /// `None` if no content is printed.
    content: Option<&'static str>,
    /// Part of the access line.
    log: &'static str,
}

fn table() -> Vec<Row> {
    let denied = |url| {
        Ask::get(url)
            .prints("HTTP/1.1 418 I'm a tea pot")
            .logs(" - GET None:None/ - None None - 0 bytes")
    };
    let got = |url| {
        Ask::get(url)
            .prints("HTTP/1.1 200 OK")
            .content(GOT)
            .logs(" - GET httpbin.org:80/get - 200 OK - ")
    };
    let redirected = |url, log| {
        Ask::get(url)
            .prints("HTTP/1.1 404 NOT FOUND")
            .content(CUSTOM)
            .logs(log)
    };
    vec![
        Row {
            section: "ShortLinkPlugin",
            plugins: "plugin_examples/shortlink.ShortLinkPlugin",
            asks: SHORT_LINKS.into_iter().map(short_link).collect(),
        },
        Row {
            section: "ModifyPostDataPlugin",
            plugins: "plugin_examples/modify_post_data.ModifyPostDataPlugin",
            asks: vec![
                Ask::post("http://httpbin.org/post", r#"{"key": "value"}"#)
                    .content(POSTED)
                    .logs(" - POST httpbin.org:80/post - 200 OK - "),
            ],
        },
        Row {
            section: "MockRestApiPlugin",
            plugins: "plugin_examples/mock_rest_api.ProposedRestApiPlugin",
            asks: vec![
                Ask::get("http://api.example.com/v1/users/")
                    .content(USERS)
                    .logs(" - GET None:None/v1/users/ - None None - 0 byte"),
            ],
        },
        Row {
            section: "FilterByUpstreamHostPlugin",
            plugins: "plugin_examples/filter_by_upstream.FilterByUpstreamHostPlugin",
            asks: vec![
                denied("http://google.com/"),
                denied("http://www.google.com/"),
                got("http://httpbin.org/get"),
            ],
        },
        Row {
            section: "CacheResponsesPlugin",
            plugins: "plugin_examples/cache_responses.CacheResponsesPlugin",
            asks: vec![got("http://httpbin.org/get").prints(GOT_FIELDS)],
        },
        Row {
            section: "ManInTheMiddlePlugin",
            plugins: "plugin_examples/man_in_the_middle.ManInTheMiddlePlugin",
            asks: vec![
                Ask::get("http://google.com/")
                    .prints("HTTP/1.1 200 OK\nContent-Length: 28")
                    .content("Hello from man in the middle")
                    .logs(" - GET google.com:80/ - "),
            ],
        },
        Row {
            section: "Plugin Ordering: the filter before the redirection",
            plugins: "plugin_examples/filter_by_upstream.FilterByUpstreamHostPlugin,\
                      plugin_examples/redirect_to_custom_server.RedirectToCustomServerPlugin",
            asks: vec![
                denied("http://google.com/"),
                denied("http://www.google.com/"),
                redirected("http://httpbin.org/get", " - GET localhost:8899/get - 404 "),
            ],
        },
        Row {
            section: "Plugin Ordering: the redirection before the filter",
            plugins: "plugin_examples/redirect_to_custom_server.RedirectToCustomServerPlugin,\
                      plugin_examples/filter_by_upstream.FilterByUpstreamHostPlugin",
            asks: vec![
                redirected("http://google.com/", " - GET localhost:8899/ - 404 "),
                redirected("http://www.google.com/", " - GET localhost:8899/ - 404 "),
                redirected("http://httpbin.org/get", " - GET localhost:8899/get - 404 "),
            ],
        },
    ]
}

const SHORT_LINKS: [(&str, &str); 9] = [
    ("a", "amazon.com"),
    ("i", "instagram.com"),
    ("l", "linkedin.com"),
    ("f", "facebook.com"),
    ("g", "google.com"),
    ("t", "twitter.com"),
    ("w", "web.whatsapp.com"),
    ("y", "youtube.com"),
    ("proxy", "localhost:8899"),
];

const USERS: &str = r#"{"count": 2, "next": null, "previous": null, "results": [{"email": "you@example.com", "groups": [], "url": "api.example.com/v1/users/1/", "username": "admin"}, {"email": "someone@example.com", "groups": [], "url": "api.example.com/v1/users/2/", "username": "admin"}]}"#;

const POSTED: &str = r#"{
  "args": {},
  "data": "{\"key\": \"modified\"}",
  "files": {},
  "form": {},
  "headers": {
    "Accept": "*/*",
    "Content-Length": "19",
    "Content-Type": "application/json",
    "Host": "httpbin.org",
    "User-Agent": "curl/7.54.0"
  },
  "json": {
    "key": "modified"
  },
  "origin": "1.2.3.4, 5.6.7.8",
  "url": "https://httpbin.org/post"
}
"#;

const GOT: &str = r#"{
  "args": {},
  "headers": {
    "Accept": "*/*",
    "Host": "httpbin.org",
    "User-Agent": "curl/7.54.0"
  },
  "origin": "1.2.3.4, 5.6.7.8",
  "url": "https://httpbin.org/get"
}
"#;

/// As printed, except the length, which depended on other addresses. If a plugin inspects the content, as
/// `CacheResponses` does, the client receives it chunked, since it could grow.
const GOT_FIELDS: &str = "Access-Control-Allow-Credentials: true
Access-Control-Allow-Origin: *
Content-Type: application/json
Date: Wed, 25 Sep 2019 02:24:25 GMT
Referrer-Policy: no-referrer-when-downgrade
Server: nginx
X-Content-Type-Options: nosniff
X-Frame-Options: DENY
X-XSS-Protection: 1; mode=block";

/// Content from the stand-in for the server on port 8899.
const CUSTOM: &str = "no such page";

fn short_link((name, destination): (&str, &str)) -> Ask {
    Ask::get(&format!("http://{name}/"))
        .prints("HTTP/1.1 303 See Other")
        .prints(&format!("Location: http://{destination}/"))
        .logs(" - GET None:None/ - None None - 0 bytes")
}

impl Ask {
    /// `curl -x localhost:8899 URL`, as curl 7.54 sends it.
    fn get(url: &str) -> Ask {
        Ask::new("GET", url, "\r\n")
    }

    /// `curl -x localhost:8899 -d DATA URL`.
    fn post(url: &str, data: &str) -> Ask {
        let length = data.len();
        let rest = format!(
            "Content-Length: {length}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{data}"
        );
        Ask::new("POST", url, &rest)
    }

    fn new(method: &str, url: &str, rest: &str) -> Ask {
        let host = url.split('/').nth(2).expect("the URL has a host");
        Ask {
            request: format!(
                "{method} {url} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/7.54.0\r\nAccept: */*\r\n\
                 Proxy-Connection: Keep-Alive\r\n{rest}"
            ),
            head: Vec::new(),
            content: None,
            log: "",
        }
    }

    /// Expects these lines in the head.
    fn prints(mut self, lines: &str) -> Ask {
        self.head.extend(lines.lines().map(str::to_owned));
        self
    }

    fn content(mut self, content: &'static str) -> Ask {
        self.content = Some(content);
        self
    }

    fn logs(mut self, log: &'static str) -> Ask {
        self.log = log;
        self
    }
}

/// The hosts that the examples name; each is a stand-in.
struct Internet {
    hosts: Vec<(&'static str, Origin)>,
}

impl Internet {
    fn new() -> Internet {
        let google = "HTTP/1.1 301 Moved Permanently\r\nLocation: http://www.google.com/\r\nContent-Length: 0\r\n\r\n";
        Internet {
            hosts: vec![
                ("httpbin.org:80", Origin::replying(httpbin)),
                ("google.com:80", Origin::answering(google)),
                (
                    "localhost:8899",
                    Origin::answering(response("404 NOT FOUND", CUSTOM)),
                ),
            ],
        }
    }

    /// For a proxy that itself listens on port 8899.
    fn without_port_8899() -> Internet {
        let mut internet = Internet::new();
        internet.hosts.retain(|(name, _)| *name != "localhost:8899");
        internet
    }

    /// Connects to the stand-ins, with a fixture after the other plugins.
    fn reached_by(&self, command: ProxyCommand) -> ProxyCommand {
        command
            .plugin("zoo", "ConnectTo")
            .plugin_config(&format!("ConnectTo.map={{ {} }}", self.map().join(", ")))
    }

    /// The address of each host.
    fn map(&self) -> Vec<String> {
        let entry =
            |(name, origin): &(&str, Origin)| format!("{name:?} = {:?}", origin.authority());
        self.hosts.iter().map(entry).collect()
    }

    /// A log line with the stand-ins' addresses replaced by their names.
    fn named(&self, line: &str) -> String {
        self.hosts
            .iter()
            .fold(line.to_owned(), |line, (name, origin)| {
                line.replace(&origin.authority(), name)
            })
    }
}

/// A proxy that finds its plugins by the names used on the command line.
fn proxy(plugins: &str) -> ProxyCommand {
    let directory = plugin_directory().as_os_str();
    Proxy::command()
        .args(["--plugin-dir".as_ref(), directory])
        .args(["--plugins", plugins])
}

/// httpbin.org's response to `/get` and `/post`: the request as JSON. Like that server, it hides `Via`.
fn httpbin(request: &Message) -> Vec<u8> {
    let fields = request.fields.iter();
    let fields = fields.map(|(name, value)| (&**name, String::from_utf8_lossy(value).into()));
    let (posted, json) = (posted(request), posted_json(request));
    got(&repeated(fields, request.target(), &posted, &json)).into_bytes()
}

/// The same for `/get` over TLS.
fn httpbin_over_tls(request: &ReceivedRequest) -> Answer {
    let fields = request.fields.iter();
    let fields = fields.map(|(name, value)| (&**name, value.clone()));
    let content = repeated(fields, &request.path, "", "");
    GOT_FIELDS
        .lines()
        .filter_map(|line| line.split_once(": "))
        .fold(Answer::ok(content), |answer, (name, value)| {
            answer.field(name, value)
        })
}

/// A request as JSON, with the members for its content.
fn repeated<'f>(
    fields: impl Iterator<Item = (&'f str, String)>,
    path: &str,
    posted: &str,
    json: &str,
) -> String {
    let mut fields: Vec<String> = fields
        .filter(|(name, _)| !name.eq_ignore_ascii_case("Via"))
        .map(|(name, value)| format!("    {name:?}: {value:?}"))
        .collect();
    fields.sort();
    format!(
        "{{\n  \"args\": {{}},\n{posted}  \"headers\": {{\n{}\n  }},\n{json}  \"origin\": \"1.2.3.4, 5.6.7.8\",\n  \
         \"url\": \"https://httpbin.org{path}\"\n}}\n",
        fields.join(",\n"),
    )
}

/// The response as printed, with its length.
fn got(content: &str) -> String {
    let fields = GOT_FIELDS.replace('\n', "\r\n");
    let len = content.len();
    format!(
        "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {len}\r\nConnection: keep-alive\r\n\r\n{content}"
    )
}

/// The members with a POST's content as received.
fn posted(request: &Message) -> String {
    match request.method() {
        "POST" => format!(
            "  \"data\": {:?},\n  \"files\": {{}},\n  \"form\": {{}},\n",
            request.text()
        ),
        _ => String::new(),
    }
}

/// The member with a POST's content as JSON: an object with one string.
fn posted_json(request: &Message) -> String {
    if request.method() != "POST" {
        return String::new();
    }
    let content = request.text();
    let parts: Vec<&str> = content.split('"').collect();
    match (request.field("Content-Type").as_deref(), &parts[..]) {
        (Some("application/json"), ["{", key, ": ", value, "}"]) => {
            format!("  \"json\": {{\n    {key:?}: {value:?}\n  }},\n")
        }
        _ => "  \"json\": null,\n".to_owned(),
    }
}

/// The response, and the log line after the client's address.
fn ask(proxy: &Proxy, request: &str) -> (Message, String) {
    let mut client = proxy.client();
    let answer = client.ask(request);
    let address = client.socket().local_addr();
    let address = address.expect("a connected socket has an address");
    let line = proxy.wait_for_line(&format!(" - {address} - "));
    let (_, message) = line.split_once(&address.to_string()).expect("waited for");
    (answer, message.to_owned())
}

#[test]
fn every_example_prints_what_its_section_says() {
    for Row {
        section,
        plugins,
        asks,
    } in table()
    {
        let scratch = Scratch::new();
        let internet = Internet::new();
        let proxy = proxy(plugins).env("TMPDIR", scratch.path(""));
        let proxy = internet.reached_by(proxy).start();
        for each in asks {
            let (answer, line) = ask(&proxy, &each.request);
            assert!(answer.is_sound(), "{section}: {:?}", answer.fault);
            let head = String::from_utf8_lossy(&answer.head);
            let mut lines = head.split("\r\n");
            for wanted in &each.head {
                assert!(
                    lines.any(|line| line == wanted),
                    "{section}: no {wanted:?}, or not in its place, in\n{head}"
                );
            }
            if let Some(content) = each.content {
                assert_eq!(answer.text(), content, "{section}");
            }
            let line = internet.named(&line);
            assert!(line.contains(each.log), "{section}: {line}");
        }
    }
}

#[test]
fn the_file_that_the_log_names_has_the_response() {
    let scratch = Scratch::new();
    let internet = Internet::new();
    let proxy = proxy("plugin_examples/cache_responses.CacheResponsesPlugin")
        .env("TMPDIR", scratch.path(""));
    let proxy = internet.reached_by(proxy).start();
    let (answer, line) = ask(&proxy, &Ask::get("http://httpbin.org/get").request);
    let line = internet.named(&line);
    let sent = answer.len;
    let wanted = format!(" - GET httpbin.org:80/get - 200 OK - {sent} bytes - ");
    assert!(line.starts_with(&wanted), "{line}");

    let path = cached(&proxy, &scratch);
    let content = fs::read_to_string(&path).expect("the file is there");
    assert_eq!(content, got(GOT));
}

/// The file named in the log: `httpbin.org` and the time, in the temporary directory.
fn cached(proxy: &Proxy, scratch: &Scratch) -> PathBuf {
    let line = proxy.wait_for_line(" - Cached response at ");
    let (_, path) = line
        .split_once(" - Cached response at ")
        .expect("waited for");
    let path = PathBuf::from(path);
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.expect("the file has a name");
    let stamp = name
        .strip_prefix("httpbin.org-")
        .and_then(|name| name.strip_suffix(".txt"));
    let is_stamp = |stamp: &str| {
        stamp
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    assert!(stamp.is_some_and(is_stamp), "{name}");
    assert_eq!(path.parent(), Some(&*scratch.path("")));
    path
}

/// `make https-certificates` and `make ca-certificates`, in an empty directory.
fn make(directory: &Path, certificates: &str) {
    let made = Command::new(proxy_binary())
        .args(["ca", certificates])
        .current_dir(directory)
        .output()
        .expect("the proxy can be run");
    assert!(made.status.success(), "{made:?}");
}

/// A stand-in for https://httpbin.org; a fixture connects to it.
struct SecureInternet {
    pki: Pki,
    httpbin: TlsOrigin,
    scratch: Scratch,
}

impl SecureInternet {
    fn new() -> SecureInternet {
        let pki = Pki::new();
        let names = ["httpbin.org", "127.0.0.1"].map(str::to_owned);
        SecureInternet {
            // The printed responses use HTTP/1.1.
            httpbin: pki
                .origin()
                .offering(Offer::Http1)
                .identity(Identity::Named(names.into()))
                .serve(httpbin_over_tls),
            pki,
            scratch: Scratch::new(),
        }
    }

    /// A proxy with the arguments from the documentation; files are named as in `make`'s directory. It trusts the
    /// stand-in, which replaces a publicly trusted site.
    fn proxy(&self, arguments: &[&str]) -> Proxy {
        let in_place = |argument: &&str| match argument.ends_with(".pem") {
            true => self.scratch.path(argument).into_os_string(),
            false => argument.into(),
        };
        let map = format!("{{ \"httpbin.org:443\" = \"{}\" }}", self.httpbin.address());
        self.pki
            .relaying()
            .args(arguments.iter().map(in_place))
            .args(["--plugin-dir".as_ref(), plugin_directory().as_os_str()])
            .args([
                "--ca-cert-dir".as_ref(),
                self.scratch.path("minted").as_os_str(),
            ])
            .plugin("zoo", "ConnectTo")
            .plugin_config(&format!("ConnectTo.map={map}"))
            .env("TMPDIR", self.scratch.path(""))
            .start()
    }

    /// Runs `curl https://httpbin.org/get` in the tunnel: sends the request, checks and returns the response.
    fn get(&self, secure: Pipe) -> Received {
        let ask = TlsAsk::get("httpbin.org", "/get")
            .field("User-Agent", "curl/7.54.0")
            .field("Accept", "*/*");
        let received = secure.session(Form::Origin("https")).ask(ask);
        for line in GOT_FIELDS.lines() {
            let (name, value) = line.split_once(": ").expect("a field line");
            assert_eq!(received.all(name), [value]);
        }
        assert_eq!(received.told(), (200, GOT.to_owned()));
        received
    }
}

/// The CONNECT request before curl's TLS handshake.
const TUNNEL: &str = "CONNECT httpbin.org:443 HTTP/1.1\r\nHost: httpbin.org:443\r\n\
    User-Agent: curl/7.54.0\r\nProxy-Connection: Keep-Alive\r\n\r\n";

/// Opens the tunnel.
fn tunnel(mut pipe: Pipe) -> Pipe {
    pipe.send(TUNNEL);
    let head = pipe.read_until(b"\r\n\r\n");
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{head:?}");
    pipe
}

/// `curl -x https://localhost:8899 --proxy-cacert https-cert.pem https://httpbin.org/get`.
#[test]
fn end_to_end_encryption_works_as_its_section_says() {
    let internet = SecureInternet::new();
    make(&internet.scratch.path(""), "self-signed");
    let proxy = internet.proxy(&[
        "--cert-file",
        "https-cert.pem",
        "--key-file",
        "https-key.pem",
    ]);
    let clear = internet.pki.client(&proxy).pipe();
    let certificate = internet.scratch.path("https-cert.pem");
    let to_proxy = clear.secure_by(&certificate, "localhost", Offer::Http1);
    let to_proxy = to_proxy.expect("curl trusts the proxy by --proxy-cacert");
    let secure =
        tunnel(to_proxy).secure(&internet.pki, "httpbin.org", Offer::Http1, Trust::Origins);
    internet.get(secure.expect("the origin's own certificate is shown"));
}

const INTERCEPTION: [&str; 8] = [
    "--plugins",
    "plugin_examples/cache_responses.CacheResponsesPlugin",
    "--ca-key-file",
    "ca-key.pem",
    "--ca-cert-file",
    "ca-cert.pem",
    "--ca-signing-key-file",
    "ca-signing-key.pem",
];

/// `curl -v -x localhost:8899 --cacert ca-cert.pem https://httpbin.org/get`.
#[test]
fn tls_interception_works_as_its_section_says() {
    let internet = SecureInternet::new();
    make(&internet.scratch.path(""), "init");
    let proxy = internet.proxy(&INTERCEPTION);
    let ca_cert = internet.scratch.path("ca-cert.pem");
    let tunnel = tunnel(internet.pki.client(&proxy).pipe());
    let secure = tunnel.secure_by(&ca_cert, "httpbin.org", Offer::Http1);
    let secure = secure.expect("SSL certificate verify ok");
    // The `issuer` line confirms that the response was intercepted.
    let issuer = secure.certificate().issuer;
    assert_eq!(issuer, Shown::of_file(&ca_cert).subject);
    internet.get(secure);
    let line = proxy.wait_for_line(" - GET ");
    let line = line.replace(&internet.httpbin.address().to_string(), "httpbin.org:443");
    assert!(line.contains(" - GET httpbin.org:443/get - 200 "), "{line}");

    let file = cached(&proxy, &internet.scratch);
    let content = fs::read_to_string(&file).expect("plain text");
    let (head, content) = content.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for line in GOT_FIELDS.lines() {
        assert!(head.lines().any(|each| each == line), "no {line} in {head}");
    }
    assert_eq!(content, GOT);
}

#[test]
fn without_the_flags_for_interception_the_cached_file_holds_encrypted_data() {
    let internet = SecureInternet::new();
    let proxy = internet.proxy(&INTERCEPTION[..2]);
    let tunnel = tunnel(internet.pki.client(&proxy).pipe());
    let secure = tunnel.secure(&internet.pki, "httpbin.org", Offer::Http1, Trust::Origins);
    internet.get(secure.expect("the origin's own certificate is shown"));
    let file = cached(&proxy, &internet.scratch);
    let content = fs::read(&file).expect("the file is there");
    // A TLS handshake record; nothing of the response is readable.
    assert_eq!(content[..2], [0x16, 3]);
    assert!(!contains(&content, b"httpbin") && !contains(&content, b"nginx"));
}

/// A proxy on port 8899, as in the examples, at a loopback address that no other test uses.
fn on_port_8899(plugins: Option<&str>) -> (ProxyCommand, String) {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = process::id().to_be_bytes();
    let second = 64 + NEXT.fetch_add(1, Ordering::Relaxed);
    let host = format!("127.{second}.{high}.{low}");
    let command = Proxy::bare()
        .args(["--hostname", &host, "--port", "8899", "--num-workers", "1"])
        .args(["--plugin-dir".as_ref(), plugin_directory().as_os_str()]);
    let command = match plugins {
        Some(plugins) => command.args(["--plugins", plugins]),
        None => command,
    };
    (command, format!("{host}:8899"))
}

/// The same; `localhost:8899` connects to it.
fn as_localhost_8899(plugins: &str, internet: &Internet) -> (Proxy, String) {
    let (command, address) = on_port_8899(Some(plugins));
    let mut map = internet.map();
    map.push(format!("\"localhost:8899\" = {address:?}"));
    let command = command
        .args(["--enable-web-server"])
        .plugin("zoo", "ConnectTo")
        .plugin_config(&format!("ConnectTo.map={{ {} }}", map.join(", ")));
    (command.start(), address)
}

const REDIRECT: &str = "plugin_examples/redirect_to_custom_server.RedirectToCustomServerPlugin";

/// `curl -v -x localhost:8899 http://google.com` with `--enable-web-server`: the proxy's own web server sends the 404,
/// and the log has a line for each request.
#[test]
fn what_is_redirected_to_the_proxy_itself_is_answered_by_its_web_server() {
    let (proxy, address) = as_localhost_8899(REDIRECT, &Internet::without_port_8899());
    let (answer, line) = ask(&proxy, &Ask::get("http://google.com/").request);
    assert!(answer.is_sound());
    assert_eq!(answer.start, "HTTP/1.1 404 Not Found");
    let server = answer.field("Server").unwrap_or_default();
    assert!(server.starts_with("proxy v"), "{server}");
    let line = line.replace(&address, "localhost:8899");
    let wanted = format!(
        " - GET localhost:8899/ - 404 Not Found - {} bytes - ",
        answer.len
    );
    assert!(line.starts_with(&wanted), "{line}");
    let own = proxy.wait_for_line(" - GET / - 404 Not Found - ");
    assert!(!own.contains("None"), "{own}");
    // Every request is redirected, for any host and path.
    let (answer, _) = ask(&proxy, &Ask::get("http://httpbin.org/get").request);
    assert_eq!(answer.status(), 404);
    proxy.wait_for_line(" - GET /get - 404 Not Found - ");
}

#[test]
fn plugin_ordering_is_as_its_section_says_with_the_web_server_itself() {
    let filter = "plugin_examples/filter_by_upstream.FilterByUpstreamHostPlugin";
    for (plugins, google) in [
        (format!("{filter},{REDIRECT}"), 418),
        (format!("{REDIRECT},{filter}"), 404),
    ] {
        let (proxy, _) = as_localhost_8899(&plugins, &Internet::without_port_8899());
        for (url, status) in [
            ("http://google.com/", google),
            ("http://www.google.com/", google),
            ("http://httpbin.org/get", 404),
        ] {
            let (answer, _) = ask(&proxy, &Ask::get(url).request);
            assert_eq!(answer.status(), status, "{url} with {plugins}");
        }
    }
}

/// `hey -n 10000 -c 100 http://localhost:8899/`, the first example in the documentation; nothing is forwarded.
#[test]
fn ten_thousand_requests_of_the_headline_are_answered() {
    let (command, address) = on_port_8899(None);
    let proxy = command.args(["--enable-web-server"]).start();
    assert_eq!(proxy.address().to_string(), address);
    let request = "GET / HTTP/1.1\r\nHost: localhost:8899\r\nUser-Agent: hey/0.0.1\r\n\
        Content-Type: text/html\r\nAccept-Encoding: gzip\r\n\r\n";
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut clients: Vec<_> = (0..25).map(|_| proxy.client()).collect();
                for _ in 0..100 {
                    for client in &mut clients {
                        client.send(request);
                    }
                    for client in &mut clients {
                        let answer = client.response();
                        assert_eq!((answer.status(), answer.is_sound()), (404, true));
                    }
                }
            });
        }
    });
    proxy.wait_for_lines(" - GET / - 404 Not Found - ", 10_000);
}

/// "A file (Proxy Auto Configuration) or string to serve when the server receives a direct file request. Using this option
/// enables proxy.HttpWebServerPlugin", and "Default: /. Web server path to serve the PAC file".
#[test]
fn pac_files_are_served_as_the_flags_say() {
    let text = "function FindProxyForURL(url, host) { return \"PROXY localhost:8899; DIRECT\"; }";
    let scratch = Scratch::new();
    let file = scratch.write("proxy.pac", text);
    for file_or_text in [file.as_os_str(), text.as_ref()] {
        for (path, other) in [("/", "/proxy.pac"), ("/proxy.pac", "/")] {
            let command = Proxy::command().args(["--pac-file".as_ref(), file_or_text]);
            let proxy = command.args(["--pac-file-url-path", path]).start();
            let answer = proxy.ask(direct("GET", path));
            assert_eq!((answer.status(), answer.text().as_str()), (200, text));
            let media_type = "application/x-ns-proxy-autoconfig";
            assert_eq!(answer.all("Content-Type"), [media_type]);
            assert_eq!(proxy.ask(direct("GET", other)).status(), 404);
        }
    }
}

/// "Use this flag with `--enable-web-server` flag to run `proxy.py` as a programmable http(s) server."
#[test]
fn without_the_proxy_it_is_a_programmable_web_server() {
    let httpbin = Origin::replying(httpbin);
    let flags = ["--disable-http-proxy", "--enable-web-server"];
    let proxy = Proxy::command()
        .args(flags)
        .plugin("routes", "Pages")
        .start();
    assert_eq!(proxy.ask(direct("GET", "/plain")).text(), "plain");
    assert_eq!(proxy.get(&httpbin, "/get").status(), 404);
    let authority = httpbin.authority();
    let tunnel = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    assert_eq!(proxy.ask(tunnel).status(), 403);
    httpbin.assert_untouched();
}

/// "Enable inbuilt static file server. Optionally, also use --static-server-dir to serve static content from custom
/// directory. By default, static file server serves from public folder", the one "in directory where proxy.py is
/// placed".
#[test]
fn the_static_server_serves_the_public_folder_or_another() {
    let scratch = Scratch::new();
    let executable = scratch.path("proxy");
    // Copied, not linked: a link would resolve to the original executable's directory.
    fs::copy(proxy_binary(), &executable).expect("the proxy can be copied");
    for directory in ["public", "other"] {
        fs::create_dir(scratch.path(directory)).expect("a scratch directory can be written");
        scratch.write(&format!("{directory}/index.html"), directory);
    }
    let default = Proxy::at(&executable)
        .local()
        .args(["--enable-static-server"]);
    assert_eq!(default.start().ask(direct("GET", "/")).text(), "public");
    let other = scratch.path("other");
    let flags = [
        "--enable-static-server".as_ref(),
        "--static-server-dir".as_ref(),
        other.as_os_str(),
    ];
    let other = Proxy::command().args(flags).start();
    assert_eq!(other.ask(direct("GET", "/")).text(), "other");
    assert_eq!(other.ask(direct("GET", "/none")).status(), 404);
    assert_eq!(other.ask(direct("HEAD", "/index.html")).status(), 200);
}

/// A browser's request for `http://localhost:8899`.
fn direct(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost:8899\r\n\r\n")
}

/// The bundled plugins: module and class (proxy.py's, or named in its style), library, name.
const PLUGINS: [(&str, &str, &str, &str); 23] = [
    (
        "cache_responses",
        "CacheResponsesPlugin",
        "cache_responses",
        "CacheResponses",
    ),
    (
        "cache_responses",
        "CacheTunnels",
        "cache_responses",
        "CacheTunnels",
    ),
    (
        "cloudflare_dns",
        "CloudflareDnsResolverPlugin",
        "cloudflare_dns_resolver",
        "CloudflareDnsResolver",
    ),
    (
        "custom_dns_resolver",
        "CustomDnsResolver",
        "custom_dns_resolver",
        "CustomDnsResolver",
    ),
    (
        "egress_allowlist",
        "EgressAllowlist",
        "egress_allowlist",
        "EgressAllowlist",
    ),
    (
        "filter_by_client_ip",
        "FilterByClientIpPlugin",
        "filter_by_client_ip",
        "FilterByClientIp",
    ),
    (
        "filter_by_upstream",
        "FilterByUpstreamHostPlugin",
        "filter_by_upstream_host",
        "FilterByUpstreamHost",
    ),
    (
        "filter_by_url_regex",
        "FilterByURLRegexPlugin",
        "filter_by_url_regex",
        "FilterByUrlRegex",
    ),
    (
        "man_in_the_middle",
        "ManInTheMiddlePlugin",
        "man_in_the_middle",
        "ManInTheMiddle",
    ),
    (
        "mock_rest_api",
        "ProposedRestApiPlugin",
        "mock_rest_api",
        "ProposedRestApi",
    ),
    (
        "modify_chunk_response",
        "ModifyChunkResponsePlugin",
        "modify_chunk_response",
        "ModifyChunkResponse",
    ),
    (
        "modify_post_data",
        "ModifyPostDataPlugin",
        "modify_post_data",
        "ModifyPostData",
    ),
    (
        "modify_request_header",
        "ModifyRequestHeaderPlugin",
        "modify_request_header",
        "ModifyRequestHeader",
    ),
    (
        "program_name",
        "ProgramNamePlugin",
        "program_name",
        "ProgramName",
    ),
    ("proxy_pool", "ProxyPoolPlugin", "proxy_pool", "ProxyPool"),
    ("rate_limit", "RateLimit", "rate_limit", "RateLimit"),
    ("record_har", "RecordHar", "record_har", "RecordHar"),
    (
        "redirect_to_custom_server",
        "RedirectToCustomServerPlugin",
        "redirect_to_custom_server",
        "RedirectToCustomServer",
    ),
    (
        "secret_inject",
        "SecretInject",
        "secret_inject",
        "SecretInject",
    ),
    ("shortlink", "ShortLinkPlugin", "shortlink", "ShortLink"),
    (
        "tls_intercept_conditionally",
        "TlsInterceptConditionallyPlugin",
        "tls_intercept_conditionally",
        "TlsInterceptConditionally",
    ),
    (
        "reverse_proxy",
        "ReverseProxyPlugin",
        "reverse_proxy",
        "ReverseProxyPlugin",
    ),
    (
        "web_server_route",
        "WebServerPlugin",
        "web_server_route",
        "WebServerPlugin",
    ),
];

#[test]
fn every_bundled_plugin_is_found_by_every_name_it_goes_by() {
    let scratch = Scratch::new();
    let har = scratch.path("names.har");
    let spellings: [fn(&str, &str) -> String; 4] = [
        |module, class| format!("plugin_examples/{module}.{class}"),
        |module, class| {
            format!(
                "plugin_examples/{module}.{}",
                class.trim_end_matches("Plugin")
            )
        },
        |_, class| format!("proxy.plugin.{class}"),
        |_, class| format!("proxy.plugin.{}", class.trim_end_matches("Plugin")),
    ];
    for spelling in spellings {
        let specs = PLUGINS.map(|(module, class, _, _)| spelling(module, class));
        let proxy = proxy(&specs.join(","))
            .plugin_config(&format!("RecordHar.file={har:?}"))
            .start();
        let loaded: Vec<String> = proxy
            .lines()
            .iter()
            .filter_map(|line| {
                let (_, loaded) = line.split_once(" - Loaded plugin ")?;
                Some(loaded.split(' ').next().unwrap_or_default().to_owned())
            })
            .collect();
        let wanted = PLUGINS.map(|(_, _, library, name)| format!("lib{library}.so:{name}"));
        assert_eq!(loaded, wanted);
    }
}

#[test]
fn a_plugin_that_does_not_exist_is_named_with_every_place_that_was_looked_at() {
    let directory = plugin_directory().display().to_string();
    for (spec, name) in [
        ("plugin_examples/dashboard.NoSuchPlugin", "NoSuchPlugin"),
        ("proxy.plugin.AbsentPlugin", "AbsentPlugin"),
        ("my_app.Misspelt", "Misspelt"),
    ] {
        let exit = proxy(spec).run();
        assert_eq!(exit.code, Some(78), "{exit:?}");
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
        let found_nothing = format!("no library in {directory}, ");
        let has_no_such = format!("provides a plugin named {name}): check the path");
        let is_python = "a Python class cannot be loaded";
        for words in [
            spec,
            "library not found (tried ",
            &found_nothing,
            &has_no_such,
            is_python,
        ] {
            assert!(
                exit.stderr.contains(words),
                "no {words:?} in {}",
                exit.stderr
            );
        }
    }
}
