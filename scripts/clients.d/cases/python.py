"""The HTTP libraries of Python, pip among them."""

import asyncio
import hashlib
import os
import ssl
import sys

import aiohttp
import httpx
import requests
import urllib3
import websockets

from checks import Failed, expect_same
from harness import case
from website import WHEEL, random_text

CONTENT = random_text(1 << 20)
CONTENT_HASH = hashlib.sha256(CONTENT).hexdigest()


def _trust(file):
    return ssl.create_default_context(cafile=file)


@case("requests", "GET and POST")
def requests_gets(context):
    proxies = {"https": context.proxy.url}
    with requests.Session() as session:
        session.trust_env = False
        # The certificate is read before the body: afterwards the connection is back in the pool.
        with session.get(context.url("any", "/hello"), proxies=proxies, verify=context.ca_file, timeout=20,
                         stream=True) as answer:
            context.expect_issuer(answer.raw.connection.sock.getpeercert(True))
            expect_same("the body", answer.content, b"hello\n")
        answer = session.post(context.url("any", "/echo"), data=CONTENT, proxies=proxies, verify=context.ca_file,
                              timeout=20)
        expect_same("the hash that arrived", answer.json()["sha256"], CONTENT_HASH)
    context.expect_access(context.proxy, "GET", "any", "/hello")
    context.expect_access(context.proxy, "POST", "any", "/echo")


@case("requests", "chunked upload from a generator")
def requests_uploads_chunked(context):
    pieces = (CONTENT[start:start + 10000] for start in range(0, len(CONTENT), 10000))
    answer = requests.post(context.url("any", "/echo"), data=pieces, proxies={"https": context.proxy.url},
                           verify=context.ca_file, timeout=20)
    expect_same("the hash that arrived", answer.json()["sha256"], CONTENT_HASH)


@case("requests", "a host with a certificate that cannot be verified")
def requests_is_refused(context):
    # The client trusts another CA: its handshake must fail with the correct reason.
    try:
        requests.get(context.url("any", "/hello"), proxies={"https": context.proxy.url},
                     verify=context.listener_ca_file, timeout=20)
    except requests.exceptions.SSLError as error:
        expect_same("whether the reason is named", "CERTIFICATE_VERIFY_FAILED" in str(error), True)
    else:
        raise Failed("a certificate of an unknown authority was accepted")


def _httpx_client(context, proxy, **settings):
    listener = _trust(context.listener_ca_file) if proxy.url.startswith("https:") else None
    return httpx.Client(proxy=httpx.Proxy(proxy.url, ssl_context=listener), verify=_trust(context.ca_file),
                        trust_env=False, timeout=20, **settings)


def _httpx_gets(context, proxy, is_http2, version):
    with _httpx_client(context, proxy, http1=not is_http2, http2=is_http2) as client:
        with client.stream("GET", context.url("any", "/hello")) as answer:
            expect_same("the HTTP version", answer.http_version, version)
            tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
            context.expect_issuer(tls.getpeercert(True))
            expect_same("the body", answer.read(), b"hello\n")
        answer = client.post(context.url("any", "/echo"), content=CONTENT)
        expect_same("the hash that arrived", answer.json()["sha256"], CONTENT_HASH)
    context.expect_access(proxy, "GET", "any", "/hello")
    context.expect_access(proxy, "POST", "any", "/echo")


@case("httpx", "HTTP/1.1")
def httpx_gets_http1(context):
    _httpx_gets(context, context.proxy, False, "HTTP/1.1")


@case("httpx", "HTTP/2")
def httpx_gets_http2(context):
    _httpx_gets(context, context.proxy, True, "HTTP/2")


@case("httpx", "HTTP/2 over a proxy of TLS")
def httpx_gets_over_tls_proxy(context):
    _httpx_gets(context, context.tls_proxy, True, "HTTP/2")


@case("httpx", "100 requests at once on one connection of HTTP/2")
def httpx_opens_many_streams(context):
    async def visit():
        async with httpx.AsyncClient(proxy=context.proxy.url, verify=_trust(context.ca_file), trust_env=False,
                                     http1=False, http2=True, timeout=20) as client:
            await client.get(context.url("any", "/hello"))  # opens the connection
            urls = [context.url("any", f"/bytes?n={1000 * number}") for number in range(100)]
            return await asyncio.gather(*map(client.get, urls))

    answers = asyncio.run(visit())
    expect_same("the lengths of the bodies", [len(answer.content) for answer in answers], list(range(0, 100000, 1000)))
    expect_same("connections to the proxy", context.proxy.count_access(" - CONNECT "), 1)


