"""Every block of code of every page runs, in the order of the page, on small models and short sounds."""

from __future__ import annotations

import re

import pytest
from lent_models import REPOSITORIES
from markdown_pages import PAGES, Page, find
from page_runner import PageRunner
from reader_programs import Programs, parse_command
from repository_scripts import Failure

#: Rendered from templates and JSON. Their training commands are those that the JSON was measured with: dozens
#: of runs of studies, which the studies' own tests run at small size, or the README's once more. Here their
#: recipes and options are checked.
RENDERED = ("docs/regularizers.md", "docs/results.md", "docs/benchmarks.md", "model_cards/")
#: Pages of Spaces that measure speech need these packages.
NEEDED = {"pesq": "pesq", "stoi": "pystoi"}
TAKES_LONG = re.compile(r"^(?:accelerate|python training/|star-hf (?:audit|probe))", re.MULTILINE)


def pages():
    """Each page with blocks; those that train or measure are slow."""
    for name in find(PAGES):
        blocks = Page.read(name).blocks()
        commands = "\n".join(block.text for block in blocks if block.language == "bash")
        slow = TAKES_LONG.search(commands) and not name.startswith(RENDERED)
        if blocks:
            yield pytest.param(name, marks=[pytest.mark.slow] if slow else [])


def test_pages_are_found():
    names = [parameters.values[0] for parameters in pages()]
    assert {"README.md", "training/README.md", "docs/publishing.md"} <= set(names)


@pytest.mark.parametrize("name", pages())
def test_the_blocks_run(name, reader, hub):
    if (package := NEEDED.get(name.split("/")[-2] if "/" in name else "")) is not None:
        pytest.importorskip(package)
    page = Page.read(name)
    # what a page pushes is not there before
    hub.absent = {lent for lent in REPOSITORIES if re.search(rf"push.*{re.escape(lent)}", page.text)}
    PageRunner(Programs(reader, training=not name.startswith(RENDERED))).run(page.blocks())


@pytest.mark.parametrize("name", find(PAGES))
def test_no_gap_was_left_to_be_filled(name):
    assert not re.findall(r"@[A-Z]+@|\b(?:XX+|YY+|TODO|TBD|FIXME)\b", Page.read(name).text)


def test_commands_in_running_text_have_their_options(reader):
    """They may leave out what the sentence tells, and `…` for the reader to fill in."""
    import star_hf.cli

    programs, wrong = Programs(reader, training=False), []
    for page in map(Page.read, find(PAGES)):
        for line, code in page.inline_code():
            program, *words = code.split()
            try:
                if "…" in words or not words:
                    continue
                if program == "star-hf":
                    parse_command(star_hf.cli.app, program, words)
                elif program in ("hf", "pip") or code.startswith("python benchmarks/"):
                    programs.run([program, *(word.strip('"') for word in words)])
            except Failure as error:
                wrong.append(f"{page.name}:{line}: {code}: {error}")
    assert not wrong, "\n".join(wrong)


def test_a_command_in_running_text_may_be_incomplete_and_not_wrong():
    import star_hf.cli

    assert parse_command(star_hf.cli.app, "star-hf", ["generate"]) == {}
    with pytest.raises(Failure, match="--nonsense"):
        parse_command(star_hf.cli.app, "star-hf", ["generate", "--nonsense"])
    with pytest.raises(Failure, match="No such command"):
        parse_command(star_hf.cli.app, "star-hf", ["nonsense"])
