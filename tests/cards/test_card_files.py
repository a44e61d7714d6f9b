"""The files that a card shows: links that lead somewhere, players, pictures of the right numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from star_hf.cards import check_card, render_card, write_card
from star_hf.cards.pictures import digest, draw_pictures, read_digest


@pytest.fixture
def with_examples(request_card):
    """Examples of both classes, a picture, and a class without prompt."""
    (request_card.folder / "examples").mkdir()
    for name in ("rain.flac", "sea_waves.flac", "unknown.flac"):
        (request_card.folder / "examples" / name).write_bytes(name.encode())
    (request_card.folder / "spectrograms.png").write_bytes(b"picture")
    return request_card


def _links(text: str) -> set[str]:
    links = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return {unquote(link) for link in links if "://" not in link}


def test_links_lead_to_files_below_the_card(with_examples):
    write_card(with_examples)
    text = with_examples.target.read_text()
    links = _links(text)
    assert "measured/examples/rain.flac" in links and "measured/audit_truncation.png" in links
    assert not [link for link in links if not (with_examples.target.parent / link).is_file()]
    assert not (with_examples.target.parent / "card").exists()
    data = ModelCard(text).data
    assert data.widget[0] == {"text": "rain falling", "output": {"url": "measured/examples/rain.flac"}}


def test_examples_have_their_prompt_and_seed(with_examples):
    text = render_card(with_examples).text
    assert '| rain falling | 1000 | <audio controls src="measured/examples/rain.flac">' in text
    assert '| sea waves | 1010 | <audio controls src="measured/examples/sea_waves.flac">' in text
    assert "unknown" not in text


def test_a_card_elsewhere_takes_along_what_it_shows(with_examples, tmp_path):
    model = tmp_path / "a model"
    card = replace(with_examples, target=model / "README.md", repo_id="somebody/tiny")
    write_card(card)
    text = card.target.read_text()
    player = "https://huggingface.co/somebody/tiny/resolve/main/card/examples/rain.flac"
    assert f'<audio controls src="{player}"><a href="{player}">' in text
    assert not [link for link in _links(text) if not (model / link).is_file()]
    copied = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert copied == {
        "README.md",
        *(f"card/{name}.json" for name in ("audit", "generation", "reconstruction")),
        *(f"card/{name}.png" for name in ("audit_profile", "audit_truncation", "spectrograms")),
        *(f"card/examples/{name}.flac" for name in ("rain", "sea_waves")),
    }
    write_card(card)  # over its own


def test_a_file_that_is_no_card_is_not_replaced(request_card):
    request_card.target.write_text("# Something else\n")
    with pytest.raises(ValueError, match="is there and is no card"):
        write_card(request_card)
    assert request_card.target.read_text() == "# Something else\n"


def test_a_picture_of_other_numbers_is_found_out(request_card, documents, put):
    write_card(request_card)
    check_card(request_card)
    (report,) = documents["audit.json"]["autoencoders"].values()
    report["latents"]["profile"]["values"][0] += 1.0  # which no table shows
    put(documents)
    with pytest.raises(ValueError, match=r"audit_profile\.png: shows other numbers than audit\.json"):
        check_card(request_card)


def test_pictures_carry_the_numbers_that_they_show(documents, tmp_path):
    (report,) = documents["audit.json"]["autoencoders"].values()
    drawn = draw_pictures(report, tmp_path)
    assert sorted(path.name for path in drawn) == ["audit_profile.png", "audit_truncation.png"]
    for path in drawn:
        assert read_digest(path) == digest(path.name, report)
        with Image.open(path) as image:
            assert len(set(image.convert("L").resize((64, 32)).tobytes())) > 10, "nothing is drawn"
    assert draw_pictures(report, tmp_path) == [], "what is up to date is left alone"
    report["decoder"]["truncation_tail"]["stft"][0] += 0.01
    assert [path.name for path in draw_pictures(report, tmp_path)] == ["audit_truncation.png"]
    (tmp_path / "audit_profile.png").write_bytes(b"no picture")
    assert [path.name for path in draw_pictures(report, tmp_path)] == ["audit_profile.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit_profile.png", "audit_truncation.png"]


@pytest.mark.parametrize("kind", ["capacity", "variance"])
def test_profiles_of_any_kind_and_width_can_be_drawn(documents, tmp_path, kind):
    (report,) = documents["audit.json"]["autoencoders"].values()
    report["decoder"] = None
    report["latents"]["profile"] |= {"kind": kind, "values": [*range(19)], "eighths": [*range(8)]}
    (path,) = draw_pictures(report, tmp_path)
    assert Path(path).stat().st_size > 1000