def _expect_stream(first, second):
    expect_same("what came at once", first, b"first\n")
    expect_same("what came later", second, b"second\n")


@case("httpx", "a response that is read while it is written")
def httpx_streams(context):
    with _httpx_client(context, context.proxy, http1=False, http2=True) as client:
        with client.stream("GET", context.url("any", "/stream?id=httpx")) as answer:
            pieces = answer.iter_bytes()
            first = next(pieces)
            client.get(context.url("any", "/release?id=httpx"))
            _expect_stream(first, next(pieces))


async def _aiohttp_gets(context, proxy):
    listener = _trust(context.listener_ca_file) if proxy.url.startswith("https:") else None
    # One context serves both handshakes, so it must trust both CAs.
    trust = _trust(context.ca_file)
    if listener:
        trust.load_verify_locations(context.listener_ca_file)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
        async with session.get(context.url("any", "/hello"), proxy=proxy.url, ssl=trust) as answer:
            tls = answer.connection.transport.get_extra_info("ssl_object") if answer.connection else None
            expect_same("the body", await answer.read(), b"hello\n")
        async with session.get(context.url("any", "/stream?id=" + proxy.url), proxy=proxy.url, ssl=trust) as answer:
            tls = answer.connection.transport.get_extra_info("ssl_object")
            context.expect_issuer(tls.getpeercert(True))
            first = await answer.content.readline()
            release = context.url("any", "/release?id=" + proxy.url)
            async with session.get(release, proxy=proxy.url, ssl=trust) as released:
                await released.read()
            _expect_stream(first, await answer.content.readline())
        async with session.post(context.url("any", "/echo"), data=CONTENT, proxy=proxy.url, ssl=trust) as answer:
            expect_same("the hash that arrived", (await answer.json())["sha256"], CONTENT_HASH)
    context.expect_access(proxy, "GET", "any", "/hello")
    context.expect_access(proxy, "POST", "any", "/echo")


@case("aiohttp", "GET, POST and a response that is read while it is written")
def aiohttp_gets(context):
    asyncio.run(_aiohttp_gets(context, context.proxy))


@case("aiohttp", "the same over a proxy of TLS")
def aiohttp_gets_over_tls_proxy(context):
    asyncio.run(_aiohttp_gets(context, context.tls_proxy))


@case("aiohttp", "WebSocket")
def aiohttp_opens_websocket(context):
    async def talk():
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
            async with session.ws_connect(context.url("any", "/ws"), proxy=context.proxy.url,
                                          ssl=_trust(context.ca_file)) as socket:
                await socket.send_str("text \u00e4")
                return await socket.receive_str(timeout=10)

    expect_same("the answer", asyncio.run(talk()), "text \u00e4")
    context.expect_access(context.proxy, "GET", "any", "/ws", 101)


async def _websockets_talk(context, proxy, origin, compression):
    settings = {"proxy_ssl": _trust(context.listener_ca_file)} if proxy.url.startswith("https:") else {}
    url = context.url(origin, "/ws").replace("https:", "wss:")
    async with websockets.connect(url, proxy=proxy.url, ssl=_trust(context.ca_file), compression=compression,
                                  open_timeout=10, max_size=None, **settings) as socket:
        tls = socket.transport.get_extra_info("ssl_object")
        context.expect_issuer(tls.getpeercert(True))
        for message in ("text \u00e4", b"\x00binary\xff", "", CONTENT, "x" * 100000):
            await socket.send(message)
            expect_same("the answer", await asyncio.wait_for(socket.recv(), 10), message)
        await socket.send(["in ", "three ", "pieces"])
        expect_same("the answer", await asyncio.wait_for(socket.recv(), 10), "in three pieces")
        await asyncio.wait_for(await socket.ping(b"ping"), 10)
        for number in range(500):
            await socket.send(str(number))
        for number in range(500):
            expect_same("the answer", await asyncio.wait_for(socket.recv(), 10), str(number))
        await socket.close(1000, "done")
        expect_same("the close code", socket.close_code, 1000)
    context.expect_access(proxy, "GET", origin, "/ws", 101)


