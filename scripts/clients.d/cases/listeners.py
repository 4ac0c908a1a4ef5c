"""Listeners beside the first one, as curl uses them: a Unix socket, and TLS with a certificate of its own."""

import os

from checks import expect_same
from harness import case


@case("listeners", "curl --unix-socket")
def unix_socket(context):
    path = os.path.join(context.directory, "proxy.sock")
    proxy = context.start(config=f'[[listeners]]\npath = "{path}"\n')
    # With a Unix socket, curl ignores -x: the target is given in full.
    url = f"http://localhost:{context.origins.plain_port}/hello"
    done = context.run(["curl", "-sS", "--max-time", "30", "--unix-socket", path, "--request-target", url, url])
    expect_same("the body", done.stdout, b"hello\n")
    proxy.expect_access("GET", "localhost", context.origins.plain_port, "/hello")


@case("listeners", "curl -x https, one listener of two, interception")
def https(context):
    cert_file, key_file = context.files["listener_cert"], context.files["listener_key"]
    listener = (f'[[listeners]]\nhostname = "127.0.0.1"\nport = 0\nkind = "https"\n'
                f'cert_file = "{cert_file}"\nkey_file = "{key_file}"\n')
    proxy = context.start(config=listener)
    port = proxy.ports(2)[1]
    done = context.run(["curl", "-sS", "--max-time", "30", "-x", f"https://localhost:{port}", "--proxy-cacert",
                        context.listener_ca_file, "--cacert", context.ca_file, context.url("any", "/hello")])
    expect_same("the body", done.stdout, b"hello\n")
    context.expect_access(proxy, "GET", "any", "/hello")
