"""Origins with something wrong with their TLS: the proxy must refuse each and say why, unless it is told not to."""

import re
import socket
import ssl
import warnings

import certificates
from checks import expect_match, expect_same
from harness import case
from origins import BadOrigin

INSECURE = '[interception]\ninsecure_hosts = ["localhost"]\n'


def _expired(world):
    return certificates.server(world.origin_authority, begins=-30, ends=-1)


def _not_yet_valid(world):
    return certificates.server(world.origin_authority, begins=1, ends=30)


def _wrong_host(world):
    return certificates.server(world.origin_authority, names=["other.test"])


def _self_signed(_):
    return certificates.server(None)


def _untrusted_root(_):
    root = certificates.authority("unknown authority")
    return certificates.server(root, chain=[root.certificate])


def _incomplete_chain(world):
    return certificates.server(certificates.authority("intermediate", world.origin_authority))


KINDS = {
    "expired": (_expired, r"expired"),
    "not yet valid": (_not_yet_valid, r"not yet valid|not valid yet|not valid before"),
    "wrong host": (_wrong_host, r"not valid for|wrong (host|name)|other\.test|(another|different) (host|name)"),
    "self-signed": (_self_signed, r"self-signed"),
    "untrusted root": (_untrusted_root, r"unknown|untrusted|not trusted|nobody"),
    "incomplete chain": (_incomplete_chain, r"unknown|untrusted|not trusted|nobody"),
}


def _origin(context, kind):
    origin = BadOrigin(KINDS[kind][0](context.world), context.directory, "bad")
    context.at_end(origin.close)
    return origin


def _connect(context, proxy, port):
    """What the proxy answers to a CONNECT: all of it until it closes, as far as it comes within the time limit."""
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
        connection.settimeout(10)
        connection.sendall(b"CONNECT localhost:%d HTTP/1.1\r\nHost: localhost:%d\r\n" % (port, port))
        connection.sendall(b"Connection: close\r\n\r\n")
        answer = b""
        while more := connection.recv(65536):
            answer += more
            if answer.startswith(b"HTTP/1.1 200"):
                break
    return answer.decode(errors="replace")


for kind in KINDS:
    @case("badssl", f"{kind}: refused with the reason")
    def refuses(context, kind=kind):
        port = _origin(context, kind).port
        answer = _connect(context, context.proxy, port)
        expect_match("the status", answer, r"\AHTTP/1\.1 502 ")
        expect_match("the Proxy-Status", answer, r"^Proxy-Status: .*error=\"?tls_certificate_error")
        expect_match("the reason in the body", answer.partition("\r\n\r\n")[2], KINDS[kind][1])
        context.proxy.expect_line(rf"(?i)port={port} .*({KINDS[kind][1]})", "the reason is not in the log")
        done = context.run(["curl", "-sSv", "-x", context.proxy.url, "--cacert", context.ca_file,
                            f"https://localhost:{port}/"], status=56)
        expect_match("curl's complaint", done.stderr.decode(), r"502")
        expect_same("what curl got", done.stdout, b"")

    @case("badssl", f"{kind}: accepted from an insecure host")
    def accepts(context, kind=kind):
        port = _origin(context, kind).port
        proxy = context.start(config=INSECURE)
        done = context.run(["curl", "-sSv", "-x", proxy.url, "--cacert", context.ca_file, f"https://localhost:{port}/"])
        expect_same("the body", done.stdout, b"bad origin\n")
        expect_match("the issuer", done.stderr.decode(), rf"^\*\s+issuer: .*{re.escape(context.issuer_name)}")
        proxy.expect_access("GET", "localhost", port, "/")
        proxy.expect_line(r" - (WARNING|WARN) - .*localhost", "nothing warns of the unverified host")


def _old_origin(context):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pair = certificates.server(context.world.origin_authority)
        origin = BadOrigin(pair, context.directory, "old", version=ssl.TLSVersion.TLSv1)
    context.at_end(origin.close)
    return origin


@case("badssl", "TLS 1.0 alone: refused with the reason")
def refuses_old_version(context):
    answer = _connect(context, context.proxy, _old_origin(context).port)
    expect_match("the status", answer, r"\AHTTP/1\.1 502 ")
    expect_match("the Proxy-Status", answer, r"^Proxy-Status: .*error=\"?tls_(protocol_error|alert_received)")
    expect_match("the reason in the body", answer.partition("\r\n\r\n")[2], r"version|TLS 1\.[01]")


@case("badssl", "TLS 1.0 alone: relayed unseen if the host is insecure")
def relays_old_version(context):
    port = _old_origin(context).port
    proxy = context.start(config=INSECURE)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    done = context.run(["openssl", "s_client", "-proxy", f"127.0.0.1:{proxy.port}", "-connect", f"localhost:{port}",
                        "-tls1", "-cipher", "ALL:@SECLEVEL=0", "-CAfile", context.files["origin_ca"], "-ign_eof",
                        "-verify_return_error"], stdin=request, seconds=20)
    text = done.stdout.decode(errors="replace")
    expect_match("the session", text, r"^New, SSLv3|^New, TLSv1")
    expect_match("the issuer", text, r"^issuer=.*origin authority")
    expect_match("the answer", text, r"^bad origin$")
    expect_same("requests that the proxy saw inside", proxy.count_access(" - GET "), 0)
