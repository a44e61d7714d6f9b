"""What a page of Markdown holds: its fenced blocks, its headings, its links.

Pages are found by their place, so that a new page is tested without a word in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "training/*.md", "benchmarks/*.md", "docs/**/*.md", "model_cards/*.md", "src/**/README.md")
NOTEBOOKS = ("docs/**/*.ipynb",)
#: Links of HTML in a page: pictures, players.
HTML_LINK = re.compile(r"""\b(?:src|href)=["']([^"']+)["']""")
HTML_ANCHOR = re.compile(r"""\b(?:id|name)=["']([^"']+)["']""")


def find(patterns: tuple[str, ...], root: Path = ROOT) -> list[str]:
    """Names of the files that match, below `root`, in order."""
    return sorted({path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern)})


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: the page's name.
        line: number of the first line of `text` in the page, from 1.
        language: the first word behind the fence, "" where there is none.
        section: how many headings stand above it.
        follows: whether only blank lines stand between the previous block and this one.
    """

    page: str
    line: int
    language: str
    text: str
    section: int = 0
    follows: bool = False

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Link:
    """A link or picture, and the line that it stands in or the one where its paragraph begins."""

    line: int
    target: str


class Page:
    """A Markdown file, read as GitHub reads it."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        body = re.sub(r"\A---\n.*?\n---\n", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)
        self._tokens = MarkdownIt("commonmark").enable("table").parse(body)
        self._lines = text.splitlines()

    @classmethod
    def read(cls, name: str, root: Path = ROOT) -> Page:
        return cls(name, (root / name).read_text(encoding="utf-8"))

    def blocks(self) -> list[Block]:
        """All code of the page in order, fenced and indented.

        Raises `AssertionError` for a fence that is never closed: the rest of the page would be code.
        """
        blocks, end, section = [], 0, 0
        for token in self._tokens:
            section += token.type == "heading_open"
            if token.type not in ("fence", "code_block"):
                continue
            start, stop = token.map
            fenced = token.type == "fence"
            if fenced and not self._lines[stop - 1].strip(" >").startswith(token.markup):
                raise AssertionError(f"{self.name}:{start + 1}: this fence is never closed")
            follows = bool(blocks) and not any(line.strip() for line in self._lines[end:start])
            language = (token.info.split() or [""])[0]
            blocks.append(Block(self.name, start + 1 + fenced, language, token.content, section, follows))
            end = stop
        return blocks

    def anchors(self) -> set[str]:
        """What `#…` may name: headings as GitHub turns them into anchors, and those written in HTML."""
        anchors: dict[str, int] = {}
        for before, token in zip(self._tokens, self._tokens[1:], strict=False):
            if before.type == "heading_open":
                words = "".join(child.content for child in token.children if child.type != "html_inline")
                slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
                anchors[slug] = anchors.get(slug, -1) + 1
        numbered = {f"{slug}-{i}" if i else slug for slug, last in anchors.items() for i in range(last + 1)}
        return numbered | {anchor for _, html in self._html() for anchor in HTML_ANCHOR.findall(html)}

    def links(self) -> list[Link]:
        """Targets of links and pictures, of Markdown and of HTML."""
        links = []
        for line, token in self._inline():
            target = token.attrGet("href") or token.attrGet("src")
            if target is not None:
                links.append(Link(line, str(target)))
        links += [Link(line, target) for line, html in self._html() for target in HTML_LINK.findall(html)]
        return sorted(links, key=lambda link: link.line)

    def inline_code(self) -> list[tuple[int, str]]:
        """Code in running text, and the line that its paragraph begins in."""
        return [(line, token.content) for line, token in self._inline() if token.type == "code_inline"]

    def _inline(self) -> Iterator[tuple[int, Token]]:
        for token in self._tokens:
            if token.type == "inline":
                for child in token.children:
                    yield token.map[0] + 1, child

    def _html(self) -> Iterator[tuple[int, str]]:
        for token in self._tokens:
            if token.type == "html_block":
                yield token.map[0] + 1, token.content
        for line, token in self._inline():
            if token.type == "html_inline":
                yield line, token.content
