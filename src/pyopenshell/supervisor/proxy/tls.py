"""The sandbox's own certificate authority and the TLS contexts of both sides.

Decides what certificates look like and who is trusted upstream. Knows nothing of connections. Keys live in this
process's memory only: OpenSSL insists on a file, so leaves go through an anonymous memory file.

Sessions are resumed on both sides. The sandbox's tickets are sealed with keys of one leaf's context, so a ticket for
one host opens no other. Upstream, a session stands for a certificate that was checked: it is resumed only for the
route whose connection got it, and never when that is longer ago than a check should hold.
"""

from __future__ import annotations

import collections
import datetime
import ipaddress
import os
import ssl
import time
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BACKDATE = datetime.timedelta(days=1)
_AUTHORITY_LIFETIME = datetime.timedelta(days=3650)
"""Longer than any sandbox; clients bound the validity of leaves, not of roots they were told to trust."""
_LEAF_LIFETIME = datetime.timedelta(days=90)
"""Well below what clients accept (CA/Browser Forum: 398 days, falling to 47 by 2029 for public authorities only)."""
_RENEW_BEFORE = datetime.timedelta(days=30)
"""A leaf with less left is minted anew."""
_SESSION_SECONDS = 3600.0
"""How long resumptions may stand for the last full check of an upstream's certificate."""
_SESSIONS = 256
_LEAVES = 256
"""Leaf contexts kept (contract/sandbox.md 11); the least recently used one goes first."""


class CertificateAuthority:
    """One per supervisor. Its key never leaves the object."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives Unix seconds."""
        self._clock = clock
        self._key = key
        self._certificate = certificate
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_pem = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._contexts: collections.OrderedDict[str, tuple[ssl.SSLContext, float]] = collections.OrderedDict()
        """Canonical host -> its context, and the Unix second from which a new one is made."""
        self.ca_pem = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def __repr__(self) -> str:
        return f"<CertificateAuthority {self._certificate.subject.rfc4514_string()}, {len(self._contexts)} leaves>"

    @classmethod
    def create(cls, common_name: str, clock: Callable[[], float] = time.time) -> CertificateAuthority:
        """A fresh ECDSA P-256 authority, valid from a day ago for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "OpenShell"),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
        now = datetime.datetime.fromtimestamp(clock(), datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + _AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(key, builder.sign(key, hashes.SHA256()), clock)

    def context(self, host: str) -> ssl.SSLContext:
        """Server context with a leaf for canonical `host`; ALPN offers http/1.1 only.

        Kept while the leaf is young: with it live the ticket keys, so that returning clients skip the handshake's
        expensive half.
        """
        now = self._clock()
        found = self._contexts.get(host)
        if found is not None and now < found[1]:
            self._contexts.move_to_end(host)
            return found[0]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.num_tickets = 1
        context.set_alpn_protocols(["http/1.1"])
        memory = os.memfd_create("leaf", os.MFD_CLOEXEC)
        try:
            os.write(memory, self._leaf_pem + self._mint(host))
            context.load_cert_chain(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)
        self._contexts[host] = (context, now + (_LEAF_LIFETIME - _RENEW_BEFORE).total_seconds())
        self._contexts.move_to_end(host)
        if len(self._contexts) > _LEAVES:
            self._contexts.popitem(last=False)
        return context

    def _mint(self, host: str) -> bytes:
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        now = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC)
        public = self._leaf_key.public_key()
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(min(now + _LEAF_LIFETIME, self._certificate.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(authority, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class UpstreamTrust:
    """Client contexts: the system's roots, and for an overridden destination its own certificates besides.

    Also the sessions to resume, by route: (grants, host, port, certificates trusted).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._sessions: collections.OrderedDict[object, tuple[ssl.SSLSession | None, float]] = collections.OrderedDict()

    def session(self, key: object) -> tuple[ssl.SSLSession | None, float]:
        """A session to resume on the route, and until when it may stand for a check of the certificate.

        Handed out once, because a ticket used twice links connections (RFC 8446, C.4). None where there is none, or
        none any more; then the time is that of the check that is about to be made.
        """
        now = self._clock()
        session, until = self._sessions.pop(key, (None, 0.0))
        return (session, until) if session is not None and now < until else (None, now + _SESSION_SECONDS)

    def keep(self, key: object, session: ssl.SSLSession, until: float) -> None:
        """Remember a session for the next connection of the route."""
        self._sessions[key] = (session, until)
        self._sessions.move_to_end(key)
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)

    def forget(self) -> None:
        """Drop every session, for example because the policy changed."""
        self._sessions.clear()

    def context(self, ca_pem: str) -> ssl.SSLContext:
        """The context for a destination; `ca_pem` "" means the system's roots alone."""
        context = self._contexts.get(ca_pem)
        if context is None:
            context = ssl.create_default_context()
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            if ca_pem:
                context.load_verify_locations(cadata=ca_pem)
            self._contexts[ca_pem] = context
        return context


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