@case("websockets", "text, binary, ping, fragments, 500 messages")
def websockets_talks(context):
    asyncio.run(_websockets_talk(context, context.proxy, "any", "deflate"))


@case("websockets", "the same without compression")
def websockets_talks_uncompressed(context):
    asyncio.run(_websockets_talk(context, context.proxy, "any", None))


@case("websockets", "the same with an origin of HTTP/1.1 alone")
def websockets_talks_to_http1(context):
    asyncio.run(_websockets_talk(context, context.proxy, "h1", "deflate"))


@case("websockets", "the same with an origin of HTTP/2 alone")
def websockets_talks_to_http2(context):
    asyncio.run(_websockets_talk(context, context.proxy, "h2", "deflate"))


@case("websockets", "the same over a proxy of TLS")
def websockets_talks_over_tls_proxy(context):
    asyncio.run(_websockets_talk(context, context.tls_proxy, "any", "deflate"))


async def _websockets_vanishes(context, origin):
    url = context.url(origin, "/ws").replace("https:", "wss:")
    socket = await websockets.connect(url, proxy=context.proxy.url, ssl=_trust(context.ca_file))
    await socket.send("text")
    expect_same("the answer", await asyncio.wait_for(socket.recv(), 10), "text")
    socket.transport.abort()


for origin in ("h1", "h2"):
    @case("websockets", f"a client that vanishes, origin {origin}")
    def websockets_vanishes(context, origin=origin):
        asyncio.run(_websockets_vanishes(context, origin))
        context.expect_access(context.proxy, "GET", origin, "/ws", 101)


def _pip_downloads(context, proxy, trust):
    done = context.run([sys.executable, "-m", "pip", "--isolated", "download", "--no-cache-dir", "--no-deps",
                        "--disable-pip-version-check", "--timeout", "20", "--retries", "0", "--proxy", proxy.url,
                        "--cert", trust, "--index-url", context.url("any", "/simple/"), "--dest", context.directory,
                        "small-package==1.0"])
    expect_same("whether pip has saved it", os.path.exists(os.path.join(context.directory, WHEEL)), True)
    expect_same("warnings of pip", b"WARNING" in done.stdout + done.stderr, False)
    context.expect_access(proxy, "GET", "any", "/simple/small-package/")
    context.expect_access(proxy, "GET", "any", f"/simple/small-package/{WHEEL}")


@case("pip", "download from an index")
def pip_downloads(context):
    _pip_downloads(context, context.proxy, context.ca_file)


@case("pip", "download from an index over a proxy of TLS")
def pip_downloads_over_tls_proxy(context):
    # pip has one CA file for both handshakes.
    content = b""
    for file in (context.ca_file, context.listener_ca_file):
        with open(file, "rb") as pem:
            content += pem.read()
    _pip_downloads(context, context.tls_proxy, context.write("trust.pem", content))


# As Kubernetes clients do with `tls-server-name`: the name in the server's certificate differs from its address.
SERVER_NAME = "my_service"


def _urllib3_gets(context, proxy):
    with urllib3.ProxyManager(proxy.url, ca_certs=context.ca_file, server_hostname=SERVER_NAME, retries=False,
                              timeout=20) as manager:
        return manager.request("GET", context.url("any", "/hello"))


@case("urllib3", "another server name than the host's, where that host may front")
def urllib3_names_server(context):
    proxy = context.start(config='[interception]\nallow_fronting = ["localhost"]\n')
    expect_same("the body", _urllib3_gets(context, proxy).data, b"hello\n")
    context.expect_access(proxy, "GET", "any", "/hello", host=SERVER_NAME)


@case("urllib3", "another server name than the host's is refused elsewhere")
def urllib3_is_refused_server_name(context):
    try:
        _urllib3_gets(context, context.proxy)
    except urllib3.exceptions.SSLError as error:
        expect_same("whether the reason is named", "UNRECOGNIZED_NAME" in str(error).upper(), True)
    else:
        raise Failed("a server name that is not the host's was accepted")
    expect_same("requests that the proxy saw inside", context.proxy.count_access(" - GET "), 0)
