"""`star-hf evaluate` on folders of tiny clips."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from star_hf import read_audio, write_audio
from star_hf.evaluation import band_errors, frechet_distance, kernel_audio_distance, si_sdr, stft_distance
from star_hf.evaluation.embedders import AudioEmbedder

RATE = 8000


def _noise(seed, seconds=0.6, channels=1):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, int(seconds * RATE), generator=generator)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three clips, and noisier copies of them in another format and a subfolder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real" / "rain").mkdir(parents=True)
    (tmp_path / "made" / "rain").mkdir(parents=True)
    for index, name in enumerate(("a", "b", "rain/c")):
        clip = _noise(index)
        write_audio(f"real/{name}.wav", clip, RATE)
        write_audio(f"made/{name}.flac", 1.2 * clip + (0.1 + 0.3 * index) * _noise(10 + index), RATE)
    (tmp_path / "real" / "metadata.csv").write_text("file_name\n")
    return tmp_path


@pytest.fixture
def evaluate(run_cli, folders):
    return lambda *arguments: run_cli("evaluate", "made", "real", "--device", "cpu", *arguments)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger")
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
        max_length=32,
        num_mel_bins=16,
        num_labels=3,
    )
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(max_length=32, num_mel_bins=16, sampling_rate=RATE).save_pretrained(folder)
    return folder


def _pair(name):
    return [read_audio(path)[0][None] for path in (f"made/{name}.flac", f"real/{name}.wav")]


def test_table_and_document_hold_means_and_deviations_over_clips(evaluate):
    result = evaluate("--metrics", "si_sdr,stft_distance", "--json", "out.json")
    assert result.code == 0, result.stderr
    document = json.loads(open("out.json").read())
    names = ["a", "b", "rain/c"]
    expected = [si_sdr(*_pair(name)).item() for name in names]
    row = document["metrics"]["si_sdr"]
    mean = sum(expected) / 3
    assert row["mean"] == pytest.approx(mean)
    assert row["std"] == pytest.approx(math.sqrt(sum((value - mean) ** 2 for value in expected) / 3))
    assert (row["clips"], row["unit"], row["better"]) == (3, "dB", "higher")
    assert [document["clips"][name]["si_sdr"] for name in names] == pytest.approx(expected)
    # The reference normalizes: swapped folders would give other numbers.
    distance = stft_distance(*_pair("a")).item()
    assert document["clips"]["a"]["stft_distance"] == pytest.approx(distance)
    assert abs(distance - stft_distance(*reversed(_pair("a"))).item()) > 0.01
    assert list(document["metrics"]) == ["si_sdr", "stft_distance"] and not document["errors"]
    line = next(line for line in result.stdout.splitlines() if "si_sdr" in line)
    assert f"{mean:.4f}" in line and "dB" in line and "higher" in line


def test_default_metrics(evaluate):
    result = evaluate()
    assert result.code == 0, result.stderr
    for name in ("stft_distance", "mel_distance", "si_sdr", "loudness_difference", "true_peak_difference"):
        assert name in result.stdout


def test_bands_have_a_row_each(evaluate):
    assert evaluate("--metrics", "band_errors", "--json", "out.json").code == 0
    metrics = json.loads(open("out.json").read())["metrics"]
    expected = band_errors(*_pair("b"), RATE)
    assert list(metrics)[0] == "band_error_0-250_hz" and list(metrics)[-1] == "band_bias_2000-4000_hz"
    clips = json.loads(open("out.json").read())["clips"]
    assert clips["b"]["band_bias_2000-4000_hz"] == pytest.approx(expected.bias[-1].item())
    assert metrics["band_bias_0-250_hz"]["better"] == "nearer to 0"


def test_unmatched_names_are_listed_and_refused(evaluate):
    write_audio("made/extra.wav", _noise(5), RATE)
    write_audio("real/other.wav", _noise(6), RATE)
    result = evaluate("--metrics", "si_sdr")
    assert result.code == 1 and not result.stdout
    assert "only in the predictions (1): extra; only in the references (1): other" in result.stderr
    result = evaluate("--metrics", "si_sdr", "--allow-unpaired", "--json", "out.json")
    assert result.code == 0 and "warning: only in the predictions (1): extra" in result.stderr
    document = json.loads(open("out.json").read())
    assert document["unpaired"] == {"predictions": ["extra"], "references": ["other"]}
    assert document["metrics"]["si_sdr"]["clips"] == 3


def test_bad_files_are_named_and_counted_and_the_others_measured(evaluate):
    open("made/b.flac", "w").write("not audio")
    write_audio("made/a.flac", _noise(0, seconds=0.5), RATE)
    result = evaluate("--metrics", "si_sdr", "--json", "out.json")
    assert result.code == 1 and "2 could not be measured" in result.stderr
    assert "error: a: `prediction` has 4000 samples and `reference` 4800" in result.stderr
    assert "error: made/b.flac: is not audio" in result.stderr
    document = json.loads(open("out.json").read())
    assert list(document["clips"]) == ["rain/c"] and len(document["errors"]) == 2


def test_conversions_are_done_only_when_asked(evaluate):
    write_audio("made/a.flac", _noise(0, seconds=0.5, channels=2), 2 * RATE)
    result = evaluate("--metrics", "si_sdr")
    assert result.code == 1 and "`prediction` is at 16000 Hz and `reference` at 8000 Hz" in result.stderr
    options = ("--resample", "reference", "--channels", "1", "--lengths", "reference")
    assert evaluate("--metrics", "si_sdr", *options).code == 0
    for option, value in (("--resample", "0"), ("--channels", "two"), ("--lengths", "longer")):
        result = evaluate(option, value)
        assert result.code == 2 and option in result.stderr


def test_a_clip_that_a_metric_refuses_is_told(evaluate):
    write_audio("real/a.wav", torch.zeros(1, 4800), RATE)
    result = evaluate("--metrics", "si_sdr,stereo_correlation_error", "--json", "out.json")
    assert result.code == 1
    assert "warning: si_sdr: no value for 1 clip(s), a for one: `reference` is silent" in result.stderr
    assert "error: stereo_correlation_error: no value for 3 clip(s)" in result.stderr
    document = json.loads(open("out.json").read())
    assert document["metrics"]["si_sdr"]["clips"] == 2 and "silent" in document["refused"]["si_sdr"]["a"]


def test_an_embedder_compares_the_sets(evaluate, tagger):
    write_audio("made/extra.wav", _noise(5), RATE)
    result = evaluate("--metrics", "none", "--embedder", tagger, "--json", "out.json")
    assert result.code == 0, result.stderr
    document = json.loads(open("out.json").read())
    embedder = AudioEmbedder.from_pretrained(tagger)
    made, real = (
        [read_audio(f"{folder}/{name}") for name in names]
        for folder, names in (
            ("made", ("a.flac", "b.flac", "extra.wav", "rain/c.flac")),
            ("real", ("a.wav", "b.wav", "rain/c.wav")),
        )
    )
    sets = [
        torch.cat([torch.from_numpy(rows) for rows in embedder.embed_clips(c)]).numpy() for c in (made, real)
    ]
    assert document["sets"]["frechet_distance"]["value"] == pytest.approx(frechet_distance(*sets), rel=1e-4)
    assert document["sets"]["kernel_audio_distance"]["value"] == pytest.approx(
        kernel_audio_distance(*sets), rel=1e-4, abs=1e-2
    )
    assert document["sets"]["frechet_distance"]["windows"] == {"predictions": 8, "references": 6}
    assert "frechet_infinity" not in document["sets"]  # quarters of 8 windows have fewer than 4 dimensions
    assert document["metrics"]["tag_divergence"]["clips"] == 3
    assert "8 / 6 windows" in result.stdout


def test_many_windows_are_extrapolated(evaluate, tagger):
    write_audio("made/long.wav", _noise(5, seconds=6), RATE)
    write_audio("real/long.wav", _noise(6, seconds=6), RATE)
    assert evaluate("--metrics", "none", "--embedder", tagger, "--json", "out.json").code == 0
    sets = json.loads(open("out.json").read())["sets"]
    assert sets["frechet_infinity"]["value"] < sets["frechet_distance"]["value"]


def test_wrong_usage_is_told_before_anything_is_measured(evaluate, run_cli, monkeypatch):
    monkeypatch.setattr("star_hf.evaluation.folder_evaluation.compare_clips", None)
    for arguments, code, message in [
        (("--metrics", "sdr"), 1, "`metrics` must be some of stft_distance"),
        (("--metrics", "none"), 2, "without --embedder"),
        (("--json", "nowhere/out.json"), 1, "nowhere/out.json: its folder does not exist"),
    ]:
        result = evaluate(*arguments)
        assert result.code == code and message in result.stderr and not result.stdout
    result = run_cli("evaluate", "made", "nowhere")
    assert result.code == 1 and "nowhere: is no folder" in result.stderr
    (open("real/a.flac", "wb")).close()
    result = evaluate()
    assert result.code == 1 and "real: a.flac and a.wav have one name, 'a'" in result.stderr


def test_missing_packages_are_named(evaluate, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openl3", None)
    monkeypatch.setitem(sys.modules, "pystoi", None)
    result = evaluate("--embedder", "openl3-env", "--metrics", "none")
    assert result.code == 1 and "FD_openl3 needs openl3" in result.stderr
    result = evaluate("--metrics", "stoi")
    assert result.code == 1 and "STOI needs pystoi: `pip install pystoi`" in result.stderr
