"""Clients of SOCKS5: curl, Python's requests, and ssh through nc. The proxy resolves names, and looks into tunnels."""

import os
import re
import shutil
import socket
import subprocess
import time

import requests

from checks import Failed, NotAvailable, expect_same
from harness import case

LISTENER = '[[listeners]]\nhostname = "127.0.0.1"\nport = 0\nkind = "{kind}"\n'


def _start(context, *flags, kind="socks5"):
    """A proxy with interception, and the port of its listener for SOCKS5."""
    proxy = context.start(*flags, config=LISTENER.format(kind=kind))
    return proxy, proxy.ports(2)[1]


def _curl(context, port, *arguments, status=0):
    return context.run(["curl", "-sS", "--max-time", "30", "--cacert", context.ca_file, *arguments], status=status)


for kind in ("socks5", "http+socks5"):
    @case("socks", f"curl --socks5-hostname, HTTPS, a listener of the kind {kind}")
    def curl_https(context, kind=kind):
        proxy, port = _start(context, kind=kind)
        done = _curl(context, port, "--socks5-hostname", f"127.0.0.1:{port}", context.url("any", "/hello"))
        expect_same("the body", done.stdout, b"hello\n")
        context.expect_access(proxy, "GET", "any", "/hello")


@case("socks", "curl --socks5-hostname, plain HTTP")
def curl_http(context):
    proxy, port = _start(context)
    origin = context.origins.plain_port
    done = _curl(context, port, "--socks5-hostname", f"127.0.0.1:{port}", f"http://localhost:{origin}/hello")
    expect_same("the body", done.stdout, b"hello\n")
    proxy.expect_access("GET", "localhost", origin, "/hello")


@case("socks", "curl --socks5, which resolves the name itself")
def curl_address(context):
    proxy, port = _start(context)
    done = _curl(context, port, "-4", "--socks5", f"127.0.0.1:{port}", context.url("any", "/hello"))
    expect_same("the body", done.stdout, b"hello\n")
    proxy.expect_line(rf" - CONNECT 127\.0\.0\.1:{context.origins.port('any')} - ", "there was no tunnel")


@case("socks", "curl with user and password, right, wrong and missing")
def curl_password(context):
    proxy, port = _start(context, "--basic-auth", "anna:secret")
    url = context.url("any", "/hello")
    proxy_at = f"127.0.0.1:{port}"
    done = _curl(context, port, "--socks5-hostname", proxy_at, "--proxy-user", "anna:secret", url)
    expect_same("the body", done.stdout, b"hello\n")
    # 97: the proxy handshake failed.
    for wrong in (["--proxy-user", "anna:other"], []):
        _curl(context, port, "--socks5-hostname", proxy_at, *wrong, url, status=97)
    proxy.expect_line(r"closed, wrong user name or password \(SOCKS5\)", "the wrong password was not noticed")


@case("socks", "curl is told why there is no connection")
def curl_failure(context):
    _, port = _start(context)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        unused = closed.getsockname()[1]
    done = _curl(context, port, "--socks5-hostname", f"127.0.0.1:{port}", f"http://localhost:{unused}/", status=97)
    # The reply code for a refused connection.
    if not re.search(rb"\b5\b|refused", done.stderr):
        raise Failed(f"curl was not told: {done.stderr!r}")


@case("socks", "requests with socks5h, HTTPS with a password")
def python_requests(context):
    proxy, port = _start(context, "--basic-auth", "anna:secret")
    url = f"socks5h://anna:secret@127.0.0.1:{port}"
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(2):
            answer = session.get(context.url("any", "/hello"), proxies={"https": url}, verify=context.ca_file, timeout=10)
            expect_same("the body", answer.content, b"hello\n")
    context.expect_access(proxy, "GET", "any", "/hello")
    proxy.expect_line(r" - CONNECT localhost:\d+ - ", "there was no tunnel")


@case("socks", "ssh through nc -X 5")
def ssh(context):
    daemon = shutil.which("sshd") or "/usr/sbin/sshd"
    if not os.path.exists(daemon) or not shutil.which("nc"):
        raise NotAvailable("there is no sshd or no nc")
    port = _sshd(context, daemon)
    proxy, socks = _start(context)
    command = ["ssh", "-F", "none", "-o", f"ProxyCommand=nc -X 5 -x 127.0.0.1:{socks} %h %p", "-p", str(port),
               "-i", os.path.join(context.directory, "user"), "-o", "StrictHostKeyChecking=no",
               "-o", f"UserKnownHostsFile={context.directory}/known", "-o", "BatchMode=yes", "localhost", "echo", "inside"]
    done = context.run(command)
    expect_same("what ssh printed", done.stdout, b"inside\n")
    proxy.expect_line(rf" - CONNECT localhost:{port} - ", "there was no tunnel")


def _sshd(context, daemon):
    """Runs sshd on a free port, for the current user alone."""
    for name in ("host", "user"):
        context.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(context.directory, name)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = context.write("sshd_config", f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {context.directory}/host
AuthorizedKeysFile {context.directory}/user.pub
PidFile none
StrictModes no
UsePAM no
""")
    os.makedirs("/run/sshd", exist_ok=True)
    process = subprocess.Popen([daemon, "-D", "-e", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    context.at_end(process.wait)
    context.at_end(process.terminate)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return port
        time.sleep(0.05)
    raise Failed("sshd did not start")
