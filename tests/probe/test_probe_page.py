"""The page of a probe: its numbers, its links, and that it stands alone."""

from __future__ import annotations

import json

import pytest
import torch
from probe_documents import make_document

from html_checks import check_page
from star_hf import write_audio
from star_hf.probe.listening import drawn_clips, kept_clips
from star_hf.probe.page import write_page, write_report
from star_hf.probe.page_tables import ranking_html
from star_hf.probe.ranking import RunTable, rank

VALUES = {"ours & <yours>": {2: [1.0, 2.0], 4: [1.5, 1.75]}, "other": {2: [3.0, 4.0], 4: [1.0, 4.0]}}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A ranked document and the folder of its report; one clip has a name that a link must quote."""
    folder = tmp_path_factory.mktemp("report")
    document = make_document(VALUES)
    files = []
    for name in ("real/00.flac", "ours/a dog? #1.flac", "other/00.flac", "other/reconstruction.flac"):
        path = folder / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, 0.1 * torch.randn(1, 8000), 8000)
        files.append(f"audio/{name}")
    document |= {"prompts": ["a dog & a cat"], "real": {"audio": files[:1]}}
    for report, own in zip(document["autoencoders"].values(), ([files[1]], [files[2]]), strict=True):
        for run in report["generators"]["star_gen"]["runs"]:
            run["audio"] = own
    document["autoencoders"]["other"]["generators"]["star_gen"]["reconstruction"]["audio"] = files[3:]
    document["bad_files"] = [{"name": "broken.wav", "reason": "no audio"}]
    ranked = rank(document)
    write_report(ranked, folder)
    return ranked, folder


def test_the_page_stands_alone(report):
    _, folder = report
    page = (folder / "index.html").read_text()
    links = ("audio/real/00.flac", "audio/ours/a%20dog%3F%20%231.flac", "audio/other/00.flac")
    check_page(page, [*links, "audio/other/reconstruction.flac"])
    assert page.count("<audio") == 4 and "ours &amp; &lt;yours&gt;" in page and "<yours>" not in page
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["audio", "index.html", "probe.json", "ranking.png", "spectrograms.png"]


def test_the_page_has_the_numbers_of_the_json(report):
    document, folder = report
    page = (folder / "index.html").read_text()
    assert json.loads((folder / "probe.json").read_text()) == document
    for ranking in document["ranking"]["star_gen"]:
        for order in ranking["metrics"].values():
            for place in order["order"]:
                assert f"{place['mean']:.4g}<small>{place['min']:.4g} to {place['max']:.4g}</small>" in page
    for facts in (document["metrics"][metric] for metric in ("relative_flow_loss", "frechet", "accuracy")):
        assert f"{facts['title']} {'↓' if facts['better'] == 'less' else '↑'}" in page
        assert facts["definition"] in page
    assert "cannot be told from 2 autoencoders" in page and "broken.wav: no audio" in page
    assert "a dog &amp; a cat" in page and "versions" in page


def test_bold_are_the_best_and_those_undecided_against_it():
    values = {"a": {4: [1.0, 3.0]}, "b": {4: [2.5, 2.6]}, "c": {4: [8.0, 9.0]}}
    html = ranking_html(RunTable(rank(make_document(values)), "star_gen"))
    (row,) = [row for row in html.split("</tr>") if "<small>8 to 9</small>" in row]
    assert row.count('class="number best"') == 2 and "<small>a ≈ b</small>" in row


def test_two_generators_have_a_part_each(tmp_path):
    values = {"ours": {4: {"frechet": [1.0]}}, "other": {4: {"frechet": [2.0]}}}
    document, other = make_document(values), make_document(values, generator="dit")
    for name, report in document["autoencoders"].items():
        report["generators"] |= other["autoencoders"][name]["generators"]
    page = write_page(rank(document), tmp_path / "page.html").read_text()
    check_page(page)
    assert "<h2>Ranking: STAR-Gen</h2>" in page and "<h2>Ranking: DiT</h2>" in page


def test_little_is_a_page_too(tmp_path):
    """One seed and one budget, an autoencoder without a value, and no clips."""
    values = {"ours": {4: [1.0]}, "other": {4: {"relative_flow_loss": [0.5], "frechet": [None]}}}
    page = write_report(rank(make_document(values)), tmp_path).read_text()
    check_page(page)
    assert "Listen" not in page and not (tmp_path / "spectrograms.png").exists()


def test_clips_that_cannot_be_read_are_not_drawn(tmp_path):
    write_audio(tmp_path / "there.wav", torch.zeros(1, 800), 8000)
    document = make_document({"ours": {4: [1.0]}}, audio=("there.wav", "gone.wav"))
    document["real"] = {"audio": ["gone.wav", "there.wav"]}
    assert kept_clips(document) == {
        "real": ["gone.wav", "there.wav"],
        "ours, generated": ["there.wav", "gone.wav"],
    }
    assert {name: len(row) for name, row in drawn_clips(document, tmp_path).items()} == {"ours, generated": 1}
