"""How clients find this gateway: the files the CLI and the official SDK read (contract/sdk.md 2, cli.md 1).

Writes them; resolving one is the client's business.
"""

from __future__ import annotations

import json
from pathlib import Path

from pyopenshell.gateway.certificates import Bundle
from pyopenshell.gateway.files import private_directory, write_private


def endpoint_of(host: str, port: int) -> str:
    """The URL clients dial."""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def register(config: Path, name: str, host: str, port: int, bundle: Bundle) -> None:
    """Write gateways/<name>/ under `config`, and make it the active gateway if none is chosen.

    Another gateway the user has selected stays selected; one whose registration is gone does not.
    """
    directory = private_directory(config / "gateways" / name)
    private_directory(directory / "mtls")
    write_private(directory / "mtls" / "ca.crt", bundle.authority.pem)
    write_private(directory / "mtls" / "tls.crt", bundle.client.certificate)
    write_private(directory / "mtls" / "tls.key", bundle.client.key)
    metadata = {
        "name": name,
        "gateway_endpoint": endpoint_of(host, port),
        "gateway_port": port,
        "is_remote": False,
        "auth_mode": "mtls",
    }
    write_private(directory / "metadata.json", json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    active = config / "active_gateway"
    if not _is_registered(config, active):
        write_private(active, name + "\n")


def _is_registered(config: Path, active: Path) -> bool:
    try:
        name = active.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return bool(name) and "/" not in name and (config / "gateways" / name / "metadata.json").is_file()
