"""docs/gateway.md: every key, variable, file and RPC of the gateway."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from tools.generate_rpc_table import page as renewed

from pyopenshell.gateway import configuration
from pyopenshell.gateway.certificates import _AUTHORITY_LIFE, _LEAF_LIFE, _RENEW_BEFORE
from pyopenshell.gateway.configuration import Configuration, ConfigurationError, load
from pyopenshell.wire.service import methods
from tests.docs.code import calls, modules, page
from tests.e2e.house import house

TEXT = page("gateway.md")
VARIABLE = re.compile(r"\b(?:OPENSHELL_[A-Z0-9][A-Z0-9_]*|XDG_[A-Z_]+|NO_COLOR|GITHUB_TOKEN|GH_TOKEN)\b")
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def keys() -> dict[str, set[str]]:
    """Table -> keys, from the calls that refuse unknown ones."""
    found: dict[str, set[str]] = {}
    for one in calls("_known", room="gateway"):
        where, _, known = one.call.args
        assert isinstance(known, ast.Set), f"{one.where}: keys must be a literal set"
        found.setdefault(ast.unparse(where), set()).update(str(ast.literal_eval(item)) for item in known.elts)
    return found


def variables() -> set[str]:
    """Every environment variable that is named in a string of the product."""
    found = set()
    for file, tree in modules():
        if file.startswith("cli/demo/"):
            continue  # a private installation of its own; what it reads from outside is in cli/demo/command.py's help
        documentation = {id(text) for node in ast.walk(tree) if (text := _docstring(node)) is not None}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                found |= set(VARIABLE.findall(node.value))
    return found


def _docstring(node: ast.AST) -> ast.Constant | None:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return node.value if is_text else None  # type: ignore[attr-defined]


def test_the_lists_are_not_empty() -> None:
    assert {"bind_address", "connect_to", "ttl_secs", "ca_file"} <= set().union(*keys().values())
    assert {"OPENSHELL_DB_URL", "XDG_STATE_HOME"} <= variables()


@pytest.mark.parametrize("key", sorted(set().union(*keys().values())))
def test_every_key_has_a_row(key: str) -> None:
    assert re.search(
        rf"^\| `(openshell\.|gateway_jwt\.|proposal_quotas\.|rate_limit\.|retention\.)?{key}` \|", TEXT, re.MULTILINE
    )


@pytest.mark.parametrize("name", sorted(variables()))
def test_every_variable_is_named(name: str) -> None:
    assert f"`{name}`" in TEXT or f"`{name}=" in TEXT


@pytest.mark.parametrize("name", sorted(variables()))
def test_a_variable_without_a_row_is_explained_on_another_page(name: str) -> None:
    if not re.search(rf"^\| [^|]*`{name}`", TEXT, re.MULTILINE):
        assert f"`{name}`" in page("cli.md") or f"`{name}=" in page("isolation.md")


def test_defaults_are_those_of_the_code(tmp_path: Path) -> None:
    default = load({"HOME": str(tmp_path)})
    assert f"| `{default.host}:{default.port}` |" in TEXT
    assert f"| `{default.name}` | name of the registration" in TEXT
    assert f"| `{default.log_level}` | of `gateway.log`" in TEXT
    assert f"| `{default.gateway_id}` | audience" in TEXT
    assert f"| {default.token_lifetime} | their life" in TEXT
    assert ", ".join(f"`{level}`" for level in configuration._LOG_LEVELS) in TEXT
    assert ", ".join(f"`{name}`" for name in configuration.LOOPBACK_NAMES) in TEXT
    years, leaf, before = _AUTHORITY_LIFE.days // 365, _LEAF_LIFE.days, _RENEW_BEFORE.days
    assert f"({years} years) and leaves ({leaf} days, renewed {before} days before)" in TEXT
    assert default.database == f"sqlite:{default.paths.state}/gateway/openshell.db"


def test_the_examples_are_read(tmp_path: Path) -> None:
    whole, override, several = EXAMPLES
    file = tmp_path / "gateway.toml"
    file.write_text(whole)
    plain = load({"HOME": str(tmp_path)}, file=file)
    assert isinstance(plain, Configuration)
    file.write_text(several)
    assert load({"HOME": str(tmp_path)}, file=file).advertise == ("gateway.example.com", 17670)
    (entry,) = tomllib.loads(override)["openshell"]["gateway"]["connect_to"]
    file.write_text(
        "[openshell]\nversion = 2\n[openshell.gateway]\n" + override.replace('ca_file = "forge-ca.pem"\n', "")
    )
    (found,) = load({"HOME": str(tmp_path)}, file=file).connect_to
    assert (found.host, found.port, found.address) == (entry["host"], entry["port"], entry["address"])


def test_the_quoted_error_is_the_one_that_comes(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[openshell]\nversion = 2\n[openshell.gateway]\nbind_adress = "127.0.0.1:0"\n')
    with pytest.raises(ConfigurationError) as raised:
        load({"HOME": str(tmp_path)}, file=file)
    assert str(raised.value).removeprefix(str(file)) in TEXT


def test_the_table_of_rpcs_is_current() -> None:
    assert renewed(TEXT) == TEXT, "run python tools/generate_rpc_table.py"


def test_every_rpc_of_openshell_has_a_row() -> None:
    names = [method.name for method in methods().values() if method.service == "openshell.v1.OpenShell"]
    rows = re.findall(r"^\| `(\w+)` \| (?:full|partial: [^|]+|not yet: [^|]+) \|", TEXT, re.MULTILINE)
    assert rows[: len(names)] == names


@pytest.mark.e2e
def test_every_file_has_a_row_with_its_mode() -> None:
    files = [line for line in TEXT.split("## Files")[1].split("\n## ")[0].splitlines() if line.startswith("| `")]
    with house() as home:
        home.create("files")
        for base, short in ((home.root / "config/openshell", "<config>"), (home.root / "state/openshell", "<state>")):
            for path in sorted(p for p in base.rglob("*") if not p.is_symlink() and not p.is_dir()):
                place = path.relative_to(base)
                if place.parts[0] in ("gateway.toml", "sandboxes") or place.parts[0].startswith("etc-"):
                    continue  # the operator's own, the sandbox's (docs/architecture.md), and no secret
                rows = [row for row in files if _names(row, short, place)]
                assert rows, f"{short}/{place} stands nowhere in docs/gateway.md"
                assert f"{path.stat().st_mode & 0o777:04o}" in rows[0].split("|")[2] or place.parts[0] == "last_sandbox"


def _names(row: str, short: str, place: Path) -> bool:
    """Does the row's path cell name the file, one of its folders, or (in braces or after commas) its siblings?"""
    cell = row.split("|")[1].replace("<name>", "local")
    if f"`{short}/{place.parts[0]}" not in cell and not (f"`{short}/" in cell and f"`{place.name}`" in cell):
        return False
    if len(place.parts) > 1 and f"/{'/'.join(place.parts[:-1])}/" not in cell and f"`{place.parts[-2]}/`" not in cell:
        return f"`{short}/{place.parts[0]}/`" in cell
    stem = place.name.removeprefix("openshell.db") if place.name.startswith("openshell.db-") else place.name
    return stem in cell or f"`{place.parent.name}/`" in cell
