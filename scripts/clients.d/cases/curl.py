"""The curl of the system: both HTTP versions, uploads, a proxy over clear text and over TLS."""

import hashlib
import json
import os
import re
import shlex

import certificates
from checks import Failed, NotAvailable, expect_match, expect_same
from harness import case
from origins import NtlmOrigin
from website import random_text

MEBIBYTE = 1 << 20


def curl(context, proxy, *arguments, status=0, stdin=b""):
    """Runs curl with the proxy; it trusts the proxy's authority alone."""
    command = ["curl", "-sSv", "--max-time", "30", "-x", proxy.url, "--cacert", context.ca_file]
    if proxy.url.startswith("https:"):
        command += ["--proxy-cacert", context.listener_ca_file]
    done = context.run([*command, *arguments], status=status, stdin=stdin)
    done.notes = done.stderr.decode(errors="replace")
    return done


def expect_our_issuer(context, done):
    """Curl tells the issuer of the inner certificate behind the one of the proxy's listener."""
    server = done.notes.rpartition("Server certificate:")[2]
    issuer = expect_match("curl's word on the issuer", server, r"^\*\s+issuer: (.*)$").group(1)
    expect_match("the issuer", issuer, re.escape(context.issuer_name))


def expect_version(done, expected):
    """What curl wrote for `-w %{stderr}<%{http_version}>`."""
    expect_same("the HTTP versions", re.findall(r"<version ([\d.]+)>", done.notes), expected)


VERSION = ("-w", "%{stderr}<version %{http_version}>")


def _gets(context, proxy, origin, flag, version):
    done = curl(context, proxy, flag, *VERSION, context.url(origin, "/hello"))
    expect_same("the body", done.stdout, b"hello\n")
    expect_version(done, [version])
    expect_our_issuer(context, done)
    context.expect_access(proxy, "GET", origin, "/hello")


@case("curl", "HTTP/1.1 from an origin of both versions")
def gets_http1(context):
    _gets(context, context.proxy, "any", "--http1.1", "1.1")


@case("curl", "HTTP/2 from an origin of both versions")
def gets_http2(context):
    _gets(context, context.proxy, "any", "--http2", "2")


@case("curl", "HTTP/1.1 from an origin of HTTP/1.1 alone")
def gets_http1_from_http1(context):
    _gets(context, context.proxy, "h1", "--http1.1", "1.1")


@case("curl", "HTTP/2 offered, an origin of HTTP/1.1 alone")
def offers_http2_to_http1(context):
    done = curl(context, context.proxy, "--http2", context.url("h1", "/hello"))
    expect_same("the body", done.stdout, b"hello\n")
    expect_our_issuer(context, done)
    context.expect_access(context.proxy, "GET", "h1", "/hello")


@case("curl", "HTTP/1.1 from an origin of HTTP/2 alone")
def gets_http1_from_http2(context):
    _gets(context, context.proxy, "h2", "--http1.1", "1.1")


@case("curl", "HTTP/2 from an origin of HTTP/2 alone")
def gets_http2_from_http2(context):
    _gets(context, context.proxy, "h2", "--http2", "2")


@case("curl", "HTTP/1.1 over a proxy of TLS")
def gets_http1_over_tls_proxy(context):
    _gets(context, context.tls_proxy, "any", "--http1.1", "1.1")


@case("curl", "HTTP/2 over a proxy of TLS")
def gets_http2_over_tls_proxy(context):
    _gets(context, context.tls_proxy, "any", "--http2", "2")


@case("curl", "http:// over a proxy of TLS")
def gets_clear_text_over_tls_proxy(context):
    port = context.origins.plain_port
    done = curl(context, context.tls_proxy, f"http://localhost:{port}/hello")
    expect_same("the body", done.stdout, b"hello\n")
    context.tls_proxy.expect_access("GET", "localhost", port, "/hello")


@case("curl", "names as Docker writes them, from the hosts file")
def gets_docker_names(context):
    proxy = context.start(hosts="127.0.0.1\tlocalhost my_service web_1 app-\n")
    port = context.origins.plain_port
    for host in ("my_service", "web_1", "app-"):
        done = curl(context, proxy, f"http://{host}:{port}/hello")
        expect_same("the body", done.stdout, b"hello\n")
        proxy.expect_access("GET", host, port, "/hello")
    for flag, version in (("--http1.1", "1.1"), ("--http2", "2")):
        done = curl(context, proxy, flag, *VERSION, context.url("any", "/hello", "my_service"))
        expect_same("the body", done.stdout, b"hello\n")
        expect_version(done, [version])
        expect_our_issuer(context, done)
        context.expect_access(proxy, "GET", "any", "/hello", host="my_service")


@case("curl", "TLS 1.2 inside")
def speaks_tls12(context):
    done = curl(context, context.proxy, "--tls-max", "1.2", context.url("any", "/hello"))
    expect_same("the body", done.stdout, b"hello\n")
    expect_match("curl's word on TLS", done.notes, r"SSL connection using TLSv1\.2 ")
    expect_our_issuer(context, done)


@case("curl", "an IP address instead of a name")
def gets_by_address(context):
    done = curl(context, context.proxy, context.url("any", "/hello", "127.0.0.1"))
    expect_same("the body", done.stdout, b"hello\n")
    expect_our_issuer(context, done)
    context.expect_access(context.proxy, "GET", "any", "/hello", host="127.0.0.1")


def _echoed(done):
    """What the origin saw, by its own account."""
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Failed(f"no account of the request: {done.stdout[:200]}\n{done.notes[-2000:]}") from None


def _posts(context, proxy, origin, flag):
    content = random_text(MEBIBYTE)
    upload = context.write("upload", content)
    done = curl(context, proxy, flag, "--data-binary", f"@{upload}", context.url(origin, "/echo"))
    seen = _echoed(done)
    expect_same("the length that arrived", seen["length"], MEBIBYTE)
    expect_same("the hash that arrived", seen["sha256"], hashlib.sha256(content).hexdigest())
    context.expect_access(proxy, "POST", origin, "/echo")
    return seen


for origin in ("any", "h1", "h2"):
    for flag in ("--http1.1", "--http2"):
        @case("curl", f"POST of 1 MiB with {flag}, origin {origin}")
        def posts(context, origin=origin, flag=flag):
            _posts(context, context.proxy, origin, flag)


@case("curl", "POST of 1 MiB over a proxy of TLS")
def posts_over_tls_proxy(context):
    _posts(context, context.tls_proxy, "any", "--http2")


@case("curl", "chunked upload from standard input")
def uploads_chunked(context):
    content = random_text(MEBIBYTE)
    done = curl(context, context.proxy, "--http1.1", "-T", "-", context.url("h1", "/echo"), stdin=content)
    expect_same("the hash that arrived", _echoed(done)["sha256"], hashlib.sha256(content).hexdigest())
    context.expect_access(context.proxy, "PUT", "h1", "/echo")


@case("curl", "chunked upload from a producer that pauses")
def uploads_with_pauses(context):
    producer = "printf one; sleep 7; printf two"
    for flag, origin in [("--http1.1", "h1"), ("--http2", "h2")]:
        proxy = context.start("--timeout", "5")
        command = ["curl", "-sSv", "--max-time", "30", "-x", proxy.url, "--cacert", context.ca_file, flag, "-T", "-",
                   context.url(origin, "/echo")]
        done = context.run(["sh", "-c", f"({producer}) | {shlex.join(command)}"])
        done.notes = done.stderr.decode(errors="replace")
        expect_same("the hash that arrived", _echoed(done)["sha256"], hashlib.sha256(b"onetwo").hexdigest())


@case("curl", "upload with Expect: 100-continue")
def uploads_when_told_to(context):
    content = random_text(2 * MEBIBYTE)
    upload = context.write("upload", content)
    done = curl(context, context.proxy, "--http1.1", "--expect100-timeout", "20", "-H", "Expect: 100-continue",
                "-T", upload, context.url("h1", "/echo"))
    expect_match("what curl received", done.notes, r"^< HTTP/1\.1 100\b")
    expect_same("the hash that arrived", _echoed(done)["sha256"], hashlib.sha256(content).hexdigest())


