"""Python's imaplib: a client of TLS that waits for its server to speak first, and names no protocol (ALPN)."""

import contextlib
import http.client
import imaplib
import ssl

import certificates
from checks import Failed, expect_same
from harness import case
from origins import MailOrigin

MESSAGE = b"Subject: first\r\n\r\nGET / HTTP/1.1 is no request in here\r\n"


class _Client(imaplib.IMAP4_SSL):
    """Through a tunnel of the proxy."""

    def __init__(self, proxy, port, trust):
        self._proxy = proxy
        super().__init__("localhost", port, ssl_context=trust, timeout=10)

    def _create_socket(self, timeout):
        tunnel = http.client.HTTPConnection("127.0.0.1", self._proxy.port, timeout=timeout)
        tunnel.set_tunnel(self.host, self.port)
        tunnel.connect()
        return self.ssl_context.wrap_socket(tunnel.sock, server_hostname=self.host)


def _open(context, proxy, origin, version=None):
    trust = ssl.create_default_context(cafile=context.ca_file)
    if version:
        trust.maximum_version = version
    client = _Client(proxy, origin.port, trust)

    @context.at_end
    def leave():
        with contextlib.suppress(OSError):
            client.shutdown()

    return client


def _origin(context, issuer=None):
    pair = certificates.server(issuer or context.world.origin_authority)
    origin = MailOrigin(pair, context.directory, MESSAGE)
    context.at_end(origin.close)
    return origin


for name, version in (("TLS 1.2", ssl.TLSVersion.TLSv1_2), ("TLS 1.3", None)):
    @case("imap", f"login, a message read and one written, {name}")
    def reads_mail(context, version=version):
        origin = _origin(context)
        client = _open(context, context.proxy, origin, version)
        expect_same("the greeting", client.welcome, b"* OK IMAP4rev1 ready")
        context.expect_issuer(client.sock.getpeercert(True))
        client.login("anna", "secret")
        expect_same("messages", client.select("INBOX"), ("OK", [b"1"]))
        expect_same("the message", client.fetch("1", "(RFC822)")[1][0][1], MESSAGE)
        # Long enough to span many TLS records.
        message = b"Subject: second\r\n\r\n" + b"a line of it\r\n" * 50_000
        expect_same("the answer", client.append("INBOX", None, None, message)[0], "OK")
        client.logout()
        context.proxy.expect_line(rf" - CONNECT localhost:{origin.port} - .* - relayed decrypted, not HTTP",
                                  "the tunnel is not relayed decrypted")


@case("imap", "a server whose certificate is not valid is not reached")
def refuses_invalid_certificate(context):
    origin = _origin(context, certificates.authority("another authority"))
    try:
        _open(context, context.proxy, origin)
    except OSError as error:
        expect_same("whether the tunnel is refused", "502" in str(error), True)
    else:
        raise Failed("a server with a certificate of an unknown authority was accepted")


@case("imap", "is closed with unknown = \"close\"")
def is_closed_where_told(context):
    origin = _origin(context)
    proxy = context.start(config='[interception]\nunknown = "close"\n')
    try:
        client = _open(context, proxy, origin)
    except (imaplib.IMAP4.abort, OSError):
        proxy.expect_line(rf" - CONNECT localhost:{origin.port} - .* - closed, not HTTP inside TLS",
                          "the tunnel is not closed")
    else:
        raise Failed(f"the server spoke: {client.welcome}")
