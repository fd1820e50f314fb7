"""Sandbox tokens: what is accepted, and every way a forged one must fail."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.gateway.tokens import LEEWAY, TokenError, Tokens

KEY = Ed25519PrivateKey.generate()
NOW = 1_800_000_000


class Time:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


def tokens(time: Time, lifetime: int = 3600, gateway_id: str = "openshell") -> Tokens:
    return Tokens(KEY, gateway_id, lifetime, time)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def forge(header: dict[str, Any], claims: dict[str, Any], key: Ed25519PrivateKey = KEY) -> str:
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(key.sign(signed.encode()))}"


def parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = text.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))


def test_claims_are_the_contracts() -> None:
    made = tokens(Time()).issue("box", 3)
    header, claims = parts(made.text)
    assert header == {"alg": "EdDSA", "kid": tokens(Time()).key_id, "typ": "JWT"}
    assert claims | {"jti": ""} == {
        "iss": "openshell-gateway:openshell",
        "aud": "openshell-gateway:openshell",
        "sub": "spiffe://openshell/sandbox/box",
        "sandbox_id": "box",
        "epoch": 3,
        "iat": NOW,
        "exp": NOW + 3600,
        "jti": "",
    }
    assert made.expires == NOW + 3600


def test_a_token_is_good_until_it_expires_with_leeway_and_may_be_exchanged_longer() -> None:
    time = Time()
    issuer = tokens(time)
    text = issuer.issue("box", 1).text
    assert issuer.verify(text).sandbox_id == "box"
    time.now = NOW + 3600 + LEEWAY
    assert issuer.verify(text).epoch == 1
    time.now += 1
    with pytest.raises(TokenError, match="expired"):
        issuer.verify(text)
    assert issuer.verify(text, grace=60).sandbox_id == "box"
    time.now += 60
    with pytest.raises(TokenError, match="expired"):
        issuer.verify(text, grace=60)


def test_lifetime_zero_means_never() -> None:
    time = Time()
    issuer = tokens(time, lifetime=0)
    text = issuer.issue("box", 1).text
    time.now = NOW * 2
    assert issuer.verify(text).expires == 0


@pytest.mark.parametrize(
    ("header", "claims", "reason"),
    [
        ({"alg": "none"}, {}, "algorithm"),
        ({"alg": "HS256"}, {}, "algorithm"),
        ({"alg": "eddsa"}, {}, "algorithm"),
        ({"crit": ["b64"]}, {}, "algorithm"),
        ({"kid": "other"}, {}, "another key"),
        ({"kid": None}, {}, "another key"),
        ({}, {"iss": "openshell-gateway:other"}, "another gateway"),
        ({}, {"aud": ["openshell-gateway:openshell"]}, "another gateway"),
        ({}, {"sub": "spiffe://openshell/sandbox/other"}, "names no sandbox"),
        ({}, {"sandbox_id": ""}, "names no sandbox"),
        ({}, {"sandbox_id": 7}, "names no sandbox"),
        ({}, {"exp": None}, "malformed"),
        ({}, {"exp": True}, "malformed"),
        ({}, {"exp": str(NOW + 60)}, "malformed"),
        ({}, {"epoch": 1.0}, "malformed"),
        ({}, {"iat": NOW + LEEWAY + 5}, "not valid yet"),
    ],
)
def test_a_token_signed_with_our_key_but_not_as_we_sign_is_refused(
    header: dict[str, Any], claims: dict[str, Any], reason: str
) -> None:
    issuer = tokens(Time())
    good_header, good_claims = parts(issuer.issue("box", 1).text)
    assert issuer.verify(forge(good_header, good_claims)).sandbox_id == "box"
    with pytest.raises(TokenError, match=reason):
        issuer.verify(forge(good_header | header, good_claims | claims))


def test_another_key_under_our_key_id_is_refused() -> None:
    issuer = tokens(Time())
    header, claims = parts(issuer.issue("box", 1).text)
    with pytest.raises(TokenError, match="signature"):
        issuer.verify(forge(header, claims, Ed25519PrivateKey.generate()))


def test_duplicate_claims_are_refused() -> None:
    issuer = tokens(Time())
    header, claims = parts(issuer.issue("box", 1).text)
    twice = json.dumps(claims)[:-1] + ', "sandbox_id": "box"}'
    signed = f"{b64(json.dumps(header).encode())}.{b64(twice.encode())}"
    with pytest.raises(TokenError, match="malformed"):
        issuer.verify(f"{signed}.{b64(KEY.sign(signed.encode()))}")


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: f"{b64(raw)}.{b64(raw)}.{b64(raw)}"))
def test_garbage_is_refused_and_nothing_of_it_is_repeated(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        tokens(Time()).verify(text)
    assert len(str(caught.value)) < 80


@given(st.integers(0, 10_000), st.sampled_from("abcXYZ019-_."))
def test_any_changed_character_is_refused(position: int, character: str) -> None:
    issuer = tokens(Time())
    text = issuer.issue("box", 1).text
    position %= len(text)
    # The last character of an unpadded base64 text carries bits that decode to nothing: change it to another value.
    if text[position] == character or position in (len(text) - 1, text.index(".") - 1, text.rindex(".") - 1):
        return
    with pytest.raises(TokenError):
        issuer.verify(text[:position] + character + text[position + 1 :])


def test_the_key_is_kept_and_private(tmp_path: Path) -> None:
    first = Tokens.load_or_create(tmp_path / "jwt", "openshell", 60)
    second = Tokens.load_or_create(tmp_path / "jwt", "openshell", 60)
    assert second.verify(first.issue("box", 1).text).sandbox_id == "box"
    assert sorted(path.name for path in (tmp_path / "jwt").iterdir()) == ["kid", "public.pem", "signing.pem"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "jwt").iterdir())
    assert (tmp_path / "jwt" / "kid").read_text() == first.key_id


def test_a_token_is_not_in_its_repr() -> None:
    token = tokens(Time()).issue("box", 1)
    assert token.text not in repr(token)
