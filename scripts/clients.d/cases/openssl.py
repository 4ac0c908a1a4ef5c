"""`openssl s_client`: which versions, ciphers and protocols are spoken, at the listener and inside of a tunnel."""

import os
import subprocess

from checks import expect_match, expect_same
from harness import case

# Everything weak that OpenSSL can offer, so that the proxy is the side that refuses.
WEAK_CIPHERS = {
    "NULL": "eNULL", "anonymous": "aNULL", "RC4": "RC4", "3DES": "3DES", "export": "EXPORT", "RSA key exchange": "kRSA",
    "CBC": "SHA1:SHA256:SHA384", "finite-field DH": "kDHE", "CCM": "AESCCM:AESCCM8", "CAMELLIA": "CAMELLIA",
    "ARIA": "ARIA",
}


def s_client(context, *arguments, status=0, stdin=b""):
    """Runs it to its end; returns what it wrote."""
    done = context.run(["openssl", "s_client", *arguments], status=status, seconds=20, stdin=stdin)
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


def _listener(context):
    return ["-connect", f"127.0.0.1:{context.tls_proxy.port}", "-servername", "localhost", "-verify_return_error",
            "-CAfile", context.listener_ca_file]


def _inside(context, proxy, origin="any"):
    return ["-proxy", f"127.0.0.1:{proxy.port}", "-connect", f"localhost:{context.origins.port(origin)}",
            "-verify_return_error", "-verify_hostname", "localhost", "-CAfile", context.ca_file]


@case("openssl", "the listener speaks TLS 1.2 and 1.3")
def listener_speaks(context):
    for flag, name in (("-tls1_2", r"TLSv1\.2"), ("-tls1_3", r"TLSv1\.3")):
        text = s_client(context, *_listener(context), flag)
        expect_match("the session", text, rf"^New, {name}, Cipher is ")
        expect_match("the verification", text, r"Verify return code: 0 \(ok\)")
        expect_match("the compression", text, r"^Compression: NONE")


@case("openssl", "the listener refuses TLS 1.0 and 1.1")
def listener_refuses_versions(context):
    for flag in ("-tls1", "-tls1_1"):
        text = s_client(context, *_listener(context), flag, "-cipher", "ALL:@SECLEVEL=0", status=1)
        expect_match(f"the answer to {flag}", text, r"alert protocol version|alert handshake failure")


def _expect_no_weak_cipher(context, target):
    for name, ciphers in WEAK_CIPHERS.items():
        # Ciphers unknown to this OpenSSL build cannot be offered.
        known = subprocess.run(["openssl", "ciphers", "-s", "-tls1_2", f"{ciphers}:@SECLEVEL=0"], capture_output=True)
        offered = [cipher for cipher in known.stdout.decode().strip().split(":") if cipher and "TLS_" not in cipher]
        # Hash names such as SHA256 also match AEAD suites.
        weak = [cipher for cipher in offered if not _is_strong(cipher)]
        if weak:
            text = s_client(context, *target, "-tls1_2", "-cipher", ":".join(weak) + ":@SECLEVEL=0", status=1)
            expect_match(f"the answer to {name}", text, r"alert handshake failure")


def _is_strong(cipher):
    return cipher.startswith("ECDHE-") and ("GCM" in cipher or "CHACHA20" in cipher) and "ARIA" not in cipher


@case("openssl", "the listener refuses weak ciphers")
def listener_refuses_ciphers(context):
    _expect_no_weak_cipher(context, _listener(context))


@case("openssl", "the listener offers h2 and http/1.1, and nothing to others")
def listener_mirrors(context):
    for offer, agreed in (("h2,http/1.1", "h2"), ("http/1.1", "http/1.1")):
        text = s_client(context, *_listener(context), "-alpn", offer)
        expect_match("the protocol", text, rf"^ALPN protocol: {agreed}$")
    text = s_client(context, *_listener(context), "-alpn", "nonsense", status=None)
    expect_same("whether nonsense was agreed on", "ALPN protocol: nonsense" in text, False)


@case("openssl", "the listener resumes sessions")
def listener_resumes(context):
    _expect_resumption(context, _listener(context))


def _expect_resumption(context, target):
    for flag in ("-tls1_2", "-tls1_3"):
        session = os.path.join(context.directory, f"session{flag}")
        # The request makes the server respond, so that s_client lives long enough to receive a TLS 1.3 ticket.
        request = b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        s_client(context, *target, flag, "-ign_eof", "-sess_out", session, stdin=request)
        text = s_client(context, *target, flag, "-sess_in", session)
        expect_match(f"the second session with {flag}", text, r"^Reused, ")


@case("openssl", "inside: TLS 1.2 and 1.3, and the chain is fine")
def inside_speaks(context):
    for flag, name in (("-tls1_2", r"TLSv1\.2"), ("-tls1_3", r"TLSv1\.3")):
        text = s_client(context, *_inside(context, context.proxy), flag)
        expect_match("the session", text, rf"^New, {name}, Cipher is ")
        expect_match("the verification", text, r"Verify return code: 0 \(ok\)")
        expect_match("the issuer", text, rf"^issuer=.*{context.issuer_name}")


@case("openssl", "inside: the certificate passes the strict checks of RFC 5280")
def inside_is_strict(context):
    text = s_client(context, *_inside(context, context.proxy), "-x509_strict", "-purpose", "sslserver", "-showcerts")
    expect_match("the verification", text, r"Verify return code: 0 \(ok\)")


@case("openssl", "inside: TLS 1.0 and 1.1 are refused")
def inside_refuses_versions(context):
    for flag in ("-tls1", "-tls1_1"):
        proxy = context.start()
        text = s_client(context, *_inside(context, proxy), flag, "-cipher", "ALL:@SECLEVEL=0", status=1)
        expect_match(f"the answer to {flag}", text, r"alert protocol version|alert handshake failure")


@case("openssl", "inside: weak ciphers are refused")
def inside_refuses_ciphers(context):
    _expect_no_weak_cipher(context, _inside(context, context.proxy))


@case("openssl", "inside: protocols are those of the origin")
def inside_mirrors(context):
    for origin, offer, agreed in (("any", "h2,http/1.1", "h2"), ("any", "http/1.1", "http/1.1"),
                                  ("h1", "http/1.1", "http/1.1"), ("h2", "h2", "h2")):
        text = s_client(context, *_inside(context, context.proxy, origin), "-alpn", offer)
        expect_match(f"the protocol of origin {origin}", text, rf"^ALPN protocol: {agreed}$")


@case("openssl", "inside: a client without ALPN and without a server name")
def inside_needs_no_extensions(context):
    request = b"GET /hello HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n" % context.origins.port("any")
    for flags in ((), ("-noservername",)):
        text = s_client(context, *_inside(context, context.proxy), *flags, "-quiet", "-ign_eof", stdin=request)
        expect_match(f"the answer with {flags}", text, "^hello$")


@case("openssl", "inside: sessions are resumed")
def inside_resumes(context):
    _expect_resumption(context, _inside(context, context.proxy, "h1"))
