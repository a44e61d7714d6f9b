"""What every page that the package writes must be: whole, and readable without another file."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree


class _Balance(HTMLParser):
    """Fails where a tag is closed that is not the innermost open one."""

    void = {"meta", "br", "img"}

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(page, links=()):
    """Tags are closed, pictures scale and take the page's colour, names are unique, `links` are all links."""
    parser = _Balance()
    parser.feed(page)
    assert not parser.open
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        root = ElementTree.fromstring(svg)
        assert "viewBox" in root.attrib and "width" not in root.attrib and "currentColor" in svg
    found = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert {link for link in found if not link.startswith("data:")} == set(links)
    drawings = [re.findall(r'\bid="([^"]+)"', svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    owners = [set(names) for names in drawings]
    assert sum(map(len, owners)) == len(set().union(*owners)), "two pictures share a name"
    references = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert references <= set().union(*owners)
