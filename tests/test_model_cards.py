"""The cards in model_cards/ are what their measurements render to, by the command that each card names."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import ModelCard

from star_hf.cards import CardRequest, render_card
from star_hf.cards.pictures import digest, pictures_of, read_digest

ROOT = Path(__file__).parents[1]
CARDS = ROOT / "model_cards"
NAMES = sorted(path.stem for path in CARDS.glob("*.md"))
MEASUREMENTS = ("generation.json", "reconstruction.json", "audit.json")


def _command(text: str) -> list[str]:
    """The words of the `star-hf card` command in a card."""
    (command,) = [line for line in text.splitlines() if line.startswith("star-hf card ")]
    return shlex.split(command)


def _request(name: str, folder: Path) -> CardRequest:
    """What that command asks for, of measurements that may lie elsewhere."""
    words = _command((CARDS / f"{name}.md").read_text(encoding="utf-8"))
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[2] == f"model_cards/{name}" and options["--output"] == f"model_cards/{name}.md"
    return CardRequest(
        folder=folder,
        target=folder.with_suffix(".md"),
        model=ROOT / options["--model"],
        autoencoder=options.get("--autoencoder"),
        command=shlex.join(words),
    )


def test_every_folder_has_its_card():
    assert NAMES and NAMES == sorted(path.name for path in CARDS.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_what_its_measurements_render_to(name):
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert render_card(_request(name, CARDS / name)).text == card


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", MEASUREMENTS)
def test_a_number_that_does_not_match_is_found_out(name, file, tmp_path):
    shutil.copytree(CARDS / name, tmp_path / name)
    document = json.loads((tmp_path / name / file).read_text(encoding="utf-8"))
    number = {
        "generation.json": lambda: document["generated"]["judge"],
        "reconstruction.json": lambda: document["ceiling"],
        "audit.json": lambda: next(iter(document["autoencoders"].values()))["probe"],
    }[file]()
    number["accuracy"] += 0.05
    (tmp_path / name / file).write_text(json.dumps(document), encoding="utf-8")
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    rendered = render_card(_request(name, tmp_path / name)).text
    changed = [
        pair for pair in zip(card.splitlines(), rendered.splitlines(), strict=True) if len(set(pair)) > 1
    ]
    assert changed and len(changed) < 6


@pytest.mark.parametrize("name", NAMES)
def test_the_pictures_of_the_latents_show_the_numbers_of_the_audit(name):
    audit = json.loads((CARDS / name / "audit.json").read_text(encoding="utf-8"))
    report = next(iter(audit["autoencoders"].values()))
    for picture in pictures_of(report):
        assert read_digest(CARDS / name / picture) == digest(picture, report)
    shown = [CARDS / name / "audit.json", *(CARDS / name / picture for picture in pictures_of(report))]
    assert sum(path.stat().st_size for path in shown) < 600_000


@pytest.mark.parametrize("name", NAMES)
def test_what_a_card_links_to_and_names_is_there(name):
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", card) + re.findall(r'(?:src|href)="([^"]+)"', card)
    links += [entry["output"]["url"] for entry in ModelCard(card).data.widget]
    local = [unquote(link) for link in links if "://" not in link]
    assert len(local) > 20 and not [link for link in local if not (CARDS / link).is_file()]
    scripts = re.findall(r"training/[\w/]+\.(?:py|yaml)", card)
    assert scripts and not [path for path in scripts if not (ROOT / path).is_file()]


@pytest.mark.parametrize("name", NAMES)
def test_no_measured_number_was_written_by_hand(name):
    """`about.md` has its numbers from the JSON; shares and decimals outside of braces are typed ones."""
    text = (CARDS / name / "about.md").read_text(encoding="utf-8").partition("\n---\n")[2]
    prose = re.sub(
        r"```.*?```|\{\{.*?\}\}|\{%.*?%\}|https?://\S+|(?:CC-BY |Apache-)\d\.\d", "", text, flags=re.DOTALL
    )
    assert re.findall(r"\d+(?:\.\d+)?\s?%|\d+\.\d+", prose) == []
