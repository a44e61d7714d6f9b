"""docs/troubleshooting.md quotes only messages that the code can print.

A message is what is set as code in the first column of a table whose head is "what you see"; `…` stands for
what varies.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from markdown_pages import ROOT, Page

PAGE, HEAD = "docs/troubleshooting.md", "what you see"
SOURCES = ("src/star_hf", "training")
ELLIPSIS = "…"
#: Their texts describe options, and are no messages.
DESCRIBING = ("option", "group", "Option", "Argument")
#: What makes a message more than a common word.
TELLING = re.compile(r"\w+\W+\w+|\w{8,}")


def first_cells(text: str) -> Iterator[list[tuple[str, str]]]:
    """(type, content) of what stands in the first cell of each row of each table, its head first."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for row, cell, inline in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if row.type == "tr_open":
            kind = "head" if cell.type == "th_open" else "body"
            yield [(kind, ""), *((child.type, child.content) for child in inline.children)]


def messages(text: str) -> list[str]:
    """What a page claims to be messages."""
    found, is_about_messages = [], False
    for (kind, _), *parts in first_cells(text):
        if kind == "head":
            is_about_messages = "".join(content for _, content in parts) == HEAD
        elif is_about_messages:
            found += [content for name, content in parts if name == "code_inline"]
    return found


def printable(source: str) -> Iterator[str]:
    """Each text of a program, with `…` for what is filled in; neither docstrings nor the help of options."""
    tree = ast.parse(source)
    passed_over, joined = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed_over.add(node.value)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in DESCRIBING:
                passed_over.update(ast.walk(node))
        elif isinstance(node, ast.JoinedStr | ast.BinOp):
            joined.update(child for child in ast.walk(node) if child is not node)
    for node in ast.walk(tree):
        if node not in passed_over and node not in joined:
            text = template(node)
            if text:
                yield text


def template(node: ast.AST) -> str | None:
    """The text that a node makes, `None` where it makes none that can be read."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(template(value) or ELLIPSIS for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [template(side) for side in (node.left, node.right)]
        return None if parts == [None, None] else "".join(part or ELLIPSIS for part in parts)
    return None


@lru_cache
def all_printable() -> tuple[str, ...]:
    files = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple(text for path in files for text in printable(path.read_text(encoding="utf-8")))


def occurs(message: str, texts: tuple[str, ...]) -> bool:
    """Whether one of `texts` holds the parts of `message` in their order."""
    parts = [re.escape(part.strip()) for part in message.split(ELLIPSIS)]
    return any(re.search(".*".join(parts), text, re.DOTALL) for text in texts)


QUOTED = messages(Page.read(PAGE).text)


def test_the_page_quotes_messages():
    assert len(QUOTED) > 50
    assert not [message for message in QUOTED if message.strip() in ("", ELLIPSIS)]
    assert not [first for first, second in pairwise(sorted(QUOTED)) if first == second], "quoted twice"


@pytest.mark.parametrize("message", QUOTED)
def test_the_code_prints_it(message):
    assert TELLING.search(message), f"{message!r} is too little to look for"
    assert occurs(message, all_printable()), f"nothing in {' or '.join(SOURCES)} prints {message!r}"


def test_what_is_not_printed_is_not_found():
    source = '''
"""The model needs a module docstring."""
def load(path, bad, help=option("the path needs an option")):
    """A function needs a docstring."""
    # a comment needs a hash
    if bad:
        raise ValueError(
            f"`path` {path!r} holds {len(path)} models, "
            "one is needed" + (f"; {bad} is another" if bad else "")
        )
    say(f"reading {path}: " + path.upper())
'''
    texts = tuple(printable(source))
    for message in (
        "`path` … holds … models, one is needed",
        "models, one is needed",
        "holds … one is needed…",
        "reading …",
    ):
        assert occurs(message, texts), message
    for message in (
        "a docstring",
        "a module docstring",
        "needs an option",
        "a comment needs a hash",
        "one is needed … holds",
        "`path` … holds … models, two are needed",
        "holds 3 models",
    ):
        assert not occurs(message, texts), message


def test_messages_are_the_code_of_first_cells_under_their_head():
    page = """
| what you see | fix |
|---|---|
| `one message` and `` `another` one `` | `no message` |
| words | `no message` |

| where | fix |
|---|---|
| `no message` | words |
"""
    assert messages(page) == ["one message", "`another` one"]
