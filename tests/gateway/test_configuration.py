"""gateway.toml and the variables: defaults, precedence, and every refusal with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pyopenshell.gateway.certificates import Authority
from pyopenshell.gateway.configuration import ConfigurationError, load


def write(directory: Path, text: str) -> dict[str, str]:
    file = directory / "openshell" / "gateway.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return {"HOME": "/home/nobody", "XDG_CONFIG_HOME": str(directory), "XDG_STATE_HOME": str(directory / "state")}


def test_defaults() -> None:
    found = load({"HOME": "/home/nobody"})
    assert (found.host, found.port, found.name, found.gateway_id) == ("127.0.0.1", 17670, "local", "openshell")
    assert found.server_names == ("localhost", "127.0.0.1", "::1")
    assert str(found.paths.state) == "/home/nobody/.local/state/openshell"
    assert found.database == "sqlite:/home/nobody/.local/state/openshell/gateway/openshell.db"
    assert str(found.paths.tls) == "/home/nobody/.local/state/openshell/tls"
    assert found.source is None
    assert found.token_lifetime > 0


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / "openshell").mkdir()
    (tmp_path / "openshell" / "fake-ca.pem").write_bytes(Authority.create("fake").pem)
    environ = write(
        tmp_path,
        """
[openshell]
version = 1

[openshell.gateway]
bind_address = "127.0.0.2:18000"
name = "work"
log_level = "debug"
server_sans = ["gateway.test"]
compute_drivers = ["local"]
tunnel_idle_secs = 0

[openshell.gateway.gateway_jwt]
gateway_id = "mine"
ttl_secs = 0

[[openshell.gateway.connect_to]]
host = "API.github.com."
port = 443
address = "127.0.0.1:8443"
ca_file = "fake-ca.pem"

