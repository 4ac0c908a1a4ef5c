"""The h2 library as a client of few manners: WebSockets over HTTP/2 (RFC 8441) that end in every way."""

import collections
import contextlib
import http.client
import ssl

import h2.config
import h2.connection
import h2.events
import h2.settings
import wsproto
import wsproto.connection
import wsproto.events

from checks import Failed, expect_same
from harness import case


class _Client:
    """One connection of HTTP/2 inside of a tunnel."""

    def __init__(self, context, origin):
        port = context.origins.port(origin)
        self.authority = f"localhost:{port}"
        trust = ssl.create_default_context(cafile=context.ca_file)
        trust.set_alpn_protocols(["h2"])
        tunnel = http.client.HTTPConnection("127.0.0.1", context.proxy.port, timeout=10)
        tunnel.set_tunnel("localhost", port)
        tunnel.connect()
        self.socket = trust.wrap_socket(tunnel.sock, server_hostname="localhost")
        expect_same("the protocol", self.socket.selected_alpn_protocol(), "h2")
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._events = collections.deque()
        self.http.initiate_connection()
        self.expect(h2.events.RemoteSettingsChanged)
        expect_same("whether the proxy takes extended CONNECT",
                    self.http.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL), 1)

    def expect(self, *kinds):
        """Reads until an event of one of these kinds comes; returns it."""
        while True:
            # Several may arrive at once; those after the returned one are kept for the next call.
            while self._events:
                event = self._events.popleft()
                if isinstance(event, kinds):
                    return event
            self.flush()
            received = self.socket.recv(65536)
            if not received:
                raise Failed(f"the connection ends without {kinds}")
            self._events.extend(self.http.receive_data(received))

    def flush(self):
        """Sends what there is to send."""
        self.socket.sendall(self.http.data_to_send())

    def open_websocket(self, path="/ws"):
        """Opens a WebSocket; returns its stream and a codec for its frames."""
        stream = self.http.get_next_available_stream_id()
        self.http.send_headers(stream, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                                        (":authority", self.authority), (":path", path),
                                        ("sec-websocket-version", "13")])
        head = dict(self.expect(h2.events.ResponseReceived).headers)
        expect_same("the status", head[":status"], "200")
        return stream, wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)

    def echo(self, stream, codec, text):
        """Sends a message and waits for it to come back."""
        self.http.send_data(stream, codec.send(wsproto.events.TextMessage(text)))
        answer = ""
        while answer != text:
            codec.receive_data(self.expect(h2.events.DataReceived).data)
            answer += "".join(event.data for event in codec.events())


@contextlib.contextmanager
def _websocket(context, origin, path):
    client = _Client(context, origin)
    stream, codec = client.open_websocket(path)
    client.echo(stream, codec, "text \u00e4")
    yield client, stream, codec
    context.expect_access(context.proxy, "GET", origin, path, 101)


for origin in ("any", "h1"):
    @case("h2", f"WebSocket that is closed, origin {origin}")
    def closes(context, origin=origin):
        with _websocket(context, origin, "/ws?closes") as (client, stream, codec):
            client.http.send_data(stream, codec.send(wsproto.events.CloseConnection(1000, "done")))
            codec.receive_data(client.expect(h2.events.DataReceived).data)
            expect_same("the close code", [event.code for event in codec.events()], [1000])
            client.expect(h2.events.StreamEnded)
            client.http.end_stream(stream)
            client.flush()

    @case("h2", f"WebSocket whose stream is reset, origin {origin}")
    def resets(context, origin=origin):
        with _websocket(context, origin, "/ws?resets") as (client, stream, _):
            client.http.reset_stream(stream)
            client.flush()
        # The connection stays usable.
        client.echo(*client.open_websocket(), "again")

    @case("h2", f"WebSocket whose client vanishes, origin {origin}")
    def vanishes(context, origin=origin):
        with _websocket(context, origin, "/ws?vanishes") as (client, _, _):
            client.socket.close()

    @case("h2", f"WebSocket half closed, then its client vanishes, origin {origin}")
    def ends_and_vanishes(context, origin=origin):
        with _websocket(context, origin, "/ws?ends") as (client, stream, _):
            client.http.end_stream(stream)
            client.flush()
            client.echo(*client.open_websocket("/ws?other"), "the end has arrived by now")
            client.socket.close()
