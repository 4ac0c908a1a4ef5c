"""Headless Chromium, which trusts the proxy's authority as a user would make it: through the store of NSS."""

import html
import json
import os
import re
import shutil

from checks import Failed, NotAvailable, expect_same
from harness import case
from website import IMAGES

# Runs as root and without a display. Disables background traffic, and maps the hosts of the rest to a dead port.
# Sends requests for localhost through the proxy too.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
         "--proxy-bypass-list=<-loopback>", "--host-rules=MAP * localhost:1, EXCLUDE localhost, EXCLUDE 127.0.0.1"]


def _home(context, *authorities):
    """A home directory whose NSS store trusts these authorities."""
    home = os.path.join(context.directory, "home")
    for store in (".pki/nssdb", ".local/share/pki/nssdb"):
        path = os.path.join(home, store)
        os.makedirs(path)
        context.run(["certutil", "-N", "-d", f"sql:{path}", "--empty-password"])
        for number, file in enumerate(authorities):
            context.run(["certutil", "-A", "-d", f"sql:{path}", "-t", "C,,", "-n", f"authority {number}", "-i", file])
    return home


def _dump(context, proxy, url, *authorities):
    if not shutil.which("chromium"):
        raise NotAvailable("no chromium")
    home = _home(context, *authorities)
    done = context.run(["chromium", *FLAGS, f"--user-data-dir={home}/profile", f"--proxy-server={proxy.url}",
                        "--dump-dom", url], {"HOME": home}, seconds=60)
    return done.stdout.decode(), done.stderr.decode(errors="replace")


def _visits(context, proxy, origin, protocol, *authorities):
    dom, notes = _dump(context, proxy, context.url(origin, "/page"), *authorities)
    report = re.search(r"<pre id=\"report\">(.*?)</pre>", dom, re.S)
    if not report:
        raise Failed(f"no report in the page: {dom[:500]}\n{notes[-2000:]}")
    report = json.loads(html.unescape(report.group(1)))
    expect_same("errors in the page", report.get("error"), None)
    expect_same("the length of what was posted", report["posted"]["length"], 1 << 20)
    cookies = "; ".join(value for name, value in report["posted"]["fields"] if name == "cookie")
    expect_same("the cookies that arrived", cookies, "first=1; second=2")
    expect_same("the widths of the images", report["images"], [1] * IMAGES)
    expect_same("the answer of the WebSocket", report["socket"], "text \u00e4")
    expect_same("the protocols", report["protocols"], [protocol, protocol])
    context.expect_access(proxy, "GET", origin, "/page")
    context.expect_access(proxy, "POST", origin, "/echo")
    for number in range(IMAGES):
        context.expect_access(proxy, "GET", origin, f"/image?number={number}")
    proxy.expect_line(rf"localhost:{context.origins.port(origin)}/ws - (101|200)\b", "the proxy saw no WebSocket")


@case("chromium", "page with fetch, cookies, WebSocket and 30 images, HTTP/2")
def visits_http2(context):
    _visits(context, context.proxy, "any", "h2", context.ca_file)


@case("chromium", "the same, HTTP/1.1")
def visits_http1(context):
    _visits(context, context.proxy, "h1", "http/1.1", context.ca_file)


@case("chromium", "the same over a proxy of TLS, to which it speaks HTTP/2")
def visits_over_tls_proxy(context):
    _visits(context, context.tls_proxy, "any", "h2", context.ca_file, context.listener_ca_file)


@case("chromium", "shows nothing if it does not trust the authority")
def trusts_nobody(context):
    dom, _ = _dump(context, context.proxy, context.url("any", "/hello"), context.listener_ca_file)
    expect_same("whether the page is there", "hello" in dom, False)
    expect_same("requests that the proxy saw inside", context.proxy.count_access(" - GET localhost:"), 0)
