"""paho, a client of MQTT over TLS: it speaks first, binary, and names no protocol (ALPN)."""

import queue
import ssl

import paho.mqtt.client
import socks

import certificates
from checks import expect_same
from harness import case
from origins import MqttOrigin


def _publishes(context, proxy, messages):
    origin = MqttOrigin(certificates.server(context.world.origin_authority), context.directory)
    context.at_end(origin.close)
    events = queue.Queue()
    client = paho.mqtt.client.Client(paho.mqtt.client.CallbackAPIVersion.VERSION2, "case")
    client.on_connect = lambda _, __, ___, reason, ____: events.put(reason.value)
    client.on_subscribe = lambda *_: events.put("subscribed")
    client.on_message = lambda _, __, message: events.put((message.topic, message.payload))
    client.proxy_set(proxy_type=socks.HTTP, proxy_addr="127.0.0.1", proxy_port=proxy.port)
    client.tls_set_context(ssl.create_default_context(cafile=context.ca_file))
    client.connect("localhost", origin.port, keepalive=20)
    client.loop_start()
    context.at_end(client.loop_stop)
    expect_same("the reason code of the connection", events.get(timeout=10), 0)
    context.expect_issuer(client.socket().getpeercert(True))
    client.subscribe("topic")
    expect_same("the answer", events.get(timeout=10), "subscribed")
    for message in messages:
        published = client.publish("topic", message, qos=1)
        expect_same("the message that came back", events.get(timeout=10), ("topic", message))
        published.wait_for_publish(10)
    client.disconnect()
    proxy.expect_line(rf" - CONNECT localhost:{origin.port} - .* - relayed decrypted, not HTTP",
                      "the tunnel is not relayed decrypted")


@case("mqtt", "messages published and received, short, long and like HTTP")
def publishes(context):
    _publishes(context, context.proxy, [b"one", b"", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 4000])
