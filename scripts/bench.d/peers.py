"""The proxies that are compared, and how each is configured.

All listen on 127.0.0.1 with the same number of workers, keep connections alive on both sides, write no access log
and cache nothing. What a peer cannot do it does not pretend to: nginx and haproxy have no CONNECT, so in the tunnel
scenarios they stand as plain TCP relays to the one origin and skip that exchange, and nginx forwards to a fixed
upstream; both are favours to the peer.
"""

import os
import shutil

FORWARD, CONNECT, RELAY = "forward", "CONNECT", "relay"


class Peer:
    """A name, what it can do, and the command that runs it in the foreground."""

    def __init__(self, name, routes, command, needs):
        self.name, self.routes, self.command, self.needs = name, routes, command, needs

    def route(self, wanted):
        """How the clients reach the origin through this peer: `wanted`, a plain relay instead, or not at all."""
        if wanted in self.routes:
            return wanted
        return RELAY if wanted == CONNECT and RELAY in self.routes else None


def all_peers(setup):
    """Every peer by name. `setup` has binary, base, plugin_dir, python, workers, open_files and origin."""
    peers = [
        ours("proxy", setup, setup.binary),
        ours("proxy+filter", setup, setup.binary, "--plugins", setup.filter),
        ours("proxy+log", setup, setup.binary, log_level="INFO"),
        Peer("nginx", {FORWARD, RELAY}, lambda d, p, r: nginx(setup, d, p, r), "nginx"),
        Peer("haproxy", {FORWARD, RELAY}, lambda d, p, r: haproxy(setup, d, p, r), "haproxy"),
        Peer("squid", {FORWARD, CONNECT}, lambda d, p, _: squid(setup, d, p), "squid"),
        Peer("proxy.py", {FORWARD, CONNECT}, lambda d, p, _: proxy_py(setup, p), setup.python),
    ]
    if setup.base:
        peers.append(ours("base", setup, setup.base))
    return {peer.name: peer for peer in peers}


def ours(name, setup, binary, *flags, log_level="ERROR"):
    def command(_directory, port, _route):
        return [binary, "--hostname", "127.0.0.1", "--port", str(port), "--num-workers", str(setup.workers),
                "--backlog", "16384", "--open-file-limit", str(setup.open_files), "--timeout", "300",
                "--log-level", log_level, *flags]
    return Peer(name, {FORWARD, CONNECT}, command, binary)


def nginx(setup, directory, port, route):
    listen = f"listen 127.0.0.1:{port} reuseport backlog=16384;"
    paths = "".join(f"{name}_temp_path {directory}/{name}; "
                    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    forward = f"""
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300; client_max_body_size 0; {paths}
  upstream origin {{ server {setup.origin}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 300; }}
  server {{
    {listen}
    location / {{
      proxy_pass http://origin$request_uri; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_request_buffering off; proxy_max_temp_file_size 0;
    }}
  }}
}}"""
    relay = f"""
stream {{ server {{ {listen} proxy_pass {setup.origin}; }} }}"""
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    load = f"load_module {module};\n" if route == RELAY and os.path.exists(module) else ""
    config = write(directory, "nginx.conf", f"""{load}daemon off; worker_processes {setup.workers};
pid {directory}/pid; error_log stderr crit; worker_rlimit_nofile {setup.open_files};
events {{ worker_connections {setup.open_files - 100}; }}{relay if route == RELAY else forward}
""")
    return ["nginx", "-p", directory, "-c", config, "-e", "stderr"]


def haproxy(setup, directory, port, route):
    forward = """
  mode http
  http-request set-dst url_ip
  http-request set-dst-port url_port
  http-request set-uri %[url,regsub(^http://[^/]*,)]
  default_backend origins
backend origins
  mode http
  http-reuse always
  server any 0.0.0.0:0
"""
    relay = f"""
  mode tcp
  default_backend origin
backend origin
  mode tcp
  server origin {setup.origin}
"""
    config = write(directory, "haproxy.cfg", f"""global
  nbthread {setup.workers}
  maxconn {(setup.open_files - 200) // 2}
defaults
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend clients
  bind 127.0.0.1:{port} backlog 16384{relay if route == RELAY else forward}""")
    return ["haproxy", "-db", "-f", config]


def squid(setup, directory, port):
    config = write(directory, "squid.conf", f"""http_port 127.0.0.1:{port}
http_access allow all
cache deny all
access_log none
cache_log {directory}/cache.log
cache_store_log none
pid_filename {directory}/pid
coredump_dir {directory}
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
max_filedescriptors {setup.open_files}
""")
    return ["squid", "-N", "-f", config]


def proxy_py(setup, port):
    workers = str(setup.workers)
    return [setup.python, "-m", "proxy", "--hostname", "127.0.0.1", "--port", str(port), "--threadless",
            "--num-workers", workers, "--num-acceptors", workers, "--backlog", "16384",
            "--open-file-limit", str(setup.open_files), "--log-level", "ERROR"]


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def is_installed(program):
    return shutil.which(program) is not None
