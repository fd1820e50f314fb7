"""docs/README.md lists every page; no link of any page leads nowhere."""

from __future__ import annotations

import pathlib
import re

import pytest

from tests.docs.code import DOCS, page

ROOT = DOCS.parent
PAGES = sorted((*DOCS.glob("*.md"), *(DOCS / "decisions").glob("*.md"), ROOT / "README.md"))
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(path: pathlib.Path) -> set[str]:
    """Of headings, as forges make them."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_names_every_page() -> None:
    index = page("README.md")
    for file in DOCS.iterdir():
        if file.suffix in (".md", ".json") and file.name != "README.md":
            assert f"]({file.name})" in index, file.name


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: pathlib.Path) -> None:
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), f"{file.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{file.name}: {link}"
