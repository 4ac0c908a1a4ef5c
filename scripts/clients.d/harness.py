"""What a case has at hand: origins, proxies, certificates, commands.

A case is a function of one argument, a `Context`, registered with `@case("client", "what it shows")`. It fails by
raising, mostly through `checks`. Whatever it starts ends with it.
"""

import contextlib
import os
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from checks import Failed, NotAvailable, expect_same
from proxy import Proxy

CASES = []


def case(client, name):
    """Registers a case."""
    def register(function):
        CASES.append((client, name, function))
        return function
    return register


class World:
    """What all cases share."""

    def __init__(self, executable, work, origins, origin_authority, files):
        self.executable, self.work, self.origins = executable, work, origins
        self.origin_authority = origin_authority
        # Paths by name: origin_ca, listener_ca, listener_cert, listener_key, ca_cert, ca_key, ca_signing_key.
        self.files = files


class Context:
    """One case's view of the world."""

    def __init__(self, world, directory):
        self.world, self.origins, self.files, self.directory = world, world.origins, world.files, directory
        self.ca_file, self.listener_ca_file = world.files["ca_cert"], world.files["listener_ca"]
        self.proxies = []
        self._at_end = contextlib.ExitStack()
        self._usual = {}

    @property
    def proxy(self):
        """A proxy with interception whose listener speaks clear text."""
        return self._usual.get("plain") or self._usual.setdefault("plain", self.start())

    @property
    def tls_proxy(self):
        """A proxy with interception whose listener speaks TLS."""
        return self._usual.get("tls") or self._usual.setdefault("tls", self.start(is_tls=True))

    def start(self, *flags, is_tls=False, config="", authority=None, hosts=""):
        """A proxy of the case's own, on a machine with these lines as its hosts file."""
        files = self.files | (authority or {})
        directory = os.path.join(self.directory, f"proxy-{len(self.proxies)}")
        os.mkdir(directory)
        usual = ["--ca-file", files["origin_ca"], "--ca-cert-file", files["ca_cert"], "--ca-key-file", files["ca_key"],
                 "--ca-signing-key-file", files["ca_signing_key"], "--ca-cert-dir", os.path.join(directory, "hosts"),
                 "--log-level", "DEBUG"]
        if is_tls:
            usual += ["--cert-file", files["listener_cert"], "--key-file", files["listener_key"]]
        if config:
            usual += ["--config", self.write(f"proxy-{len(self.proxies)}/proxy.toml", config)]
        machine = self._machine(hosts) if hosts else []
        proxy = Proxy(self.world.executable, [*usual, *flags], directory, is_tls, machine)
        self.proxies.append(proxy)
        self._at_end.callback(proxy.stop)
        return proxy

    def _machine(self, hosts):
        """The command that runs another one where /etc/hosts is a file of ours."""
        file = self.write(f"hosts-{len(self.proxies)}", hosts)
        machine = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', file]
        try:
            subprocess.run([*machine, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            raise NotAvailable("no mount namespace can be made here") from None
        return machine

    def url(self, origin, path, host="localhost"):
        """The address of a page at one of the origins: any, h1 or h2."""
        return f"https://{host}:{self.origins.port(origin)}{path}"

    def expect_access(self, proxy, method, origin, path, status=200, host="localhost"):
        """Waits until the proxy's access log shows the request."""
        return proxy.expect_access(method, host, self.origins.port(origin), path, status)

    def expect_issuer(self, der, host="localhost", ca_file=None):
        """Fails unless the certificate is for exactly this host and signed by the proxy's authority."""
        with open(ca_file or self.ca_file, "rb") as file:
            authority = x509.load_pem_x509_certificate(file.read())
        certificate = x509.load_der_x509_certificate(der)
        expect_same("the issuer of the certificate", certificate.issuer, authority.subject)
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        expect_same("the names in the certificate", [str(name.value) for name in names], [host])

    @property
    def issuer_name(self):
        """The common name of the proxy's authority."""
        with open(self.ca_file, "rb") as file:
            subject = x509.load_pem_x509_certificate(file.read()).subject
        return subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value

    def write(self, name, content):
        """A file of the case's own; returns its path."""
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, command, environment=None, seconds=60, status=0, directory=None, stdin=b""):
        """Runs a client to its end; fails unless it ends with this status (None: with any)."""
        try:
            done = subprocess.run(command, env=os.environ | (environment or {}), input=stdin, capture_output=True,
                                  timeout=seconds, cwd=directory or self.directory)
        except subprocess.TimeoutExpired as expired:
            raise Failed(f"{command[0]} does not end within {seconds} s: {_output(expired)}") from None
        if status is not None and done.returncode != status:
            raise Failed(f"{command[0]} ends with {done.returncode}, not {status}: {_output(done)}")
        return done

    def at_end(self, function, *arguments):
        """Calls the function when the case has ended, whatever came of it."""
        self._at_end.callback(function, *arguments)

    def close(self):
        """Ends what the case has started."""
        self._at_end.close()


def der(certificate):
    """The bytes that `Context.expect_issuer` takes, of a certificate in PEM."""
    return x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)


def _output(done):
    """The last lines of what a command wrote."""
    text = ((done.stdout or b"") + (done.stderr or b"")).decode(errors="replace")
    return "\n" + "\n".join(text.splitlines()[-40:])
