"""Certificates that a server should not have: one flaw each, everything else in order."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Issuer:
    """A certificate with its key. The first one of a chain signs itself."""

    def __init__(
        self,
        name: str,
        parent: Issuer | None = None,
        *,
        ca: bool = True,
        days: tuple[int, int] = (-1, 30),
        host: str = "api.test",
    ) -> None:
        """`days` are validity's begin and end from today."""
        now = datetime.datetime.now(datetime.UTC)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = parent or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        self.pem = builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def serving(leaf: Issuer, *chain: Issuer) -> ssl.SSLContext:
    """A server context that shows `leaf` and `chain`."""
    key = leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "chain.pem"
        file.write_bytes(key + leaf.pem + b"".join(issuer.pem for issuer in chain))
        context.load_cert_chain(file)
    return context
