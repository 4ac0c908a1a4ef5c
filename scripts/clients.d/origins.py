"""The servers that clients reach through the proxy.

`Origins` serves one small site (`website.py`) with three choices of HTTP versions, on one event loop in a thread.
`BadOrigin` is a TLS server with something wrong with it; it answers every request the same way. `NtlmOrigin` has clients
log in by NTLM. `MailOrigin` and `MqttOrigin` speak no HTTP inside of their TLS: one speaks first, the other waits.
"""

import asyncio
import base64
import logging
import os
import re
import socket
import ssl
import struct
import threading

import hypercorn.asyncio
import hypercorn.config
import hypercorn.protocol.events
import hypercorn.protocol.h2
import hypercorn.protocol.ws_stream

import website

PROTOCOLS = {"any": ["h2", "http/1.1"], "h1": ["http/1.1"], "h2": ["h2"]}


class Origins:
    """Runs until the process ends. `port("any")`, `port("h1")` and `port("h2")` say where."""

    def __init__(self, pair, directory):
        cert_file, key_file = pair.write(directory, "origin")
        self.git_root = os.path.join(directory, "git")
        self.application = website.Website(self.git_root)
        self._sockets = {name: _listen("127.0.0.1") for name in PROTOCOLS}
        self._plain = _listen("127.0.0.1")
        configs = [_config(self._sockets[name], protocols, cert_file, key_file)
                   for name, protocols in PROTOCOLS.items()]
        configs.append(_config(self._plain, ["http/1.1"]))
        self._loop = asyncio.new_event_loop()
        # Tests cut connections on purpose; do not log the errors.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self._loop.set_exception_handler(lambda *_: None)
        self._loop.create_task(self._serve(configs))
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def port(self, name):
        """Where the site is served with the HTTP versions `name`, over TLS."""
        return self._sockets[name].getsockname()[1]

    @property
    def plain_port(self):
        """Where the site is served without TLS."""
        return self._plain.getsockname()[1]

    async def _serve(self, configs):
        await asyncio.gather(*(hypercorn.asyncio.serve(_strict(self.application, config.alpn_protocols), config,
                                                       shutdown_trigger=asyncio.Event().wait) for config in configs))


def _strict(application, protocols):
    """Refuses the HTTP version that was not offered: without a common protocol Python's TLS goes on without any."""
    async def serve(scope, receive, send):
        is_http2 = scope.get("http_version") == "2"
        if scope["type"] != "lifespan" and ("h2" if is_http2 else "http/1.1") not in protocols:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 505, "headers": []})
                await send({"type": "http.response.body"})
            return
        await application(scope, receive, send)
    return serve


def _config(listener, protocols, cert_file=None, key_file=None):
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.certfile, config.keyfile = cert_file, key_file
    config.alpn_protocols = protocols
    config.errorlog = None
    return config


def _listen(host):
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.bind((host, 0))
    listener.listen(64)
    return listener


class _Http2(hypercorn.protocol.h2.H2Protocol):
    """Makes up for two faults of hypercorn 0.18 with WebSockets over HTTP/2 (RFC 8441).

    Its streams do not end with the closing handshake, so that clients wait; and what arrives on a stream that it has
    forgotten ends the whole connection.
    """

    class _Streams(dict):
        def __missing__(self, _):
            return _Forgotten()

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.streams = self._Streams()

    async def stream_send(self, event):
        if isinstance(event, hypercorn.protocol.events.StreamClosed):
            stream = self.streams.get(event.stream_id)
            if isinstance(stream, hypercorn.protocol.ws_stream.WSStream):
                await super().stream_send(hypercorn.protocol.events.EndData(event.stream_id))
        await super().stream_send(event)


class _Forgotten:
    async def handle(self, _):
        pass


hypercorn.protocol.H2Protocol = _Http2


class BadOrigin:
    """A TLS server of one certificate and, if asked, one old version of TLS. Answers `text` to every request."""

    def __init__(self, pair, directory, name, version=None, text="bad origin\n"):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if version:
            # OpenSSL 3 allows TLS 1.0 signatures only at security level 0.
            self.context.set_ciphers("ALL:@SECLEVEL=0")
            self.context.minimum_version = self.context.maximum_version = version
        self.context.load_cert_chain(*pair.write(directory, name))
        self._text = text.encode()
        self._listener = _listen("127.0.0.1")
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Takes no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        connection.settimeout(10)
        try:
            with self.context.wrap_socket(connection, server_side=True) as stream:
                received = b""
                while b"\r\n\r\n" not in received:
                    more = stream.recv(4096)
                    if not more:
                        return
                    received += more
                stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                               b"Content-Length: %d\r\n\r\n%s" % (len(self._text), self._text))
                stream.unwrap()
        except OSError:
            pass  # Clients that reject the certificate are the purpose of this server.
        finally:
            connection.close()


