"""Certificates for origins and for the proxy's own listener, made anew for every run.

Two authorities: one that the proxy is told to trust for origins, and one that clients are told to trust for the
proxy's listener. Neither is the one the proxy signs with, so a client that trusts only that one has proved by a
finished handshake that it talked to the proxy.
"""

import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


class Pair:
    """A certificate with its key, and the certificates to send along."""

    def __init__(self, certificate, key, chain=()):
        self.certificate, self.key, self.chain = certificate, key, list(chain)

    def write(self, directory, name):
        """Writes NAME.pem and NAME-key.pem; returns both paths."""
        cert_file, key_file = (os.path.join(directory, name + end) for end in (".pem", "-key.pem"))
        with open(cert_file, "wb") as file:
            for certificate in [self.certificate, *self.chain]:
                file.write(certificate.public_bytes(serialization.Encoding.PEM))
        with open(key_file, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))
        return cert_file, key_file


def authority(name, issuer=None):
    """An authority; a root unless another one issues it."""
    return _sign(name, issuer, x509.BasicConstraints(ca=True, path_length=None), ())


def server(issuer, names=("localhost", "my_service", "127.0.0.1", "::1"), begins=-1, ends=30, chain=()):
    """A server's certificate for `names`, valid between so many days from now; self-signed if nobody issues it."""
    # A self-signed certificate must not use the name of a CA that some systems trust, such as "localhost".
    name = names[0] if issuer else "self-signed origin"
    return _sign(name, issuer, x509.BasicConstraints(ca=False, path_length=None), names, begins, ends, chain)


def _sign(common_name, issuer, constraints, names, begins=-1, ends=30, chain=()):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signer = issuer.key if issuer else key
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins * DAY)
        .not_valid_after(now + ends * DAY)
        .add_extension(constraints, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    else:
        usage = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                               "key_agreement", "encipher_only", "decipher_only"), False)
        builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
    return Pair(builder.sign(signer, hashes.SHA256()), key, chain)


def _general_name(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


