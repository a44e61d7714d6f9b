"""The table and the page come from the JSON."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def page(load):
    return load("page")


def line_of(text, *words):
    (line,) = [
        line for line in text.splitlines() if line.startswith("|") and all(word in line for word in words)
    ]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_says_what_the_json_says(page, faster, write_row):
    measurement = faster(
        ours=0.5, peer=1.5, target="codec float32", share=0.25, our_bytes=3 << 20, peer_bytes=2 << 30
    )
    folder = write_row("decode", [measurement])
    line = line_of(page.write_page(folder).read_text(), "decode, float32", "peer")
    assert line == [
        *("decode, float32", "peer", "float32", "500 ms", "1.5 s", "3.00x", "25%"),
        *("3.0 MiB : 2.00 GiB", "≥ 2.5x", "met"),
    ]

    path = folder / "decode.json"
    document = json.loads(path.read_text())
    document["measurements"][0].update(ours=1.0, ratio=1.5)
    path.write_text(json.dumps(document))
    line = line_of(page.write_page(folder).read_text(), "decode, float32", "peer")
    assert (line[3], line[5], line[-1]) == ("1 s", "1.50x", "not met")


def test_what_is_not_met_is_held_against_what_the_machine_allows(page, faster, write_row):
    slow = faster(ours=1.0, peer=2.0, target="codec float32", share=0.8)
    good = faster("encode, float32", ours=1.0, peer=3.0, target="codec float32", share=0.9)
    text = page.Page(write_row("decode", [slow, good])).render()
    (line,) = [line for line in text.splitlines() if "At the full rate" in line]
    assert line.endswith("at most: decode, float32, cpu, 2.50x.")
    assert "At the full rate" not in page.Page(write_row("decode", [good])).render()


def test_cpu_and_gpu_stand_side_by_side(page, faster, write_row):
    cpu = faster(
        "decode, bfloat16", ours=1.0, peer=5.0, precision="bfloat16", target="codec bfloat16", share=0.5
    )
    gpu = faster(
        "decode, bfloat16", ours=0.01, peer=0.03, precision="bfloat16", device="cuda", target="codec gpu"
    )
    assert "GPU: ours" not in page.Page(write_row("decode", [cpu])).render()
    folder = write_row("decode", [cpu, gpu], machine={"gpu": "A GPU", "cuda": "12.8"})
    text = page.Page(folder).render()
    header = line_of(text, "CPU: ours", "GPU: ours")
    line = dict(zip(header, line_of(text, "| decode, bfloat16 | peer |"), strict=True))
    assert (line["CPU: ours"], line["GPU: ours"]) == ("1 s", "10 ms")
    assert (line["CPU: verdict"], line["GPU: verdict"]) == ("met", "met")
    assert line["GPU: target"] == "≥ 2x"
    assert "A GPU, CUDA 12.8" in text


def test_every_target_has_a_verdict_with_and_without_numbers(page, load, faster, write_row):
    folder = write_row("decode", [faster(peer=3.0, target="codec float32")])
    folder = write_row("memory", error="tiled encode differs from untiled by 1.0e-02")
    text = page.Page(folder).render()
    targets = text.split("## Targets")[1].split("\n## ")[0]
    verdicts = [
        line_of(targets, f"| {target.what} | {target.peer_name} |")[-1]
        for target in [
            load("targets").TARGETS[name] for name in ("codec float32", "memory", "pipeline", "prefix 64")
        ]
    ]
    assert verdicts == ["met", "refused", "needs a GPU", "not measured"]
    assert len(targets.strip().splitlines()) == 2 + len(load("targets").TARGETS)
    assert "**memory** did not measure: tiled encode differs from untiled by 1.0e-02" in text
    # the same in the table, where no number is
    assert line_of(text.split("## Targets")[0], "whole pipeline, Qwen3-0.6B")[-1] == "needs a GPU"


def test_machine_setting_rates_and_remarks_are_stated(page, faster, write_row):
    folder = write_row(
        "decode",
        [faster(error=2e-6)],
        setting={"threads": 2, "warm_up": "one call"},
        rates={"cpu float32": 2.5e11},
        remarks=["A remark."],
        others_share=0.3,
    )
    text = page.Page(folder).render()
    for part in (
        "2 cores of A Processor, x86_64 (avx512f, avx512_bf16), 16 GiB; no GPU; Linux, Python 3.11.0",
        "250 GFLOP/s (cpu float32)",
        "threads 2, warm up one call",
        "| 2.0e-06 | 1.5 |",
        "- A remark.",
        "other work took of its cores: decode 30%",
    ):
        assert part in text


def test_a_page_of_tiny_models_says_so(page, faster, write_row):
    assert "Tiny models" not in page.Page(write_row("decode", [faster()], origin={"tiny": False})).render()
    assert "**Tiny models" in page.Page(write_row("decode", [faster()], origin={"tiny": True})).render()


OPTION = {
    "option": "compiled",
    "how": "pipe.vae.compile()",
    "subject": "decode, 5 s",
    "device": "cpu",
    "precision": "float32",
    "reason": None,
    "default_seconds": 2.0,
    "seconds": 1.0,
    "ratio": 2.0,
    "default_bytes": 1 << 30,
    "bytes": 1 << 30,
    "first_call_seconds": 60.0,
    "error": 1e-6,
    "spectral_distance": 0.25,
}


def test_options_are_listed_and_those_that_do_not_help_once_more(page, write_row):
    useless = {**OPTION, "option": "useless", "seconds": 1.95, "ratio": 2.0 / 1.95}
    frugal = {**useless, "option": "frugal", "bytes": 1 << 29}
    absent = {**OPTION, "option": "absent", "reason": "a package is not installed", "seconds": None}
    text = page.Page(write_row("options", options=[OPTION, useless, frugal, absent])).render()
    assert line_of(text, "compiled |", "2.00x")[-3:] == ["60 s", "1.0e-06", "0.250"]
    assert line_of(text, "| absent")[-1] == "a package is not installed"
    without_help = text.split("## What did not help")[1].split("\n## ")[0]
    assert without_help.strip() == (
        "- useless (`pipe.vae.compile()`), decode, 5 s, cpu: 1.03x the speed, 1.00x the memory."
    )


def test_a_change_that_was_tried_keeps_its_number(page, load, faster, write_row, tmp_path):
    tried = load("tried")
    recorded = [faster(ours=2.0), faster("other", ours=1.0), faster("rate", ours=10.0, unit="/s")]
    folder = write_row("decode", recorded)
    changed = [faster(ours=2.5), faster("rate", ours=20.0, unit="/s")]
    entries = tried.remember(folder, "blocks of half the size", recorded, changed)
    assert [(entry["what"], entry["ratio"]) for entry in entries] == [("decode, float32", 0.8), ("rate", 2.0)]
    tried.remember(folder, "another", recorded, [faster(ours=1.0)])
    text = page.Page(folder).render()
    assert "- blocks of half the size: decode, float32 (cpu), 2 s without it, 2.5 s with it, 0.80x.\n" in text
    assert "- another: " in text
    with pytest.raises(ValueError, match="nothing to hold it against"):
        tried.remember(folder, "nothing", recorded, [faster("unknown")])


def test_json_that_is_none_is_refused_by_name(page, write_row, tmp_path):
    with pytest.raises(ValueError, match="holds no measurements yet"):
        page.Page(tmp_path / "nowhere")
    folder = write_row("decode")
    (folder / "decode.json").write_text("{")
    with pytest.raises(ValueError, match="decode.json.* is not valid JSON"):
        page.Page(folder)
    folder = write_row("decode", machine={})
    document = json.loads((folder / "decode.json").read_text())
    document["measurements"] = [{"unknown": 1}]
    (folder / "decode.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="measurements of another version"):
        page.Page(folder)


def test_the_published_page_is_what_its_json_renders_to(page):
    folder = Path(__file__).parents[2] / "docs" / "benchmarks"
    if not folder.is_dir():
        pytest.skip("nothing has been measured yet")
    published = page.Page(folder)
    assert folder.with_suffix(".md").read_text(encoding="utf-8") == published.render()
    assert not any(document["origin"]["tiny"] for document in published.documents.values())
