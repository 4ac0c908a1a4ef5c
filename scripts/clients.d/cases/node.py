"""Node: undici with its ProxyAgent, fetch on top of it, and ws with https-proxy-agent; see node.cjs."""

import hashlib
import json
import os

from checks import NotAvailable, expect_same
from harness import case
from website import random_text

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node.cjs")
OLDEST = 20


def node(context, proxy, task, url, **settings):
    """Runs a task of node.cjs and returns what it found."""
    version = context.run(["node", "--version"]).stdout.decode().strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST:
        raise NotAvailable(f"node {version}: the packages need {OLDEST}")
    order = {"task": task, "url": url, "proxy": proxy.url, "trust": context.ca_file,
             "proxyTrust": context.listener_ca_file, **settings}
    done = context.run(["node", SCRIPT, json.dumps(order)])
    found = json.loads(done.stdout)
    context.expect_issuer(bytes.fromhex(found["certificate"]))
    return found


def _undici_gets(context, proxy, is_http2, protocol):
    found = node(context, proxy, "undici", context.url("any", "/hello"), isHttp2=is_http2)
    expect_same("status and body", (found["status"], found["body"]), (200, "hello\n"))
    expect_same("the protocol", found["protocol"], protocol)
    context.expect_access(proxy, "GET", "any", "/hello")
    upload = context.write("upload", random_text(1 << 20))
    found = node(context, proxy, "undici", context.url("any", "/echo"), isHttp2=is_http2, method="POST", upload=upload)
    expect_same("the hash that arrived", json.loads(found["body"])["sha256"],
                hashlib.sha256(random_text(1 << 20)).hexdigest())
    context.expect_access(proxy, "POST", "any", "/echo")


@case("undici", "ProxyAgent, HTTP/1.1")
def undici_gets_http1(context):
    _undici_gets(context, context.proxy, False, "http/1.1")


@case("undici", "ProxyAgent, HTTP/2")
def undici_gets_http2(context):
    _undici_gets(context, context.proxy, True, "h2")


@case("undici", "ProxyAgent over a proxy of TLS")
def undici_gets_over_tls_proxy(context):
    _undici_gets(context, context.tls_proxy, False, "http/1.1")


@case("fetch", "of undici through ProxyAgent, compressed content")
def fetches(context):
    found = node(context, context.proxy, "fetch", context.url("any", "/gzip"))
    expect_same("status and body", (found["status"], found["body"]), (200, "compressible " * 10000))
    context.expect_access(context.proxy, "GET", "any", "/gzip")


def _ws_talks(context, proxy, origin):
    url = context.url(origin, "/ws").replace("https:", "wss:")
    found = node(context, proxy, "ws", url)
    expect_same("the answers", found["answers"], ["text \u00e4", "000102ff", "pong"])
    expect_same("the close code", found["code"], 1000)
    context.expect_access(proxy, "GET", origin, "/ws", 101)


@case("ws", "text, binary and ping")
def ws_talks(context):
    _ws_talks(context, context.proxy, "any")


@case("ws", "the same with an origin of HTTP/2 alone")
def ws_talks_to_http2(context):
    _ws_talks(context, context.proxy, "h2")


@case("ws", "the same over a proxy of TLS")
def ws_talks_over_tls_proxy(context):
    _ws_talks(context, context.tls_proxy, "any")
