"""sslyze, a scanner of TLS servers: what it finds at the listener and, through a tunnel, inside."""

import contextlib
import json
import os
import socket
import sys
import threading

from checks import expect_same
from harness import case

OLD_VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
SCANS = ["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--heartbleed", "--openssl_ccs",
         "--robot", "--compression", "--reneg", "--fallback", "--early_data", "--elliptic_curves", "--certinfo"]


def _relay(context, port):
    """A relay to the proxy that adds the Host that sslyze leaves out of its CONNECT; returns the relay's port."""
    listener = socket.create_server(("127.0.0.1", 0))
    context.at_end(listener.close)
    context.at_end(listener.shutdown, socket.SHUT_RDWR)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    def serve(client):
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", port)) as proxy:
            head = client.recv(65536)
            proxy.sendall(head.replace(b"\r\n", b"\r\nHost: " + head.split(b" ")[1] + b"\r\n", 1))
            other = threading.Thread(target=pump, args=(client, proxy), daemon=True)
            other.start()
            pump(proxy, client)
            other.join()

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def _scan(context, *arguments):
    """Runs all scans; returns their results by name."""
    report = os.path.join(context.directory, "report.json")
    # The exit status reflects Mozilla's recommendation, which is stricter than this case.
    context.run([sys.executable, "-m", "sslyze", *SCANS, "--json_out", report, *arguments], seconds=110, status=None)
    with open(report) as file:
        server, = json.load(file)["server_scan_results"]
    expect_same("the connection", server["connectivity_status"], "COMPLETED")
    results = {}
    for name, attempt in server["scan_result"].items():
        if attempt and attempt["status"] != "NOT_SCHEDULED":
            expect_same(f"the scan {name}", (attempt["status"], attempt["error_reason"]), ("COMPLETED", None))
            results[name] = attempt["result"]
    return results


def _expect_nothing_weak(results):
    for version in OLD_VERSIONS:
        expect_same(f"ciphers of {version}", _ciphers(results, version), [])
    for version in ("tls_1_2", "tls_1_3"):
        ciphers = _ciphers(results, version)
        expect_same(f"whether {version} is spoken", bool(ciphers), True)
        weak = [name for name in ciphers if not _is_strong(name)]
        expect_same(f"weak ciphers of {version}", weak, [])
    expect_same("heartbleed", results["heartbleed"]["is_vulnerable_to_heartbleed"], False)
    expect_same("CCS injection", results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"], False)
    expect_same("ROBOT", results["robot"]["robot_result"].startswith("NOT_VULNERABLE"), True)
    expect_same("compression", results["tls_compression"]["supports_compression"], False)
    expect_same("early data", results["tls_1_3_early_data"]["supports_early_data"], False)
    renegotiation = results["session_renegotiation"]
    expect_same("renegotiation by the client", renegotiation["is_vulnerable_to_client_renegotiation_dos"], False)
    expect_same("secure renegotiation", renegotiation["supports_secure_renegotiation"], True)


def _ciphers(results, version):
    return [suite["cipher_suite"]["name"] for suite in results[f"{version}_cipher_suites"]["accepted_cipher_suites"]]


def _is_strong(name):
    return ("ECDHE" in name or name.startswith(("TLS_AES_", "TLS_CHACHA20_"))) and ("GCM" in name or "CHACHA20" in name)


@case("sslyze", "nothing weak at the listener")
def listener_is_strong(context):
    _expect_nothing_weak(_scan(context, f"localhost:{context.tls_proxy.port}"))


@case("sslyze", "nothing weak inside")
def inside_is_strong(context):
    # sslyze's probes with old versions look like clients that abort the handshake; they must not turn interception off.
    relay = _relay(context, context.proxy.port)
    results = _scan(context, "--https_tunnel", f"http://127.0.0.1:{relay}", f"localhost:{context.origins.port('h1')}")
    _expect_nothing_weak(results)
    leaf = results["certificate_info"]["certificate_deployments"][0]["received_certificate_chain"][0]
    expect_same("whether the issuer is the proxy's authority",
                context.issuer_name in leaf["issuer"]["rfc4514_string"].replace("\\", ""), True)
