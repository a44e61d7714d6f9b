"""Links of the pages lead to files and headings that exist; so do the names in the README's tree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_pages import NOTEBOOKS, PAGES, ROOT, Page, find

NAMES = [*find(PAGES), *find(NOTEBOOKS)]
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def read(name: str, root: Path = ROOT) -> Page:
    """A page, or the Markdown cells of a notebook as one."""
    if not name.endswith(".ipynb"):
        return Page.read(name, root)
    cells = json.loads((root / name).read_text(encoding="utf-8"))["cells"]
    return Page(
        name, "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    )


def broken_links(page: Page, root: Path = ROOT) -> list[str]:
    """What is wrong with the links of a page that lead to other files, or into a page."""
    wrong = []
    for link in page.links():
        if ELSEWHERE.match(link.target):
            continue
        path, _, anchor = unquote(link.target).partition("#")
        target = (root / page.name).parent / path if path else root / page.name
        where = f"{page.name}:{link.line}: {link.target}"
        if not target.resolve().is_relative_to(root.resolve()) or not target.exists():
            wrong.append(f"{where}: there is no such file")
        elif anchor and target.suffix in (".md", ".ipynb"):
            if anchor not in read(target.resolve().relative_to(root.resolve()).as_posix(), root).anchors():
                wrong.append(f"{where}: there is no such heading")
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    wrong = broken_links(read(name))
    assert not wrong, "\n".join(wrong)


def test_most_links_are_seen():
    targets = {link.target for name in NAMES for link in read(name).links()}
    assert len([target for target in targets if not ELSEWHERE.match(target)]) > 30


def paths_of_tree(text: str) -> list[str]:
    """The paths that an indented tree names, in front of two blanks and what they are for."""
    folders: list[str] = []
    paths = []
    for line in text.splitlines():
        names = re.match(r"( *)(\S+(?:, \S+)*)(?:,?$|  )", line)
        if names is None or len(names[1]) > 2 * len(folders):
            continue  # what goes on from the line above
        folders = folders[: len(names[1]) // 2]
        listed = names[2].removesuffix(",").split(", ")
        paths += ["".join(folders) + name for name in listed]
        folders += [name for name in listed if name.endswith("/")][-1:]
    return paths


def test_the_tree_of_the_readme_names_what_exists():
    (tree,) = [block for block in Page.read("README.md").blocks() if block.text.startswith("src/")]
    paths = paths_of_tree(tree.text)
    assert len(paths) > 30
    missing = [path for path in paths if not list(ROOT.glob(path.rstrip("/")))]
    assert not missing, "\n".join(missing)
    areas = [path for path in (ROOT / "src/star_hf").iterdir() if path.is_dir() and path.name[0] != "_"]
    assert {f"{area.relative_to(ROOT).as_posix()}/" for area in areas} <= set(paths)


def test_a_tree_is_read_by_its_indentation():
    tree = "src/\n  audio.py    read\n  data/       rows,\n              more of it\ntests/, docs/   x\n"
    assert paths_of_tree(tree) == ["src/", "src/audio.py", "src/data/", "tests/", "docs/"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](other.md#a-heading) [b](other.md) ![c](p.png) [d](#own) [e](https://x.org/none)\n# Own\n", 0),
        ("[a](other.md#heading)", 1),
        ("| [a](none.md) |\n|---|\n| <img src='none.png'> |\n", 2),
        ("[a](#nowhere)", 1),
        ("[a](../outside.md)", 1),
        ("`[a](none.md)`\n\n```text\n[a](none.md)\n```\n", 0),
    ],
)
def test_a_broken_link_is_found(text, wrong, tmp_path):
    (tmp_path / "other.md").write_text("# A *heading*\n")
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "page.md").write_text(text)
    assert len(broken_links(Page.read("page.md", tmp_path), tmp_path)) == wrong


def test_anchors_are_those_of_github():
    page = Page(
        "page.md", "# A, `b_c` and D-e\n\n## Same\n\n## Same\n\n## [Link](x) → *more*\n\n<a id='x'></a>\n"
    )
    assert page.anchors() == {"a-b_c-and-d-e", "same", "same-1", "link--more", "x"}
