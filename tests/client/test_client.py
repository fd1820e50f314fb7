"""Registrations, escaping, and narrowing: the client's pure and file-reading parts."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.client import NoGatewayError, Places, RegistrationError, UnknownGatewayError, resolve
from pyopenshell.client.narrow import narrower
from pyopenshell.client.values import Observed
from pyopenshell.client.visible import LIMIT, visible, visible_lines
from pyopenshell.policy.model import Endpoint, L7Match, Rule


@pytest.fixture
def places(tmp_path: pathlib.Path) -> Places:
    return Places.of(
        {
            "XDG_CONFIG_HOME": str(tmp_path / "c"),
            "XDG_STATE_HOME": str(tmp_path / "s"),
            "OPENSHELL_SYSTEM_GATEWAY_DIR": str(tmp_path / "etc"),
        }
    )


def write(root: pathlib.Path, name: str, **metadata: object) -> pathlib.Path:
    folder = root / "gateways" / name
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def test_resolution_order(places: Places) -> None:
    with pytest.raises(NoGatewayError):
        resolve(places)
    write(places.config, "mine", gateway_endpoint="https://127.0.0.1:17670", auth_mode="mtls")
    write(places.system, "mine", gateway_endpoint="https://system:1")
    write(places.system, "shared", gateway_endpoint="https://shared")
    (places.config / "active_gateway").write_text("mine\n")
    assert (resolve(places).target, resolve(places).source) == ("127.0.0.1:17670", "user")
    shared = resolve(places, gateway="shared")
    assert (shared.target, shared.source, shared.kind) == ("shared:443", "system", "cloud")
    assert resolve(places, gateway="  ").name == "mine"
    assert resolve(places, endpoint="https://127.0.0.1:17670/").name == "mine"
    free = resolve(places, endpoint="http://[::1]:80")
    assert (free.name, free.target, free.secure, free.loopback) == ("http://[::1]:80", "[::1]:80", False, True)
    assert [one.name for one in places.registered()] == ["mine", "shared"]


@pytest.mark.parametrize("name", ["nobody", "../mine", "a/b", ".", "..", ""])
def test_names_cannot_leave_the_directory(places: Places, name: str) -> None:
    (places.config / "active_gateway").parent.mkdir(parents=True, exist_ok=True)
    (places.config / "active_gateway").write_text(name or "gone")
    with pytest.raises(UnknownGatewayError):
        resolve(places, gateway=name)


@pytest.mark.parametrize("endpoint", ["ftp://x", "https://", "https://x:notaport", "http://x:99999"])
def test_bad_endpoints(places: Places, endpoint: str) -> None:
    with pytest.raises(RegistrationError):
        resolve(places, endpoint=endpoint)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"gateway_endpoint": 5}', "\x00"])
def test_broken_metadata_is_no_registration(places: Places, content: str) -> None:
    folder = places.config / "gateways" / "bad"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(content)
    assert places.find("bad") is None


def test_tls_files(places: Places) -> None:
    folder = write(places.config, "m", gateway_endpoint="https://h")
    found = places.find("m")
    assert found is not None
    assert found.tls() is None
    (folder / "mtls").mkdir()
    (folder / "mtls" / "ca.crt").write_text("CA")
    tls = found.tls()
    assert tls is not None
    assert (tls.authority, tls.certificate) == (b"CA", b"")
    (folder / "mtls" / "tls.crt").write_text("CRT")
    (folder / "mtls" / "tls.key").write_text("KEY")
    tls = found.tls()
    assert tls is not None
    assert (tls.certificate, tls.key) == (b"CRT", b"KEY")


def test_last_sandbox_per_gateway_and_workspace(places: Places) -> None:
    places.remember_sandbox("https://x/../..", "w/1", "box")
    assert places.last_sandbox("https://x/../..", "w/1") == "box"
    assert places.last_sandbox("https://x/../..", "w") == ""
    places.forget_sandbox("https://x/../..", "w/1", "other")
    assert places.last_sandbox("https://x/../..", "w/1") == "box"
    places.forget_sandbox("https://x/../..", "w/1", "box")
    assert places.last_sandbox("https://x/../..", "w/1") == ""


@given(st.text())
def test_visible_is_one_inert_line(text: str) -> None:
    out = visible(text)
    for char in out:
        assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        assert char == " " or unicodedata.category(char) != "Zs"
    assert "    " not in out
    assert all("\n" not in one for one in visible_lines(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße, 東京", "Grüße, 東京"),
        ("a\x1b[2J\x9b\x7f", "a\\x1b[2J\\x9b\\x7f"),
        ("\u202eevil\u2066\u200b\ufeff", "\\u202eevil\\u2066\\u200b\\ufeff"),
        ("a\u00a0b\u3000c\u3164d\u2800", "a\\xa0b\\u3000c\\u3164d\\u2800"),
        ("\U000e0041", "\\U000e0041"),
        ("a" + "\u0301" * 5, "a" + "\u0301" * 3 + "\\u0301\\u0301"),
        ("\ud800", "\\ud800"),
        ("x" + " " * 40 + "y", "x[40 spaces]y"),
        ("x" * (LIMIT + 7), "x" * LIMIT + "... [7 more characters]"),
    ],
)
def test_visible_examples(text: str, shown: str) -> None:
    assert visible(text) == shown


def refused(path: str, method: str = "PUT", host: str = "api.github.com", binary: str = "/usr/bin/curl") -> Observed:
    return Observed(host, 443, binary, method, path, "p", "r", 1, None, None)


RULE = Rule(
    "r",
    (
        Endpoint("API.github.com", (443, 8443), protocol="rest", rules=(L7Match("PUT", "/**"),)),
        Endpoint("other.example", (443,)),
    ),
    ("/usr/bin/curl", "/usr/bin/git"),
)


def test_narrower_is_exactly_what_was_refused() -> None:
    cut = narrower(RULE, [refused("/b"), refused("/a"), refused("/a"), refused("/x", host="elsewhere.example")])
    assert cut is not None
    (endpoint,) = cut.endpoints
    assert (endpoint.host, endpoint.ports) == ("API.github.com", (443,))
    assert endpoint.rules == (L7Match("PUT", "/a"), L7Match("PUT", "/b"))
    assert cut.binaries == ("/usr/bin/curl",)
    assert narrower(cut, [refused("/a"), refused("/b")]) is None


@pytest.mark.parametrize("observed", [refused("/a*"), refused("/a", binary="/bin/sh"), refused("/a", method="")])
def test_nothing_to_narrow_to(observed: Observed) -> None:
    assert narrower(RULE, [observed]) is None


def test_narrowing_never_widens() -> None:
    """Somebody else's refused request on the same host is no part of this proposal."""
    asked = dataclasses.replace(RULE.endpoints[0], protocol="rest", access="", rules=(L7Match("PUT", "/mine/**"),))
    rule = dataclasses.replace(RULE, endpoints=(asked,))
    assert narrower(rule, [refused("/other"), refused("/mine/a", method="DELETE")]) is None
    cut = narrower(rule, [refused("/other"), refused("/mine/a")])
    assert cut is not None
    assert cut.endpoints[0].rules == (L7Match("PUT", "/mine/a"),)
