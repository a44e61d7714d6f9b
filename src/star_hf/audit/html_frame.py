"""The frame of a report: one HTML file that needs no other, for light and dark, phone and desktop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_CSS = """
:root { color-scheme: light dark; --line: #d5d5d5; --soft: #666; --back: #fff; --text: #1d1d1f; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a3a3c; --soft: #a0a0a5; --back: #161618; --text: #ececee; }
}
body { background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif;
  max-width: 66rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 0.5rem; }
p, figcaption { max-width: 44rem; } figcaption, .soft { color: var(--soft); font-size: 0.92rem; }
figure { margin: 1rem 0; min-width: 0; } figure svg { width: 100%; height: auto; display: block; }
.pair { display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.single { max-width: 40rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; } td.number { text-align: right; white-space: nowrap; }
td small { color: var(--soft); display: block; max-width: 30rem; } li { overflow-wrap: anywhere; }
""".strip()


def html_page(title: str, parts: Iterable[str], css: str = "") -> str:
    """A whole page of HTML `parts` under a heading; empty parts are left out, `css` is added to the style."""
    title = escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_CSS}{css}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def figure_html(picture: str, caption: str) -> str:
    """An SVG picture and its caption, both HTML."""
    return f'<figure class="single">{picture}<figcaption>{caption}</figcaption></figure>'


def grid_html(pictures: Iterable[str], caption: str) -> str:
    """SVG pictures beside each other where there is room, and one caption."""
    figures = "".join(f"<figure>{picture}</figure>" for picture in pictures)
    return f'<div class="pair">{figures}</div><p class="soft">{caption}</p>'


def provenance_html(document: Mapping[str, Any]) -> str:
    """The settings and versions that `describe_run` gave a report."""
    facts = {**document["settings"], **document["versions"]}
    listing = ", ".join(f"{escape(str(name))} {escape(str(value))}" for name, value in facts.items())
    return f"<h2>Settings and versions</h2><p class='soft'>{listing}</p>"
