"""Sandbox tokens: Ed25519 JWTs that say which sandbox calls (contract/gateway.md 9.3).

Decides whether a token is ours and current; must not know whether the sandbox still exists (auth.py asks).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pyopenshell.gateway.certificates import SPIFFE_PREFIX
from pyopenshell.gateway.files import private_directory, read_private, write_private

LEEWAY: Final = 60
"""Seconds of clock difference that are forgiven."""

RENEWAL_GRACE: Final = 30 * 86400
"""Seconds after expiry in which a token may still be exchanged for a new one, together with its certificate:
a gateway that was down over the weekend must not orphan the sandboxes that went on without it."""

_LIMIT: Final = 4096


class TokenError(Exception):
    """A token is not acceptable. The text says why, without repeating anything of the token."""


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A signed token. `expires` is unix seconds, 0 = never."""

    text: str
    expires: int

    def __repr__(self) -> str:
        return f"Token(expires={self.expires})"


@dataclasses.dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says."""

    sandbox_id: str
    epoch: int
    issued: int
    expires: int
    token_id: str


class Tokens:
    """Issues and verifies with one key. `lifetime` in seconds, 0 = tokens never expire."""

    def __init__(
        self,
        key: Ed25519PrivateKey,
        gateway_id: str,
        lifetime: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key, self._public = key, key.public_key()
        self._audience = f"openshell-gateway:{gateway_id}"
        self._lifetime, self._clock = lifetime, clock
        raw = self._public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.key_id = hashlib.sha256(raw).hexdigest()[:16]

    @classmethod
    def load_or_create(
        cls, directory: Path, gateway_id: str, lifetime: int, clock: Callable[[], float] = time.time
    ) -> Tokens:
        """Key in `directory`/signing.pem (0600), beside it public.pem and kid for those who want to verify."""
        private_directory(directory)
        pem = read_private(directory / "signing.pem")
        if pem is None:
            key = Ed25519PrivateKey.generate()
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_private(directory / "signing.pem", pem)
        loaded = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(loaded, Ed25519PrivateKey):
            raise ValueError(f"{directory / 'signing.pem'} is not an Ed25519 key")
        tokens = cls(loaded, gateway_id, lifetime, clock)
        public = loaded.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if read_private(directory / "public.pem") != public:
            write_private(directory / "public.pem", public)
        if read_private(directory / "kid") != tokens.key_id.encode():
            write_private(directory / "kid", tokens.key_id)
        return tokens

    def issue(self, sandbox_id: str, epoch: int) -> Token:
        now = int(self._clock())
        expires = now + self._lifetime if self._lifetime else 0
        header = {"alg": "EdDSA", "kid": self.key_id, "typ": "JWT"}
        claims = {
            "iss": self._audience,
            "aud": self._audience,
            "sub": SPIFFE_PREFIX + sandbox_id,
            "sandbox_id": sandbox_id,
            "epoch": epoch,
            "iat": now,
            "exp": expires,
            "jti": str(uuid.uuid4()),
        }
        signed = f"{_encode(header)}.{_encode(claims)}"
        signature = base64.urlsafe_b64encode(self._key.sign(signed.encode())).decode().rstrip("=")
        return Token(f"{signed}.{signature}", expires)

    def verify(self, text: str, *, grace: int = 0) -> Claims:
        """Claims of a token that is ours and not older than its expiry plus `grace` seconds. Raises TokenError."""
        if len(text) > _LIMIT or text.count(".") != 2:
            raise TokenError("the token is malformed")
        signed, _, signature = text.rpartition(".")
        header_part, _, claims_part = signed.partition(".")
        header = _decode_object(header_part)
        if header.get("alg") != "EdDSA" or "crit" in header:
            raise TokenError("the token's algorithm is not accepted")
        if header.get("kid") != self.key_id:
            raise TokenError("the token was signed by another key")
        try:
            self._public.verify(_decode(signature), signed.encode())
        except InvalidSignature:
            raise TokenError("the token's signature is wrong") from None
        return self._check(_decode_object(claims_part), grace)

    def _check(self, claims: dict[str, Any], grace: int) -> Claims:
        sandbox_id, epoch = claims.get("sandbox_id"), claims.get("epoch", 0)
        issued, expires, token_id = claims.get("iat"), claims.get("exp"), claims.get("jti", "")
        if claims.get("iss") != self._audience or claims.get("aud") != self._audience:
            raise TokenError("the token is for another gateway")
        if not isinstance(sandbox_id, str) or not sandbox_id or claims.get("sub") != SPIFFE_PREFIX + sandbox_id:
            raise TokenError("the token names no sandbox")
        if not (type(issued) is int and type(expires) is int and type(epoch) is int and isinstance(token_id, str)):
            raise TokenError("the token's claims are malformed")
        now = self._clock()
        if issued > now + LEEWAY:
            raise TokenError("the token is not valid yet")
        if expires and now > expires + LEEWAY + grace:
            raise TokenError("the token has expired")
        return Claims(sandbox_id, epoch, issued, expires, token_id)


def _encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenError("the token is malformed") from None


def _decode_object(part: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("duplicate key")
        return found

    try:
        value = json.loads(_decode(part), object_pairs_hook=unique)
    except ValueError:
        raise TokenError("the token is malformed") from None
    if not isinstance(value, dict):
        raise TokenError("the token is malformed")
    return value