@case("curl", "upload with Expect: 100-continue, origin of HTTP/2")
def uploads_to_http2_when_told_to(context):
    # The origin sends no 100, as RFC 9110, 10.1.1 permits; curl waits one second, then sends the content.
    content = random_text(MEBIBYTE)
    upload = context.write("upload", content)
    done = curl(context, context.proxy, "--http1.1", "-H", "Expect: 100-continue", "-T", upload,
                context.url("h2", "/echo"))
    expect_same("the hash that arrived", _echoed(done)["sha256"], hashlib.sha256(content).hexdigest())


@case("curl", "HTTP/2: 413 to an upload of 16 MiB, five times")
def is_refused_early(context):
    # curl 7.88 loses a response that arrives together with the reset of its stream.
    upload = context.write("upload", bytes(16 * MEBIBYTE))
    for _ in range(5):
        done = curl(context, context.proxy, "--http2", "-H", "Expect:", "-w", "%{http_code}",
                    "--data-binary", f"@{upload}", context.url("h2", "/refuse"))
        expect_same("body and status", done.stdout, b"too big\n413")


for origin, flag in (("h1", "--http1.1"), ("h2", "--http1.1"), ("h2", "--http2")):
    @case("curl", f"download of 16 MiB with {flag}, origin {origin}")
    def downloads(context, origin=origin, flag=flag):
        length = 16 * MEBIBYTE
        done = curl(context, context.proxy, flag, context.url(origin, f"/bytes?n={length}"))
        expect_same("the length of the body", len(done.stdout), length)
        expect_same("the hash of the body", hashlib.sha256(done.stdout).digest(),
                    hashlib.sha256(random_text(length)).digest())


for flag in ("--http1.1", "--http2"):
    @case("curl", f"HEAD, 204, 304, 404 and compressed content with {flag}")
    def gets_without_content(context, flag=flag):
        done = curl(context, context.proxy, flag, "-I", context.url("any", "/hello"))
        expect_match("the head", done.stdout.decode(), r"^content-length: 6\r$")
        context.expect_access(context.proxy, "HEAD", "any", "/hello")
        for code in (204, 304):
            done = curl(context, context.proxy, flag, "-w", "%{http_code}", context.url("any", f"/status?code={code}"))
            expect_same("the status", done.stdout, str(code).encode())
        done = curl(context, context.proxy, flag, "-w", "%{http_code}", context.url("any", "/missing"))
        expect_same("body and status", done.stdout, b"not here\n404")
        done = curl(context, context.proxy, flag, "--compressed", context.url("any", "/gzip"))
        expect_same("the body", done.stdout, b"compressible " * 10000)


@case("curl", "20 requests on one connection of HTTP/1.1")
def reuses_connection(context):
    urls = [context.url("any", f"/hello?number={number}") for number in range(20)]
    done = curl(context, context.proxy, "--http1.1", "-w", "%{stderr}<connects %{num_connects}>", *urls)
    expect_same("the bodies", done.stdout, b"hello\n" * 20)
    expect_same("new connections", sum(map(int, re.findall(r"<connects (\d+)>", done.notes))), 1)
    context.expect_access(context.proxy, "GET", "any", "/hello?number=19")


@case("curl", "50 requests at once on one connection of HTTP/2")
def opens_many_streams(context):
    # The first request opens the connection; the others wait until HTTP/2 is negotiated.
    urls = [context.url("any", f"/hello?number={number}") for number in range(50)]
    outputs = [word for _ in urls for word in ("-o", "-")]
    done = curl(context, context.proxy, "--http2", "--parallel", "--parallel-max", "50", *VERSION,
                "-w", "%{stderr}<version %{http_version}><connects %{num_connects}>", *outputs, *urls)
    expect_same("the bodies", done.stdout, b"hello\n" * 50)
    expect_version(done, ["2"] * 50)
    expect_same("new connections", sum(map(int, re.findall(r"<connects (\d+)>", done.notes))), 1)


@case("curl", "40 connections at once to a host that is new")
def opens_many_connections(context):
    urls = [context.url("any", f"/hello?number={number}") for number in range(40)]
    outputs = [word for _ in urls for word in ("-o", "-")]
    done = curl(context, context.proxy, "--http1.1", "--parallel", "--parallel-immediate", "--parallel-max", "40",
                "-w", "%{stderr}<connects %{num_connects}>", *outputs, *urls)
    expect_same("the bodies", done.stdout, b"hello\n" * 40)
    expect_our_issuer(context, done)


for flag in ("--http1.1", "--http2"):
    @case("curl", f"downloads that are cut off with {flag}, then a whole one")
    def cuts_off(context, flag=flag):
        for _ in range(5):
            curl(context, context.proxy, flag, "--limit-rate", "100K", "--max-time", "0.5",
                 context.url("any", "/bytes?n=50000000"), status=28)
        _gets(context, context.proxy, "any", flag, {"--http1.1": "1.1", "--http2": "2"}[flag])


@case("curl", "the fields that arrive: Via, Host, no hop-by-hop field")
def forwards_fields(context):
    for flag in ("--http1.1", "--http2"):
        done = curl(context, context.proxy, flag, "-H", "X-Twice: 1", "-H", "X-Twice: 2", "-H", "Cookie: a=1; b=2",
                    context.url("any", "/echo"))
        fields = _echoed(done)["fields"]
        names = [name for name, _ in fields]
        expect_same("X-Twice", [value for name, value in fields if name == "x-twice"], ["1", "2"])
        expect_same("Cookie", "; ".join(value for name, value in fields if name == "cookie"), "a=1; b=2")
        expect_same("Host", [value for name, value in fields if name == "host"],
                    [f"localhost:{context.origins.port('any')}"])
        expect_same("the Via fields", names.count("via"), 1)
        for name in ("proxy-connection", "proxy-authorization", "connection", "upgrade"):
            expect_same(f"fields {name}", names.count(name), 0)


@case("curl", "a plugin changes a request inside")
def is_seen_by_plugins(context):
    library = "libmodify_request_header.so"
    beside = os.path.dirname(context.world.executable)
    if not any(os.path.exists(os.path.join(beside, place, library)) for place in ("plugins", "")):
        raise NotAvailable(f"no {library} beside {context.world.executable}")
    proxy = context.start("--plugins", f"{library}:ModifyRequestHeader",
                          "--plugin-config", "ModifyRequestHeader.set={ x-from-plugin = \"yes\" }")
    for flag in ("--http1.1", "--http2"):
        done = curl(context, proxy, flag, context.url("any", "/echo"))
        expect_same("what the plugin added", [value for name, value in _echoed(done)["fields"]
                                              if name == "x-from-plugin"], ["yes"])


@case("curl", "credentials for the proxy, right and wrong")
def authenticates(context):
    proxy = context.start("--basic-auth", "user:password")
    done = curl(context, proxy, "-U", "user:password", context.url("any", "/echo"))
    names = [name for name, _ in _echoed(done)["fields"]]
    expect_same("fields proxy-authorization at the origin", names.count("proxy-authorization"), 0)
    done = curl(context, proxy, "-U", "user:wrong", context.url("any", "/echo"), status=56)
    expect_match("curl's complaint", done.notes, r"407")


@case("curl", "a host that is excluded shows its own certificate")
def leaves_excluded_hosts_alone(context):
    proxy = context.start(config='[interception]\nexclude = ["localhost"]\n')
    done = context.run(["curl", "-sSv", "--http2", "-x", proxy.url, "--cacert", context.files["origin_ca"],
                        context.url("any", "/hello")])
    expect_same("the body", done.stdout, b"hello\n")
    expect_match("the issuer", done.stderr.decode(), r"^\*\s+issuer: CN=origin authority$")
    expect_same("requests that the proxy saw inside", proxy.count_access(" - GET "), 0)


@case("curl", "a client that distrusts the authority is left alone afterwards")
def leaves_distrustful_clients_alone(context):
    proxy = context.proxy
    command = ["curl", "-sSv", "-x", proxy.url, "--cacert", context.files["origin_ca"], context.url("any", "/hello")]
    context.run(command, status=60)
    done = context.run(command)
    expect_same("the body", done.stdout, b"hello\n")
    expect_match("the issuer", done.stderr.decode(), r"^\*\s+issuer: CN=origin authority$")


