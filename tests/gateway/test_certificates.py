"""The gateway's own authority: what is written, with which rights, and when it is renewed."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509

from pyopenshell.gateway.certificates import Authority, Pair, identity_of, load_or_create

NAMES = ("localhost", "127.0.0.1", "::1")
NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)


def test_files_are_where_the_contract_says_and_nobody_elses(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        load_or_create(tmp_path / "tls", NAMES)
    finally:
        os.umask(old)
    files = sorted(path.relative_to(tmp_path / "tls") for path in (tmp_path / "tls").rglob("*") if path.is_file())
    assert [str(path) for path in files] == [
        "ca.crt",
        "ca.key",
        "client/tls.crt",
        "client/tls.key",
        "server/tls.crt",
        "server/tls.key",
    ]
    for path in (tmp_path / "tls").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_second_start_keeps_everything(tmp_path: Path) -> None:
    first, second = load_or_create(tmp_path, NAMES), load_or_create(tmp_path, NAMES)
    assert first.authority.pem == second.authority.pem
    assert (first.server, first.client) == (second.server, second.client)


def test_rights_of_others_are_taken_away(tmp_path: Path) -> None:
    load_or_create(tmp_path, NAMES)
    (tmp_path / "ca.key").chmod(0o644)
    load_or_create(tmp_path, NAMES)
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600


def test_new_names_make_a_new_server_certificate_only(tmp_path: Path) -> None:
    first = load_or_create(tmp_path, NAMES)
    second = load_or_create(tmp_path, (*NAMES, "gateway.test"))
    assert second.server != first.server
    assert second.client == first.client
    assert second.authority.pem == first.authority.pem
    certificate = x509.load_pem_x509_certificate(second.server.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "gateway.test"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_certificates_are_renewed_before_they_expire(tmp_path: Path) -> None:
    first = load_or_create(tmp_path, NAMES, clock=lambda: NOW)
    kept = load_or_create(tmp_path, NAMES, clock=lambda: NOW + datetime.timedelta(days=360))
    assert kept.client == first.client
    renewed = load_or_create(tmp_path, NAMES, clock=lambda: NOW + datetime.timedelta(days=380))
    assert renewed.client != first.client
    assert renewed.server != first.server
    assert renewed.authority.pem == first.authority.pem


@pytest.mark.parametrize("damage", ["truncated", "foreign", "key of another"])
def test_a_damaged_leaf_is_replaced(tmp_path: Path, damage: str) -> None:
    first = load_or_create(tmp_path, NAMES)
    other = Authority.create("other")
    if damage == "truncated":
        (tmp_path / "client" / "tls.crt").write_bytes(first.client.certificate[:100])
    elif damage == "foreign":
        pair = other.user("mallory")
        (tmp_path / "client" / "tls.crt").write_bytes(pair.certificate)
        (tmp_path / "client" / "tls.key").write_bytes(pair.key)
    else:
        (tmp_path / "client" / "tls.key").write_bytes(other.user("mallory").key)
    second = load_or_create(tmp_path, NAMES)
    assert second.authority.still_good(second.client)


def test_an_authority_whose_parts_do_not_match_is_an_error_not_a_new_authority(tmp_path: Path) -> None:
    load_or_create(tmp_path, NAMES)
    (tmp_path / "ca.key").write_bytes(Authority.create("other").key_pem())
    with pytest.raises(ValueError, match="do not belong together"):
        load_or_create(tmp_path, NAMES)


def test_what_a_certificate_says() -> None:
    authority = Authority.create("ca")
    user, sandbox = (
        identity_of(authority.user("alice").certificate),
        identity_of(authority.sandbox("box-1").certificate),
    )
    assert (user.common_name, user.units, user.sandbox_id) == ("alice", ("user",), "")
    assert (sandbox.common_name, sandbox.units, sandbox.sandbox_id) == ("box-1", ("sandbox",), "box-1")
    with pytest.raises(ValueError, match="exactly one"):
        identity_of(authority.server(NAMES).certificate)


def test_a_client_certificate_cannot_serve_and_no_leaf_can_sign() -> None:
    authority = Authority.create("ca")
    for pair, usage in ((authority.user("a"), "CLIENT_AUTH"), (authority.sandbox("b"), "CLIENT_AUTH"),
                        (authority.server(NAMES), "SERVER_AUTH")):  # fmt: skip
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        allowed = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(allowed) == [getattr(x509.oid.ExtendedKeyUsageOID, usage)]
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_foreign_pair_is_never_good() -> None:
    assert not Authority.create("ca").still_good(Authority.create("ca").user("a"))
    assert not Authority.create("ca").still_good(Pair(b"", b""))


def test_a_user_without_a_name_can_run_a_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker run --user 1000`: the id is in no passwd."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr("getpass.getuser", nameless)
    load_or_create(tmp_path, NAMES)
    subject = x509.load_pem_x509_certificate((tmp_path / "client" / "tls.crt").read_bytes()).subject.rfc4514_string()
    assert f"uid-{os.getuid()}" in subject
