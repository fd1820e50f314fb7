"""Reads lists out of the product's source: which constant can arrive at an argument of a call.

The tests of this folder take what must be documented from here, never from a copy. What cannot be followed is an error:
then a page could fall behind without a test that sees it.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator

SOURCE = pathlib.Path(__file__).parents[2] / "src" / "pyopenshell"
DOCS = pathlib.Path(__file__).parents[2] / "docs"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = Function | ast.Module
_CONSTRUCTOR = "__init__"


class UnfollowableError(Exception):
    """An argument whose values these few rules do not find."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A call and the functions it stands in, innermost first; the module is last."""

    call: ast.Call
    inside: tuple[Scope, ...]
    where: str


def page(name: str) -> str:
    return (DOCS / name).read_text()


@functools.cache
def modules(room: str = "") -> tuple[tuple[str, ast.Module], ...]:
    files = sorted((SOURCE / room).rglob("*.py"))
    return tuple((str(file.relative_to(SOURCE)), ast.parse(file.read_text())) for file in files)


def name_of(node: ast.expr) -> str:
    """`f` of `f(...)`, `a.f(...)`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@functools.cache
def calls(*names: str, room: str = "") -> tuple[Found, ...]:
    """Every call of a function, method or class with one of these names."""
    return tuple(
        Found(node, inside, f"{file}:{node.lineno}")
        for file, tree in modules(room)
        for node, inside in _walk(tree, (tree,))
        if isinstance(node, ast.Call) and name_of(node.func) in names
    )


def _walk(node: ast.AST, inside: tuple[Scope, ...]) -> Iterator[tuple[ast.AST, tuple[Scope, ...]]]:
    for child in ast.iter_child_nodes(node):
        deeper = (child, *inside) if isinstance(child, Function) else inside
        yield child, deeper
        yield from _walk(child, deeper)


def argument(found: Found, keyword: str, position: int | None) -> ast.expr | None:
    """The expression given for a parameter, None when it is left out (then the default holds)."""
    for given in found.call.keywords:
        if given.arg == keyword:
            return given.value
    if position is None:
        return None
    for index, value in enumerate(found.call.args):
        if isinstance(value, ast.Starred):
            items = [
                pair.elts[position - index] for pair in _assigned(found, value.value) if isinstance(pair, ast.Tuple)
            ]
            if not items:
                raise UnfollowableError(f"{found.where}: *{ast.unparse(value.value)}")
            return ast.Set(items)
        if index == position:
            return value
    return None


def arguments(
    *names: str,
    keyword: str,
    position: int | None,
    room: str = "",
    elsewhere: Callable[[str], bool] = lambda text: False,
) -> set[str]:
    """Every string that can arrive at one parameter of the named callables.

    `elsewhere` says of an expression's text that its values are collected by another question of the same test.
    """
    return {
        text
        for found in calls(*names, room=room)
        if (value := argument(found, keyword, position)) is not None
        for text in values(value, found, elsewhere)
    }


def values(node: ast.expr, found: Found, elsewhere: Callable[[str], bool]) -> set[str]:
    """The strings an expression can be. Raises UnfollowableError."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return values(node.body, found, elsewhere) | values(node.orelse, found, elsewhere)
    if isinstance(node, ast.Set | ast.BoolOp | ast.Dict):
        items = node.elts if isinstance(node, ast.Set) else node.values
        return {text for item in items for text in values(item, found, elsewhere)}
    if isinstance(node, ast.Call) and name_of(node.func) == "get" and isinstance(node.func, ast.Attribute):
        return {text for item in (node.func.value, *node.args[1:]) for text in values(item, found, elsewhere)}
    if elsewhere(ast.unparse(node)):
        return set()
    member = _member(node)
    if member is not None:
        return {member}
    if isinstance(node, ast.Name):
        return _named(node, found, elsewhere)
    raise UnfollowableError(f"{found.where}: {ast.unparse(node)}")


def _member(node: ast.expr) -> str | None:
    """`Condition.PROTOCOL.value`."""
    from pyopenshell.policy.decision import Condition

    text = ast.unparse(node).removesuffix(".value")
    if text.startswith("Condition.") and text.removeprefix("Condition.") in Condition.__members__:
        return Condition[text.removeprefix("Condition.")].value
    return None


def _named(node: ast.Name, found: Found, elsewhere: Callable[[str], bool]) -> set[str]:
    """A local variable, or a parameter: then what the callers give for it."""
    for scope in found.inside:
        if isinstance(scope, Function) and node.id in _parameters(scope):
            return _from_callers(scope, node.id, found, elsewhere)
        assigned = _assigned_in(scope, node)
        if assigned:
            return {text for value in assigned for text in values(value, found, elsewhere)}
    raise UnfollowableError(f"{found.where}: {node.id}")


def _assigned(found: Found, name: ast.expr) -> list[ast.expr]:
    """Values assigned to a name in the functions around the call."""
    return [value for scope in found.inside for value in _assigned_in(scope, name)]


def _assigned_in(scope: Scope, name: ast.expr) -> list[ast.expr]:
    wanted = ast.unparse(name)
    nodes = ast.walk(scope) if isinstance(scope, Function) else iter(scope.body)
    out: list[ast.expr] = []
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                out += _matching(target, node.value, wanted)
    return out


def _matching(target: ast.expr, value: ast.expr, wanted: str) -> list[ast.expr]:
    if ast.unparse(target) == wanted:
        return [value]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return [v for t, v in zip(target.elts, value.elts, strict=True) if ast.unparse(t) == wanted]
    return []


def _parameters(scope: Function) -> list[str]:
    return [one.arg for one in (*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs)]


def _from_callers(scope: Function, name: str, found: Found, elsewhere: Callable[[str], bool]) -> set[str]:
    names = [one.arg for one in (*scope.args.posonlyargs, *scope.args.args)]
    position = names.index(name) - (names[0] in ("self", "cls")) if name in names else None
    callers = [] if scope.name == _CONSTRUCTOR else calls(scope.name)
    if not callers:
        raise UnfollowableError(f"{found.where}: {name}, and nobody calls {scope.name}()")
    given = [(one, argument(one, name, position)) for one in callers]
    return {text for one, value in given if value is not None for text in values(value, one, elsewhere)}