@case("curl", "an RSA authority and an RSA signing key, as openssl makes them")
def accepts_authority_of_openssl(context):
    cert, key, signing_key = (os.path.join(context.directory, name) for name in ("ca.pem", "key.pem", "signing.pem"))
    context.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", key, "-out", cert, "-days", "9",
                 "-subj", "/C=US/ST=CA/O=Example Org/OU=Proxies/CN=openssl authority/emailAddress=a@example.com"])
    context.run(["openssl", "genrsa", "-traditional", "-out", signing_key, "2048"])
    proxy = context.start(authority={"ca_cert": cert, "ca_key": key, "ca_signing_key": signing_key})
    for flag in ("--http1.1", "--http2"):
        done = context.run(["curl", "-sSv", flag, "-x", proxy.url, "--cacert", cert, context.url("any", "/hello")])
        expect_same("the body", done.stdout, b"hello\n")
        expect_match("the issuer", done.stderr.decode(), r"^\*\s+issuer: .*CN=openssl authority")


# Another host's name, used inside the tunnel to localhost; only the certificate of the proxy's upstream has it.
FRONT = "my_service"


def _fronts(context, proxy, flag, port, status=0):
    connect_to = f"{FRONT}:{port}:localhost:{context.origins.port('any')}"
    url = f"https://{FRONT}:{port}/echo"
    return curl(context, proxy, flag, "--connect-to", connect_to, *VERSION, url, status=status)


for flag, version in (("--http1.1", "1.1"), ("--http2", "2")):
    @case("curl", f"--connect-to, {flag}, where the tunnel's host may front")
    def fronts(context, flag=flag, version=version):
        proxy = context.start(config='[interception]\nallow_fronting = ["localhost"]\n')
        for port, host in ((443, FRONT), (8443, f"{FRONT}:8443")):
            done = _fronts(context, proxy, flag, port)
            expect_same("Host", [value for name, value in _echoed(done)["fields"] if name == "host"], [host])
            expect_version(done, [version])
            expect_our_issuer(context, done)
            context.expect_access(proxy, "GET", "any", "/echo", host=FRONT)

    @case("curl", f"--connect-to, {flag}, is refused elsewhere")
    def fronts_nowhere_else(context, flag=flag):
        proxy = context.start(config='[interception]\nallow_fronting = ["other.example"]\n')
        done = _fronts(context, proxy, flag, 443, status=35)
        expect_match("curl's complaint", done.notes, r"unrecognized name")
        expect_same("requests that the proxy saw inside", proxy.count_access(" - GET "), 0)


@case("curl", "http://proxy.local/ hands the authority out")
def fetches_authority(context):
    done = curl(context, context.proxy, "--fail", "http://proxy.local/ca.pem")
    with open(context.ca_file, "rb") as file:
        expect_same("the certificate", done.stdout.strip(), file.read().strip())
    done = curl(context, context.proxy, "--fail", "http://proxy.local/")
    if b"<html" not in done.stdout.lower():
        raise Failed(f"no page: {done.stdout[:200]}")


def _logs_in(context, origin, url):
    context.at_end(origin.close)
    who = ("--ntlm", "-u", "anna:secret")
    # The second request has no credentials: its connection is already logged in.
    done = curl(context, context.proxy, *who, url, url)
    if "NTLM" in done.notes and "not supported" in done.notes:
        raise NotAvailable("this curl has no NTLM")
    expect_same("the bodies", done.stdout, b"logged in\nlogged in\n")
    expect_same("what a client is told that has not logged in", curl(context, context.proxy, url).stdout, b"log in\n")


@case("curl", "NTLM in clear")
def logs_in_in_clear(context):
    origin = NtlmOrigin()
    _logs_in(context, origin, f"http://127.0.0.1:{origin.port}/")


@case("curl", "NTLM inside of a tunnel that is looked into")
def logs_in_inside(context):
    origin = NtlmOrigin(certificates.server(context.world.origin_authority), context.directory)
    _logs_in(context, origin, f"https://localhost:{origin.port}/")