class NtlmOrigin:
    """A server whose connections are logged in to by NTLM, over TLS with a `pair` and in clear without.

    Any proof is accepted that follows a challenge on the same connection. Answers `logged in` from then on.
    """

    def __init__(self, pair=None, directory=None):
        self._context = None
        if pair:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*pair.write(directory, "ntlm"))
        self._listener = _listen("127.0.0.1")
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Takes no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(30)
        try:
            stream = self._context.wrap_socket(connection, server_side=True) if self._context else connection
            is_challenged = is_known = False
            with stream, stream.makefile("rb") as received:
                while head := _head(received):
                    length = re.search(rb"(?im)^content-length: *(\d+)", head)
                    received.read(int(length[1]) if length else 0)
                    message = re.search(rb"(?im)^authorization: *NTLM +(\S+)", head)
                    kind = struct.unpack_from("<I", base64.b64decode(message[1]), 8)[0] if message else 0
                    is_known |= kind == 3 and is_challenged
                    is_challenged = kind == 1
                    if is_known:
                        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nlogged in\n")
                        continue
                    challenge = b" " + base64.b64encode(_ntlm_challenge()) if is_challenged else b""
                    stream.sendall(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM" + challenge +
                                   b"\r\nContent-Length: 7\r\n\r\nlog in\n")
        except OSError:
            pass  # The client may disconnect at any time.


def _head(received):
    """The lines of a head; nothing at the end of the connection."""
    lines = []
    while (line := received.readline()).strip():
        lines.append(line)
    return b"".join(lines)


def _ntlm_challenge():
    """A CHALLENGE_MESSAGE ([MS-NLMP] 2.2.1.2) for a server without a name."""
    unicode, ntlm, extended_security, target_info = 1, 0x200, 0x80000, 0x800000
    end_of_info = bytes(4)
    return (b"NTLMSSP\0" + struct.pack("<IHHI", 2, 0, 0, 48) +
            struct.pack("<I", unicode | ntlm | extended_security | target_info) + os.urandom(8) + bytes(8) +
            struct.pack("<HHI", len(end_of_info), len(end_of_info), 48) + end_of_info)


class _TlsOrigin:
    """A TLS server that names no protocol (ALPN). A subclass says what it speaks by `_speak(stream, received)`."""

    def __init__(self, pair, directory, name):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*pair.write(directory, name))
        self._listener = _listen("127.0.0.1")
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Takes no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(30)
        try:
            with self._context.wrap_socket(connection, server_side=True) as stream, stream.makefile("rb") as received:
                self._speak(stream, received)
        except OSError:
            pass  # The client may disconnect at any time.
        finally:
            connection.close()


class MailOrigin(_TlsOrigin):
    """IMAP4rev1 with one mailbox of one message, `text`. It greets first, as IMAP servers do (RFC 3501 7.1)."""

    def __init__(self, pair, directory, text):
        self._text = text
        super().__init__(pair, directory, "imap")

    def _speak(self, stream, received):
        stream.sendall(b"* OK IMAP4rev1 ready\r\n")
        answers = {
            b"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n",
            b"SELECT": b"* 1 EXISTS\r\n* 0 RECENT\r\n* FLAGS ()\r\n",
            b"EXAMINE": b"* 1 EXISTS\r\n* 0 RECENT\r\n* FLAGS ()\r\n",
            b"FETCH": b"* 1 FETCH (RFC822 {%d}\r\n%s)\r\n" % (len(self._text), self._text),
            b"LOGOUT": b"* BYE\r\n",
        }
        for line in received:
            tag, command, *arguments = line.split()
            if command == b"APPEND":
                # The client waits for this before it sends the message (RFC 3501 7.5).
                stream.sendall(b"+ send it\r\n")
                self._text = received.read(int(arguments[-1].strip(b"{}")))
                received.readline()
            stream.sendall(answers.get(command, b"") + tag + b" OK done\r\n")
            if command == b"LOGOUT":
                stream.unwrap()
                return


class MqttOrigin(_TlsOrigin):
    """A broker of MQTT 3.1.1 for one client at a time: sends back to it what it publishes."""

    def __init__(self, pair, directory):
        super().__init__(pair, directory, "mqtt")

    def _speak(self, stream, received):
        while kind := received.read(1):
            content = received.read(_mqtt_len(received))
            match kind[0] >> 4:
                case 1:  # CONNECT: CONNACK, accepted
                    stream.sendall(b"\x20\x02\0\0")
                case 3:  # PUBLISH: PUBACK if required, and the message itself as QoS 0
                    end = 2 + int.from_bytes(content[:2], "big")
                    number = content[end:end + 2] if kind[0] & 6 else b""
                    if number:
                        stream.sendall(b"\x40\x02" + number)
                    message = content[:end] + content[end + len(number):]
                    stream.sendall(b"\x30" + _mqtt_encoded(len(message)) + message)
                case 8:  # SUBSCRIBE: SUBACK, QoS 0
                    stream.sendall(b"\x90\x03" + content[:2] + b"\0")
                case 12:  # PINGREQ: PINGRESP
                    stream.sendall(b"\xd0\0")
                case 14:  # DISCONNECT
                    return


def _mqtt_len(received):
    """The length of a packet: seven bits a byte, the least significant first."""
    length, shift = 0, 0
    while byte := received.read(1):
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            break
    return length


def _mqtt_encoded(length):
    encoded = bytearray()
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