[[openshell.gateway.connect_to]]
host = "other.test"
port = 80
address = "[::1]:8080"
""",
    )
    found = load(environ)
    assert (found.host, found.port, found.name, found.log_level) == ("127.0.0.2", 18000, "work", "debug")
    assert (found.gateway_id, found.token_lifetime, found.tunnel_idle_seconds) == ("mine", 0, 0)
    assert found.server_names == ("localhost", "127.0.0.1", "::1", "gateway.test", "127.0.0.2")
    first, second = found.connect_to
    assert (first.host, first.port, first.address) == ("api.github.com", 443, "127.0.0.1:8443")
    assert "BEGIN CERTIFICATE" in first.ca_pem
    assert (second.host, second.port, second.address, second.ca_pem) == ("other.test", 80, "[::1]:8080", "")


def test_flag_over_variable_over_file(tmp_path: Path) -> None:
    environ = write(tmp_path, '[openshell]\nversion = 1\n[openshell.gateway]\nbind_address = "127.0.0.2:18000"\n')
    assert load(environ).port == 18000
    assert load(environ | {"OPENSHELL_SERVER_PORT": "18001"}).port == 18001
    assert load(environ | {"OPENSHELL_SERVER_PORT": "18001"}, port=0).port == 0
    assert load(environ | {"OPENSHELL_BIND_ADDRESS": "127.0.0.3"}).host == "127.0.0.3"
    assert load(environ | {"OPENSHELL_BIND_ADDRESS": "127.0.0.3"}, bind="127.0.0.4:99").host == "127.0.0.4"
    assert load(environ | {"OPENSHELL_DB_URL": "sqlite:/x.db"}).database == "sqlite:/x.db"


def test_a_gateway_that_binds_everything_is_dialled_on_loopback() -> None:
    assert load({"HOME": "/"}, bind="0.0.0.0").advertised_host == "127.0.0.1"
    assert load({"HOME": "/"}, bind="[::]:1").advertised_host == "::1"


CONNECT = "[openshell]\nversion = 1\n[[openshell.gateway.connect_to]]\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[openshell\n", None, "not valid TOML"),
        ("[openshel]\n", 1, "unknown key 'openshel'"),
        ("[openshell]\nversion = 3\n", 2, "version must be 1 or 2"),
        ("[openshell]\nversion = true\n[openshell.gateway]\n", 2, "version must be 1 or 2"),
        ("[openshell]\nversion = 1\n\n[openshell.gateway]\nbind_adress = 'x'\n", 5, "unknown key 'bind_adress'"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\nbind_address = 5\n", 4, "must be a non-empty string"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\nbind_address = 'host:1'\n", 4, "literal IP"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\nbind_address = '127.0.0.1:70000'\n", 4, "literal IP"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\nlog_level = 'loud'\n", 4, "log_level must be one of"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\nname = '../x'\n", 4, "name must be"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\nserver_sans = 'x'\n", 4, "list of strings"),
        (
            "[openshell]\nversion = 1\n[openshell.gateway]\ncompute_drivers = ['docker']\n",
            4,
            "one or more of local, podman",
        ),
        ("[openshell]\nversion = 1\n[openshell.gateway]\ncompute_drivers = []\n", 4, "one or more of local, podman"),
        ("[openshell]\nversion = 1\n[openshell.drivers.docker]\n", 3, "unknown key 'docker'"),
        ("[openshell]\nversion = 1\n[openshell.drivers.podman]\nsocket_path = 'x'\n", 4, "absolute path"),
        ("[openshell]\nversion = 1\n[openshell.drivers.podman]\npull = 'always'\n", 4, "missing or never"),
        ("[openshell]\nversion = 1\n[openshell.gateway.gateway_jwt]\nttl_secs = 5\n", 4, "at least 60"),
        ("[openshell]\nversion = 1\n[openshell.gateway.gateway_jwt]\nttl_secs = -1\n", 4, "at least 60"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\ntunnel_idle_secs = 59\n", 4, "0 (never) or 60 to 31536000"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\ntunnel_idle_secs = '1h'\n", 4, "non-empty integer"),
        ("[openshell]\nversion = 1\n[openshell.gateway]\nconnect_to = 1\n", 4, "connect_to must be written as"),
        (CONNECT + "host = 'a.test'\nport = 1\n", 3, "address is missing"),
        (CONNECT + "host = '*.test'\nport = 1\naddress = '127.0.0.1:1'\n", 4, "without wildcards"),
        (CONNECT + "host = '127.0.0.1'\nport = 1\naddress = '127.0.0.1:1'\n", 4, "one DNS name"),
        (CONNECT + "host = 'a.test'\nport = 0\naddress = '127.0.0.1:1'\n", 5, "port must be in"),
        (CONNECT + "host = 'a.test'\nport = 1\naddress = 'b.test:1'\n", 6, "literal IP"),
        (CONNECT + "host = 'a.test'\nport = 1\naddress = '127.0.0.1'\n", 6, "literal IP"),
        (CONNECT + "host = 'a.test'\nport = 1\naddress = '127.0.0.1:1'\nca_file = 'no.pem'\n", 7, "not a readable PEM"),
        (
            CONNECT + "host = 'a.test'\nport = 1\naddress = '127.0.0.1:1'\ninsecure = true\n",
            7,
            "unknown key 'insecure'",
        ),
        (
            CONNECT
            + "host = 'a.test'\nport = 1\naddress = '127.0.0.1:1'\n"
            + "[[openshell.gateway.connect_to]]\nhost = 'A.test'\nport = 1\naddress = '127.0.0.1:2'\n",
            7,
            "overridden twice",
        ),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    environ = write(tmp_path, text)
    where = f"gateway.toml:{line}: " if line else "gateway.toml: "
    with pytest.raises(ConfigurationError, match=re.escape(where) + ".*" + re.escape(message)):
        load(environ)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load({"HOME": "/"}, file=tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="no such file"):
        load({"HOME": "/", "OPENSHELL_GATEWAY_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize("port", ["x", "-1", "65536", "1.5"])
def test_a_bad_port_variable(port: str) -> None:
    with pytest.raises(ConfigurationError, match="OPENSHELL_SERVER_PORT"):
        load({"HOME": "/", "OPENSHELL_SERVER_PORT": port})
