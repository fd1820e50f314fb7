"""The Java trust store, read back by the format's definition (real Java reads it in tests/e2e)."""

from __future__ import annotations

import hashlib
import ssl
import struct

import pytest

from pyopenshell.supervisor.proxy.tls import CertificateAuthority
from pyopenshell.supervisor.truststore import PASSWORD, keystore


def entries(store: bytes) -> list[tuple[str, bytes]]:
    body, digest = store[:-20], store[-20:]
    assert digest == hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()
    magic, version, count = struct.unpack_from(">III", body)
    assert (magic, version) == (0xFEEDFEED, 2)
    at, found = 12, []

    def take(form: str) -> bytes:
        nonlocal at
        (size,) = struct.unpack_from(form, body, at)
        at += struct.calcsize(form) + size
        return body[at - size : at]

    for _ in range(count):
        assert struct.unpack_from(">I", body, at) == (2,)
        at += 4
        alias = take(">H").decode()
        at += 8
        assert take(">H") == b"X.509"
        found.append((alias, take(">I")))
    assert at == len(body)
    return found


def test_every_certificate_is_there_once_and_in_order() -> None:
    pems = [CertificateAuthority.create(f"ca {number}").ca_pem for number in range(3)]
    found = entries(keystore("# comment\n" + "junk\n".join(pems)))
    assert [der for _, der in found] == [ssl.PEM_cert_to_DER_cert(pem) for pem in pems]
    assert len({alias for alias, _ in found}) == 3


def test_no_certificate_is_an_empty_store() -> None:
    assert entries(keystore("")) == []


def test_what_is_no_certificate_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"[Pp]adding|base64"):
        keystore("-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n")
