"""What every supervisor does once at its start, done before in the image that all of them are forked from.

Importing shares code. The first use of OpenSSL, of each of its algorithms and of the packages around it allocates again
as much, in every process anew: after a rehearsal that is shared, too (2.3 MiB of each supervisor's own memory). No key
of it is kept or used again; OpenSSL's random generators see a fork by the process id and reseed themselves. Opens no
descriptor that stays, starts no thread.
"""

from __future__ import annotations

import contextlib
import encodings.utf_16_be  # noqa: F401 - loaded by name when the Java trust store is written
import ssl

import cryptography.hazmat.backends.openssl.backend  # noqa: F401 - loaded at the first signature

from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import compile as compile_engine
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.supervisor.proxy.tls import CertificateAuthority
from pyopenshell.supervisor.truststore import keystore
from pyopenshell.wire import service

_HOST = "rehearsal.invalid"
_ROUNDS = 4
"""More than the flights of any handshake."""


def rehearse() -> None:
    """In memory: judge one request, sign a certificate, complete a TLS handshake of either version, know every RPC."""
    service.methods()
    allow = Rule("rehearsal", (Endpoint(_HOST, (443,), protocol="rest", rules=(L7Match("GET", "/**"),)),), ("/**",))
    compile_engine(Policy(rules=(allow,))).decide(Connection(_HOST, 443, "/bin/true", ()), "GET", "/")
    authority = CertificateAuthority.create(_HOST)
    keystore(authority.ca_pem)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        asking.maximum_version = version
        asking.load_verify_locations(cadata=authority.ca_pem)
        _handshake(authority.context(_HOST), asking)


def _handshake(serving: ssl.SSLContext, asking: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname=_HOST)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_ROUNDS):
        for end in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    client.write(b"x")
    server.read()
