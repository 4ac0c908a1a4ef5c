"""libcurl as its Python binding brings it along: newer than most systems', and able to speak HTTP/2 to a proxy."""

import hashlib
import io

import pycurl

from checks import NotAvailable, expect_same
from harness import case, der
from website import random_text

# CURLPROXY_HTTPS2 and CURL_VERSION_HTTP2; the binding does not define them.
PROXYTYPE_HTTPS2 = 3
FEATURE_HTTP2 = 1 << 16


def _handle(context, proxy, url):
    features = pycurl.version_info()[4]
    if not features & FEATURE_HTTP2:
        raise NotAvailable(f"{pycurl.version} has no HTTP/2")
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.PROXY, proxy.url)
    handle.setopt(pycurl.PROXYTYPE, PROXYTYPE_HTTPS2)
    handle.setopt(pycurl.PROXY_CAINFO, context.listener_ca_file)
    handle.setopt(pycurl.CAINFO, context.ca_file)
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
    handle.setopt(pycurl.TIMEOUT, 30)
    handle.notes = []
    handle.setopt(pycurl.VERBOSE, True)
    handle.setopt(pycurl.DEBUGFUNCTION, lambda kind, data: handle.notes.append(data) if kind == 0 else None)
    handle.content = io.BytesIO()
    handle.setopt(pycurl.WRITEDATA, handle.content)
    return handle


def _expect_http2_to_proxy(handle):
    notes = b"".join(handle.notes)
    expect_same("whether libcurl made an HTTP/2 tunnel", b"Establishing HTTP/2 proxy tunnel" in notes, True)


@case("libcurl", "HTTP/2 to the proxy, HTTP/2 inside")
def gets(context):
    proxy = context.tls_proxy
    handle = _handle(context, proxy, context.url("any", "/hello"))
    handle.setopt(pycurl.OPT_CERTINFO, True)
    handle.perform()
    expect_same("the body", handle.content.getvalue(), b"hello\n")
    expect_same("the HTTP version inside", handle.getinfo(pycurl.INFO_HTTP_VERSION), pycurl.CURL_HTTP_VERSION_2_0)
    _expect_http2_to_proxy(handle)
    leaf = dict(handle.getinfo(pycurl.INFO_CERTINFO)[0])
    context.expect_issuer(der(leaf["Cert"].encode()))
    context.expect_access(proxy, "GET", "any", "/hello")


@case("libcurl", "HTTP/2 to the proxy, HTTP/1.1 inside")
def gets_http1(context):
    proxy = context.tls_proxy
    handle = _handle(context, proxy, context.url("h1", "/hello"))
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    handle.perform()
    expect_same("the body", handle.content.getvalue(), b"hello\n")
    context.expect_access(proxy, "GET", "h1", "/hello")


@case("libcurl", "HTTP/2 to the proxy, 16 MiB down and 1 MiB up inside")
def moves_much(context):
    proxy, length = context.tls_proxy, 16 << 20
    handle = _handle(context, proxy, context.url("any", f"/bytes?n={length}"))
    handle.perform()
    _expect_http2_to_proxy(handle)
    expect_same("the hash of the body", hashlib.sha256(handle.content.getvalue()).digest(),
                hashlib.sha256(random_text(length)).digest())
    content = random_text(1 << 20)
    handle = _handle(context, proxy, context.url("any", "/echo"))
    handle.setopt(pycurl.POSTFIELDS, content)
    handle.perform()
    expect_same("whether the hash arrived", hashlib.sha256(content).hexdigest().encode() in handle.content.getvalue(),
                True)


@case("libcurl", "HTTP/2 to the proxy, 20 tunnels at once")
def opens_many_tunnels(context):
    proxy = context.tls_proxy
    multi = pycurl.CurlMulti()
    handles = [_handle(context, proxy, context.url("h1", f"/hello?number={number}")) for number in range(20)]
    for handle in handles:
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        multi.add_handle(handle)
    running = len(handles)
    while running:
        multi.select(1.0)
        _, running = multi.perform()
    expect_same("the bodies", [handle.content.getvalue() for handle in handles], [b"hello\n"] * len(handles))
    for number in range(20):
        context.expect_access(proxy, "GET", "h1", f"/hello?number={number}")
    multi.close()


@case("libcurl", "HTTP/2 to the proxy, http:// forwarded")
def gets_clear_text(context):
    proxy, port = context.tls_proxy, context.origins.plain_port
    handle = _handle(context, proxy, f"http://localhost:{port}/hello")
    handle.perform()
    expect_same("the body", handle.content.getvalue(), b"hello\n")
    proxy.expect_access("GET", "localhost", port, "/hello")
