"""A PAC file that the proxy has made and serves: headless Chromium goes through the proxy where it says so.

Chromium reaches localhost and 127.0.0.0/8 directly whatever a PAC file says, so that the origins have made-up names
here, which the proxy learns from a plugin and Chromium from a flag.
"""

import html
import json
import os
import re
import shutil
import time
import urllib.request

from checks import Failed, NotAvailable, expect_match, expect_same
from harness import case

PLUGIN = "libcustom_dns_resolver.so"
PROXIED, DIRECT = "proxied.example", "direct.example"
# As in the other cases, but without proxy flags; names resolve to this machine or not at all.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
         f"--host-resolver-rules=MAP {DIRECT} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


def _start(context, *flags):
    """A proxy that serves a PAC file, and that file, with nothing in it yet: the port is not known before."""
    if not shutil.which("chromium"):
        raise NotAvailable("no chromium")
    beside = os.path.dirname(context.world.executable)
    if not any(os.path.exists(os.path.join(beside, place, PLUGIN)) for place in ("plugins", "")):
        raise NotAvailable(f"no {PLUGIN} beside {context.world.executable}")
    file = context.write("proxy.pac", "// Nothing yet.\n")
    proxy = context.start("--pac-file", file, *flags, "--plugins", f"{PLUGIN}:CustomDnsResolver", "--plugin-config",
                          f'CustomDnsResolver.hosts={{ "{PROXIED}" = ["127.0.0.1"] }}')
    return proxy, file


def _generate(context, file, *flags):
    context.run([context.world.executable, "pac", "generate", *flags, "--direct", DIRECT, "--force", "--output", file])


def _expect_served(proxy, path, file):
    """Waits until the proxy serves the file as it is: it looks at it once a second."""
    with open(file, "rb") as opened:
        expected = opened.read()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 5
    while True:
        with opener.open(f"{proxy.url}{path}", timeout=5) as response:
            content, fields = response.read(), response.headers
        if content == expected:
            break
        if time.monotonic() > deadline:
            raise Failed(f"the PAC file is not read again: {content[:500]}")
        time.sleep(0.1)
    expect_same("the type of the PAC file", fields["Content-Type"], "application/x-ns-proxy-autoconfig")
    expect_match("its Cache-Control", fields["Cache-Control"] or "", r"^max-age=\d+$")


def _via(context, pac_url, host):
    """The values of Via that the origin saw in Chromium's request: none if it came directly."""
    home = os.path.join(context.directory, f"home-{host}")
    os.makedirs(home)
    done = context.run(["chromium", *FLAGS, f"--user-data-dir={home}/profile", f"--proxy-pac-url={pac_url}",
                        "--dump-dom", f"http://{host}:{context.origins.plain_port}/echo"], {"HOME": home}, seconds=60)
    dom = done.stdout.decode()
    report = re.search(r"<pre[^>]*>(.*?)</pre>", dom, re.S)
    if not report:
        raise Failed(f"no account of the request: {dom[:500]}\n{done.stderr.decode(errors='replace')[-2000:]}")
    fields = json.loads(html.unescape(report.group(1)))["fields"]
    expect_same("Host", [value for name, value in fields if name == "host"], [f"{host}:{context.origins.plain_port}"])
    return [value for name, value in fields if name == "via"]


def _follows(context, path, *flags):
    proxy, file = _start(context, *flags)
    _generate(context, file, "--proxy", f"127.0.0.1:{proxy.port}", "--no-fallback")
    _expect_served(proxy, path, file)
    expect_same("Via of what goes through the proxy", _via(context, f"{proxy.url}{path}", PROXIED), ["1.1 proxy"])
    proxy.expect_access("GET", PROXIED, context.origins.plain_port, "/echo")
    expect_same("Via of what goes directly", _via(context, f"{proxy.url}{path}", DIRECT), [])
    expect_same("lines of the log about the direct origin", proxy.count_access(re.escape(DIRECT)), 0)


@case("pac", "Chromium follows a PAC file at /")
def follows(context):
    _follows(context, "/")


@case("pac", "the same at a path of its own")
def follows_at_path(context):
    _follows(context, "/some/proxy.pac", "--pac-file-url-path", "/some/proxy.pac")


@case("pac", "the same at /wpad.dat")
def follows_at_wpad(context):
    _follows(context, "/wpad.dat")


@case("pac", "a proxy that is gone: Chromium tries the next one")
def fails_over(context):
    proxy, file = _start(context)
    # Port 9 (discard): nothing listens there.
    _generate(context, file, "--proxy", "127.0.0.1:9", "--proxy", f"127.0.0.1:{proxy.port}", "--no-fallback")
    _expect_served(proxy, "/", file)
    expect_same("Via", _via(context, f"{proxy.url}/", PROXIED), ["1.1 proxy"])
    proxy.expect_access("GET", PROXIED, context.origins.plain_port, "/echo")
