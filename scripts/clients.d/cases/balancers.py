"""HAProxy and nginx in front of the proxy: by the PROXY protocol, the proxy knows their clients."""

import os
import re
import shutil
import socket
import subprocess
import time

from checks import Failed, NotAvailable, expect_same
from harness import case

LISTENER = '[[listeners]]\nhostname = "127.0.0.1"\nport = 0\nproxy_protocol_from = ["127.0.0.0/8"]\n'
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _run(context, command, port):
    """Runs a load balancer until the end of the case; it listens on the port."""
    process = subprocess.Popen(command, cwd=context.directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    context.at_end(process.wait)
    context.at_end(process.terminate)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise Failed(f"{command[0]} did not start: {process.stderr.read().decode(errors='replace')}")
        time.sleep(0.05)
    raise Failed(f"{command[0]} does not listen")


def _haproxy(context, port, to, options):
    if not shutil.which("haproxy"):
        raise NotAvailable("there is no haproxy")
    config = context.write("haproxy.cfg", f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen front
  bind 127.0.0.1:{port}
  server proxy 127.0.0.1:{to} {options}
""")
    _run(context, ["haproxy", "-db", "-f", config], port)


def _nginx(context, port, to, _):
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not os.path.exists(nginx) or not os.path.exists(STREAM_MODULE):
        raise NotAvailable("there is no nginx with its stream module")
    config = context.write("nginx.conf", f"""
load_module {STREAM_MODULE};
daemon off;
pid {context.directory}/nginx.pid;
error_log {context.directory}/nginx.log;
events {{}}
stream {{
  server {{
    listen 127.0.0.1:{port};
    proxy_pass 127.0.0.1:{to};
    proxy_protocol on;
  }}
}}
""")
    _run(context, [nginx, "-p", context.directory, "-c", config], port)


def _expect_client(context, start, options=""):
    """The proxy logs the address from which curl has connected to the load balancer."""
    proxy = context.start(config=LISTENER)
    port = _free_port()
    start(context, port, proxy.ports(2)[1], options)
    done = context.run(["curl", "-sS", "--max-time", "30", "-x", f"http://127.0.0.1:{port}", "--cacert", context.ca_file,
                        "-w", "%{stderr}<client %{local_ip}:%{local_port}>", context.url("any", "/hello")])
    expect_same("the body", done.stdout, b"hello\n")
    client = re.search(rb"<client (\S+)>", done.stderr).group(1).decode()
    proxy.expect_line(rf" - {re.escape(client)} - CONNECT ", "the client of the load balancer is not in the log")
    context.expect_access(proxy, "GET", "any", "/hello")
    return proxy


for option, checks in (("send-proxy", ""), ("send-proxy-v2", ""), ("send-proxy", "check inter 100ms"),
                       ("send-proxy-v2", "check inter 100ms")):
    @case("balancers", f"HAProxy with {option} {checks}".rstrip())
    def haproxy(context, options=f"{option} {checks}"):
        proxy = _expect_client(context, _haproxy, options)
        time.sleep(0.5)
        if proxy.count_access("PROXY protocol"):
            raise Failed("health checks are complained of")


@case("balancers", "nginx stream with proxy_protocol")
def nginx(context):
    _expect_client(context, _nginx)
