"""Sets the scene, runs the cases one after the other and prints what came of them; `scripts/clients` calls it."""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import certificates
import checks
import harness
from cases import (badssl, balancers, chromium, curl, git, grpc, h2, imap, libcurl, listeners, mqtt, node,  # noqa: F401
                   openssl, pac, python, socks, sslyze, websocket_server)
from origins import Origins

# A case that takes longer counts as hung.
SECONDS_PER_CASE = 120


def main():
    options = arguments()
    chosen = choose(options)
    if options.list:
        print(*(f"{client:<18}{name}" for client, name, _ in chosen), sep="\n")
        return 0
    work = tempfile.mkdtemp(prefix="clients.")
    os.environ["HOME"] = work
    world = prepare(options.proxy, work)
    outcomes = []
    try:
        for number, (client, name, function) in enumerate(chosen):
            directory = os.path.join(work, f"{number:03}-{client}")
            os.mkdir(directory)
            outcomes.append(run(harness.Context(world, directory), client, name, function))
    finally:
        if options.keep:
            print(f"certificates and logs are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    print(f"\n{outcomes.count('pass')} passed, {outcomes.count('FAIL')} failed, {outcomes.count('n/a')} not available")
    return int("FAIL" in outcomes)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/clients", add_help=False)
    parser.add_argument("clients", nargs="*")
    parser.add_argument("--proxy")
    parser.add_argument("--only", type=re.compile, default=re.compile(""))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep", action="store_true")
    return parser.parse_args()


def choose(options):
    known = list(dict.fromkeys(client for client, _, _ in harness.CASES))
    for client in options.clients:
        if client not in known:
            sys.exit(f"scripts/clients: no client {client}; there are: {' '.join(known)}")
    wanted = options.clients or known
    return [case for case in harness.CASES if case[0] in wanted and options.only.search(f"{case[0]} {case[1]}")]


def prepare(executable, work):
    """Certificates and origins; the proxy's own authority is made by the proxy itself."""
    authority = certificates.authority("origin authority")
    listener_authority = certificates.authority("listener authority")
    listener_cert, listener_key = certificates.server(listener_authority).write(work, "listener")
    subprocess.run([executable, "ca", "init", "--dir", work], check=True, stdout=subprocess.DEVNULL)
    files = {
        "origin_ca": authority.write(work, "origin-ca")[0],
        "listener_ca": listener_authority.write(work, "listener-ca")[0],
        "listener_cert": listener_cert,
        "listener_key": listener_key,
        **{name: os.path.join(work, f"{name.replace('_', '-')}.pem")
           for name in ("ca_cert", "ca_key", "ca_signing_key")},
    }
    origins = Origins(certificates.server(authority), work)
    return harness.World(executable, work, origins, authority, files)


def run(context, client, name, function):
    """Runs one case; returns `pass`, `FAIL` or `n/a` and prints it with its reason."""
    began = time.monotonic()
    outcome, reason = "pass", ""
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS_PER_CASE)
    try:
        function(context)
        for proxy in context.proxies:
            check_health(proxy)
    except checks.NotAvailable as error:
        outcome, reason = "n/a", str(error)
    except checks.Failed as error:
        outcome, reason = "FAIL", str(error)
    except Exception:  # noqa: BLE001 - any exception of a client library fails this case only
        outcome, reason = "FAIL", traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)
    context.close()
    print(f"{client:<18}{name:<66}{outcome:<6}{time.monotonic() - began:6.2f} s", flush=True)
    if reason:
        print(indented(reason))
    if outcome == "FAIL":
        for number, proxy in enumerate(context.proxies):
            print(indented(f"log of the proxy {number}, {' '.join(proxy.command)}"))
            print(indented("\n".join(proxy.lines()[-40:])), flush=True)
    return outcome


def check_health(proxy):
    """No client may bring the proxy down or make it panic."""
    if not proxy.is_running():
        raise checks.Failed("the proxy has ended")
    panics = [line for line in proxy.lines() if re.search(r"panicked|internal error", line)]
    checks.expect_same("panics in the proxy's log", panics, [])


def hangs(*_):
    raise checks.Failed(f"the case does not end within {SECONDS_PER_CASE} s")


def indented(text):
    return "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Exit at once: servers and connections of other threads still run and would log errors.
    os._exit(status)
