"""Certificates as the file a Java machine trusts: the JKS format, which every release reads without a password.

Java looks at neither `SSL_CERT_FILE` nor the system's PEM bundle. Pure; the format is that of the OpenJDK's
`sun.security.provider.JavaKeyStore`: all numbers big-endian, text in UTF-8 with its length in two bytes.
"""

from __future__ import annotations

import binascii
import hashlib
import struct
from typing import Final

PASSWORD: Final = "changeit"  # noqa: S105 - everybody's: it guards nothing, Java's own store has the same
_MAGIC: Final = 0xFEEDFEED
_VERSION: Final = 2
_TRUSTED: Final = 2
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def keystore(pem: str) -> bytes:
    """A trust store with every certificate in `pem`, in its order. Raises ValueError for a broken one."""
    certificates = [binascii.a2b_base64(part.partition(_END)[0]) for part in pem.split(_BEGIN)[1:]]
    body = struct.pack(">III", _MAGIC, _VERSION, len(certificates))
    body += b"".join(_entry(f"openshell-{number}", der) for number, der in enumerate(certificates))
    return (
        body + hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + body, usedforsecurity=False).digest()
    )


def _entry(alias: str, der: bytes) -> bytes:
    created = 0  # milliseconds since 1970; nothing looks at it
    return struct.pack(">I", _TRUSTED) + _text(alias) + struct.pack(">Q", created) + _text("X.509") + _blob(der)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def _blob(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw
