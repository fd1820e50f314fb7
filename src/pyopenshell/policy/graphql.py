"""GraphQL requests: a JSON envelope and its document, to operations with their root fields.

Decides what a document may do, whichever of its operations a server picks. The grammar is graphql-core's, which is
imported on first use: few sandboxes speak GraphQL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pyopenshell.policy.content import absent, batch, members, text_of
from pyopenshell.policy.nodes import MapNode, Node, ScalarNode
from pyopenshell.policy.operations import ContentError, GraphqlRequest
from pyopenshell.policy.problems import shown

if TYPE_CHECKING:
    from graphql.language import FragmentDefinitionNode, OperationDefinitionNode, SelectionSetNode

MAX_TOKENS = 5000
"""Lexical tokens of all documents of one body together, comments included; an introspection query has about 300. They
are what reading costs: about 10 µs each, and nothing else of the sandbox is served meanwhile."""
MAX_ID = 256

ENVELOPE = ("query", "operationName", "variables", "extensions", "id", "documentId")
"""Members of a request. Servers read the same names from the query string, some before the body."""
RESERVED = frozenset(name.lower() for name in ENVELOPE)


def refuse_query(values: Mapping[str, Sequence[str]]) -> None:
    """Raises ContentError where the query string says what the body says."""
    for key in values:
        if key.lower() in RESERVED:
            raise ContentError(f"graphql: {shown(key)} belongs into the body, not into the query string")


def read_requests(root: Node, limit: int) -> tuple[GraphqlRequest, ...]:
    """Every operation of a body: one request, or a batch of at most `limit`. Raises ContentError."""
    tokens = Tokens()
    return tuple(operation for item in batch(root, limit) for operation in read_request(item, tokens))


class Tokens:
    """What is left for the documents of one body."""

    def __init__(self) -> None:
        self.left = MAX_TOKENS


def read_request(node: Node, tokens: Tokens | None = None) -> tuple[GraphqlRequest, ...]:
    """The operations of one request; a document with several counts as all of them. Raises ContentError."""
    found = members(node, ENVELOPE, "a GraphQL request")
    for name in ("variables", "extensions"):
        if not absent(found.get(name)) and not isinstance(found[name], MapNode):
            raise ContentError(f"{name} of a GraphQL request must be an object")
    name = "" if absent(found.get("operationName")) else text_of(found, "operationName", "operationName")
    digest = _digest(found.get("extensions"))
    ids = [text_of(found, key, key) for key in ("id", "documentId") if not absent(found.get(key))]
    document = "" if absent(found.get("query")) else text_of(found, "query", "query")
    if document:
        if ids:
            raise ContentError("a GraphQL request has both a document and the id of another one")
        if digest and digest != hashlib.sha256(document.encode()).hexdigest():
            raise ContentError("the hash of a GraphQL request is not that of its document")
        return read_document(document, tokens)
    ids += [digest] if digest else []
    if len(ids) != 1:
        raise ContentError("a GraphQL request needs one document, or the id of one")
    if not ids[0] or len(ids[0]) > MAX_ID:
        raise ContentError(f"the id of a persisted query has 1 to {MAX_ID} characters")
    return (GraphqlRequest(operation_name=name, id=ids[0]),)


def _digest(extensions: Node | None) -> str:
    """The hash of an automatic persisted query, "" when the request has none."""
    if not isinstance(extensions, MapNode):
        return ""
    for key in extensions.entries:
        if key.lower() == "persistedquery" and key != "persistedQuery":
            raise ContentError(f"extensions of a GraphQL request have an unknown member {shown(key)}")
    entry = extensions.entries.get("persistedQuery")
    if entry is None or absent(entry[1]):
        return ""
    found = members(entry[1], ("version", "sha256Hash"), "persistedQuery")
    version = found.get("version")
    if not isinstance(version, ScalarNode) or version.value != 1 or isinstance(version.value, bool):
        raise ContentError("persistedQuery must have version 1")
    return text_of(found, "sha256Hash", "sha256Hash")


def read_document(text: str, tokens: Tokens | None = None) -> tuple[GraphqlRequest, ...]:
    """The operations of a document. Aliases say nothing, fragments count where they are spread, conditions (`@skip`)
    and type conditions are taken to hold. Raises ContentError."""
    tokens = tokens or Tokens()
    from graphql.error import GraphQLError
    from graphql.language import FragmentDefinitionNode, OperationDefinitionNode, parse

    try:
        document = parse(text, no_location=True, max_tokens=tokens.left)
        tokens.left -= document.token_count
    except GraphQLError as error:
        if f"more than {tokens.left} tokens" in error.message:
            raise ContentError(f"the GraphQL documents of one body have more than {MAX_TOKENS} tokens") from None
        raise ContentError(f"not a GraphQL document: {shown(error.message)[1:-1]}") from None
    except RecursionError:
        raise ContentError("not a GraphQL document: nested too deeply") from None
    found: list[OperationDefinitionNode] = []
    fragments: dict[str, FragmentDefinitionNode] = {}
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            found.append(definition)
        elif not isinstance(definition, FragmentDefinitionNode):
            raise ContentError("a GraphQL request may only contain operations and fragments")
        elif definition.name.value in fragments:
            raise ContentError(f"fragment {shown(definition.name.value)} is defined twice")
        else:
            fragments[definition.name.value] = definition
    names = [operation.name.value if operation.name else "" for operation in found]
    if not found:
        raise ContentError("the GraphQL document has no operation")
    if len(set(names)) != len(names) or ("" in names and len(names) > 1):
        raise ContentError("the operations of a GraphQL document must have different names")
    return tuple(
        GraphqlRequest(operation.operation.value, name, tuple(_root_fields(operation.selection_set, fragments)))
        for operation, name in zip(found, names, strict=True)
    )


def _root_fields(root: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> Iterable[str]:
    from graphql.language import FieldNode, FragmentSpreadNode

    fields: dict[str, None] = {}
    spread: set[str] = set()
    todo = [root]
    while todo:
        for selection in todo.pop().selections:
            if isinstance(selection, FieldNode):
                fields[selection.name.value] = None
            elif isinstance(selection, FragmentSpreadNode):
                name = selection.name.value
                if name not in fragments:
                    raise ContentError(f"fragment {shown(name)} is not defined")
                if name not in spread:
                    spread.add(name)
                    todo.append(fragments[name].selection_set)
            else:
                todo.append(selection.selection_set)  # type: ignore[attr-defined]
    if not fields:
        raise ContentError("an operation of the GraphQL document selects nothing")
    return fields
