"""The files clients look for (contract/sdk.md 2.2, cli.md 1)."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from pyopenshell.gateway.certificates import load_or_create
from pyopenshell.gateway.registration import register


def test_files_and_modes(tmp_path: Path) -> None:
    bundle = load_or_create(tmp_path / "tls", ("localhost",))
    register(tmp_path / "config", "local", "127.0.0.1", 17670, bundle)
    directory = tmp_path / "config" / "gateways" / "local"
    assert json.loads((directory / "metadata.json").read_text()) == {
        "name": "local",
        "gateway_endpoint": "https://127.0.0.1:17670",
        "gateway_port": 17670,
        "is_remote": False,
        "auth_mode": "mtls",
    }
    assert (directory / "mtls" / "ca.crt").read_bytes() == bundle.authority.pem
    assert (directory / "mtls" / "tls.crt").read_bytes() == bundle.client.certificate
    assert (directory / "mtls" / "tls.key").read_bytes() == bundle.client.key
    assert (tmp_path / "config" / "active_gateway").read_text().strip() == "local"
    for path in (tmp_path / "config").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_users_choice_stays_and_a_dangling_one_does_not(tmp_path: Path) -> None:
    bundle = load_or_create(tmp_path / "tls", ("localhost",))
    active = tmp_path / "active_gateway"
    active.write_text("work\n")
    register(tmp_path, "local", "127.0.0.1", 1, bundle)
    assert active.read_text().strip() == "local"
    register(tmp_path, "work", "::1", 2, bundle)
    assert active.read_text().strip() == "local"
    endpoint = json.loads((tmp_path / "gateways" / "work" / "metadata.json").read_text())["gateway_endpoint"]
    assert endpoint == "https://[::1]:2"
    active.write_text("work\n")
    register(tmp_path, "local", "127.0.0.1", 3, bundle)
    assert active.read_text().strip() == "work"


def test_a_new_port_replaces_the_old_registration(tmp_path: Path) -> None:
    bundle = load_or_create(tmp_path / "tls", ("localhost",))
    register(tmp_path, "local", "127.0.0.1", 1, bundle)
    register(tmp_path, "local", "127.0.0.1", 2, bundle)
    assert json.loads((tmp_path / "gateways" / "local" / "metadata.json").read_text())["gateway_port"] == 2
