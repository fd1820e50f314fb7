"""The gateway's own certificate authority: server, user and sandbox certificates (contract/gateway.md 9.1).

Decides what a certificate says about its holder (OU) and when it is renewed; must not know what a role may do.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import getpass
import ipaddress
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pyopenshell.gateway.files import private_directory, read_private, write_private

USER_UNIT: Final = "user"
SANDBOX_UNIT: Final = "sandbox"
SPIFFE_PREFIX: Final = "spiffe://openshell/sandbox/"

_AUTHORITY_LIFE: Final = datetime.timedelta(days=3650)
_LEAF_LIFE: Final = datetime.timedelta(days=397)  # the longest that common TLS stacks accept for a server
_RENEW_BEFORE: Final = datetime.timedelta(days=30)
_BACKDATE: Final = datetime.timedelta(days=1)  # a client whose clock is behind

Clock = Callable[[], datetime.datetime]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Certificate and private key, PEM."""

    certificate: bytes
    key: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What a verified client certificate says. `sandbox_id` is "" unless it is a sandbox's."""

    common_name: str
    units: tuple[str, ...]
    sandbox_id: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """Everything a gateway serves and registers with. PEM."""

    authority: Authority
    server: Pair
    client: Pair


class Authority:
    """Signs certificates. The private key never leaves the gateway process and its 0600 file."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock = _now) -> None:
        self._certificate, self._key, self._clock = certificate, key, clock
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def __repr__(self) -> str:
        return f"Authority({self._certificate.subject.rfc4514_string()}, until {self.not_after:%Y-%m-%d})"

    @property
    def not_after(self) -> datetime.datetime:
        return self._certificate.not_valid_after_utc

    @classmethod
    def create(cls, common_name: str, clock: Clock = _now) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name)
        certificate = (
            _builder(name, name, key, clock(), clock() + _AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, clock)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes, clock: Clock = _now) -> Authority:
        """Raises ValueError when the two do not belong together or cannot be read."""
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("the authority's certificate and key do not belong together")
        return cls(certificate, key, clock)

    def key_pem(self) -> bytes:
        return _key_pem(self._key)

    def server(self, names: Sequence[str]) -> Pair:
        """Server certificate for DNS names and literal addresses."""
        return self._leaf(_name("openshell-gateway"), _alternatives(names), ExtendedKeyUsageOID.SERVER_AUTH, _LEAF_LIFE)

    def user(self, common_name: str) -> Pair:
        """Client certificate of a person: OU=user."""
        return self._leaf(_name(common_name, USER_UNIT), [], ExtendedKeyUsageOID.CLIENT_AUTH, _LEAF_LIFE)

    def sandbox(self, sandbox_id: str) -> Pair:
        """Client certificate of one sandbox: OU=sandbox, its SPIFFE id as the name. Alone it opens nothing.

        Valid as long as the authority: a running sandbox has no way to take a new one, and what ends its rights
        is the token's epoch.
        """
        uri = x509.UniformResourceIdentifier(SPIFFE_PREFIX + sandbox_id)
        return self._leaf(_name(sandbox_id, SANDBOX_UNIT), [uri], ExtendedKeyUsageOID.CLIENT_AUTH, _AUTHORITY_LIFE)

    def still_good(self, pair: Pair, names: Sequence[str] = ()) -> bool:
        """True when `pair` is ours, whole, names exactly `names` and does not need renewal yet."""
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate)
            key = serialization.load_pem_private_key(pair.key, password=None)
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:  # noqa: BLE001  - InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm: all mean "make a new one"
            return False
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            return False
        if self._clock() + _RENEW_BEFORE > certificate.not_valid_after_utc:
            return False
        return set(_alternatives(names)) == set(_alternatives_of(certificate))

    def _leaf(
        self,
        subject: x509.Name,
        alternatives: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        life: datetime.timedelta,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._clock()
        builder = (
            _builder(subject, self._certificate.subject, key, now, min(now + life, self.not_after))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def load_or_create(directory: Path, names: Sequence[str], clock: Clock = _now) -> Bundle:
    """The bundle in `directory`, completed and renewed where needed.

    Files: ca.crt, ca.key, server/tls.{crt,key}, client/tls.{crt,key}; mode 0600, each replaced atomically.
    `names` are the server's DNS names and addresses.
    """
    private_directory(directory)
    authority = _load_authority(directory, clock)
    if authority is None:
        authority = Authority.create("openshell-gateway-ca", clock)
        write_private(directory / "ca.key", authority.key_pem())
        write_private(directory / "ca.crt", authority.pem)
    server = _load_pair(directory / "server")
    if server is None or not authority.still_good(server, names):
        server = authority.server(names)
        _store_pair(directory / "server", server)
    client = _load_pair(directory / "client")
    if client is None or not authority.still_good(client):
        client = authority.user(_user_name())
        _store_pair(directory / "client", client)
    return Bundle(authority, server, client)


@functools.lru_cache(maxsize=4096)
def identity_of(pem: bytes) -> Identity:
    """What a client certificate, already verified by TLS, says. Raises ValueError when it says nothing usable."""
    certificate = x509.load_pem_x509_certificate(pem)
    names = [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    units = tuple(
        str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    )
    if len(names) != 1 or len(units) != 1:
        raise ValueError("a client certificate needs exactly one CN and one OU")
    uris = [name.value for name in _alternatives_of(certificate) if isinstance(name, x509.UniformResourceIdentifier)]
    sandboxes = [uri.removeprefix(SPIFFE_PREFIX) for uri in uris if uri.startswith(SPIFFE_PREFIX)]
    return Identity(names[0], units, sandboxes[0] if len(sandboxes) == 1 else "")


def _load_authority(directory: Path, clock: Clock) -> Authority | None:
    certificate, key = read_private(directory / "ca.crt"), read_private(directory / "ca.key")
    if certificate is None or key is None:
        return None  # a first start that was interrupted: nothing was signed for anybody yet
    authority = Authority.load(certificate, key, clock)
    return authority if clock() + _RENEW_BEFORE < authority.not_after else None


def _load_pair(directory: Path) -> Pair | None:
    certificate, key = read_private(directory / "tls.crt"), read_private(directory / "tls.key")
    return None if certificate is None or key is None else Pair(certificate, key)


def _store_pair(directory: Path, pair: Pair) -> None:
    write_private(directory / "tls.key", pair.key)
    write_private(directory / "tls.crt", pair.certificate)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(until)
    )


def _name(common_name: str, unit: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]
    if unit:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name(parts)


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _alternatives_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _user_name() -> str:
    """Whose gateway this is; in containers an id may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
