"""The whole probe of tiny autoencoders: the document, what is on disk, and going on from there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from probe_setup import RATE, LinearCodec

from star_hf import read_audio
from star_hf.probe import METRICS, Judge, assemble_document, codec_probe, probe_codec, run_probe
from star_hf.probe.records import Records, codec_fingerprint, file_name


@pytest.fixture
def judge(clips, settings):
    return Judge(clips, settings)


def _without_times(entry):
    return json.loads(
        json.dumps(entry),
        object_hook=lambda values: {
            key: value for key, value in values.items() if not key.endswith("_seconds")
        },
    )


def test_the_document_of_two_autoencoders_and_both_generators(clips, make_settings, tmp_path):
    settings = make_settings(generators=("star_gen", "dit"), seeds=(0, 3), metric_rate=None)
    codecs = {
        "linear": LinearCodec(std=0.0, constant=1),
        "a / b": LinearCodec(4, 0.0, "deterministic", seed=1),
    }
    shown = []

    def progress(description, total):
        from contextlib import contextmanager

        @contextmanager
        def show():
            steps = []
            yield lambda: steps.append(1)
            shown.append((description, len(steps), total))

        return show()

    document = run_probe(codecs, clips, settings, tmp_path, progress=progress)
    json.dumps(document, allow_nan=False)
    assert (
        document["settings"]["metric_rate"] == RATE and document["settings"]["embedder"] == "LogMelEmbedder"
    )
    assert document["settings"]["training_clips"] + document["settings"]["held_out_clips"] == 12
    assert document["metrics"] == METRICS and "torch" in document["versions"]
    assert list(document["autoencoders"]) == ["linear", "a / b"]

    entry = document["autoencoders"]["linear"]
    assert (entry["latent_channels"], entry["constant_channels"], entry["posterior"]) == (7, 1, "gaussian")
    assert entry["frame_rate"] == 20 and entry["parameters"] == 6 * 400
    for generator in ("star_gen", "dit"):
        report = entry["generators"][generator]
        assert report["generator_parameters"] > 0
        places = [(run["seed"], run["budget"]) for run in report["runs"]]
        assert places == [(0, 2), (0, 4), (3, 2), (3, 4)]
        for run in report["runs"]:
            assert METRICS.keys() <= run.keys() and len(run["relative_flow_loss_by_time"]) == 4
            assert run["relative_flow_loss"] > 0 and run["training_seconds"] > 0
            assert len(run["audio"]) == (2 if run["budget"] == 4 else 0)
        scores = {"frechet", "frechet_infinity", "kernel", "accuracy", "text_similarity", "silent_share"}
        assert scores <= report["reconstruction"].keys()
        # the transform keeps 6 of 400 dimensions, and still beats four steps of training
        assert report["reconstruction"]["frechet"] < min(run["frechet"] for run in report["runs"])
    audio = [path for run in entry["generators"]["dit"]["runs"] for path in run["audio"]]
    audio += entry["generators"]["dit"]["reconstruction"]["audio"] + document["real"]["audio"]
    assert len(set(audio)) == len(audio) == 2 * 2 + 2 + 2
    kept = clips.prompts(2)
    for path in document["real"]["audio"]:
        waveform, rate = read_audio(tmp_path / path)
        assert rate == RATE and waveform.shape[0] == 1
    lengths = {round(clips.held_out.spans[clip].seconds * RATE) for clip in kept}
    assert {read_audio(tmp_path / path)[0].shape[1] for path in audio} == lengths
    assert all(steps == total for _, steps, total in shown)
    assert not list(tmp_path.glob(".latents-*"))


def test_what_is_finished_is_not_done_again(clips, settings, judge, tmp_path, monkeypatch):
    first = probe_codec(LinearCodec(), "linear", clips, settings, tmp_path, judge=judge)

    def never(*arguments, **options):
        raise AssertionError("done again")

    with monkeypatch.context() as patch:
        for name in ("train", "encode_clips", "Judge"):
            patch.setattr(codec_probe, name, never)
        assert probe_codec(LinearCodec(), "linear", clips, settings, tmp_path) == first
    # another seed and another generator are added to what is there
    more = replace(settings, seeds=(0, 1), generators=("star_gen", "dit"))
    entry = probe_codec(LinearCodec(), "linear", clips, more, tmp_path, judge=judge)
    assert entry["generators"]["star_gen"]["runs"][:2] == first["generators"]["star_gen"]["runs"]
    assert len(entry["generators"]["dit"]["runs"]) == 4


def test_an_interrupted_probe_ends_as_an_uninterrupted_one(
    clips, make_settings, judge, tmp_path, monkeypatch
):
    settings = make_settings(seeds=(0, 1))
    whole = probe_codec(LinearCodec(), "linear", clips, settings, tmp_path / "whole", judge=judge)
    original, calls = codec_probe.validate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:  # at the larger budget of the second seed
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(codec_probe, "validate", interrupted)
        probe_codec(LinearCodec(), "linear", clips, settings, tmp_path / "cut", judge=judge)
    assert not list((tmp_path / "cut").glob(".latents-*"))
    seen = []
    monkeypatch.setattr(codec_probe, "validate", lambda *arguments: seen.append(1) or original(*arguments))
    resumed = probe_codec(LinearCodec(), "linear", clips, settings, tmp_path / "cut", judge=judge)
    assert len(seen) == 2
    assert _without_times(resumed) == _without_times(whole)


def test_a_folder_of_other_runs_is_refused(clips, make_rows, make_settings, judge, tmp_path):
    settings = make_settings()
    probe_codec(LinearCodec(), "linear", clips, settings, tmp_path, judge=judge)
    with pytest.raises(ValueError, match="autoencoder.json was made with another autoencoder: give another"):
        probe_codec(LinearCodec(seed=1), "linear", clips, settings, tmp_path, judge=judge)
    with pytest.raises(ValueError, match="made with `learning_rate` 0.001 instead of 0.01"):
        changed = replace(settings, learning_rate=0.01)
        probe_codec(LinearCodec(), "linear", clips, changed, tmp_path, judge=judge)
    fewer = replace(clips, training=replace(clips.training, captions=[["other"]] * len(clips.training)))
    with pytest.raises(ValueError, match="made with another data"):
        probe_codec(LinearCodec(), "linear", fewer, settings, tmp_path, judge=judge)


def test_entries_of_different_rates_are_not_compared(clips, settings, judge, tmp_path):
    entry = probe_codec(LinearCodec(), "linear", clips, settings, tmp_path, judge=judge)
    other = {**entry, "metric_rate": 4000}
    with pytest.raises(ValueError, match="'other' was judged at 4000 Hz, the others at 8000"):
        assemble_document({"linear": entry, "other": other}, clips, settings, judge, tmp_path)
    with pytest.raises(ValueError, match="`settings.metric_rate` is 4000"):
        probe_codec(LinearCodec(), "b", clips, replace(settings, metric_rate=4000), tmp_path, judge=judge)
    with pytest.raises(ValueError, match="`settings.embedder` is 'clap'"):
        probe_codec(LinearCodec(), "b", clips, replace(settings, embedder="clap"), tmp_path, judge=judge)
    with pytest.raises(ValueError, match="`codecs` is empty"):
        run_probe({}, clips, settings, tmp_path)


def test_a_data_set_without_text_is_generated_without_it(make_rows, settings, tmp_path):
    from star_hf.probe import open_clips

    clips = open_clips(make_rows().remove_columns(["text", "label", "recording"]), settings, name="sounds")
    document = run_probe({"linear": LinearCodec()}, clips, settings, tmp_path)
    run = document["autoencoders"]["linear"]["generators"]["star_gen"]["runs"][0]
    assert run["accuracy"] is None and run["frechet"] > 0
    assert document["prompts"] == [""] * 2


def test_an_autoencoder_of_the_package(clips, make_settings, tmp_path, tiny_autoencoder):
    from star_hf.audit import as_codec

    tiny_autoencoder.requires_grad_(False)
    settings = make_settings(budgets=(1,), num_generated=2, batch_size=2, validation_draws=1)
    document = run_probe({"star": tiny_autoencoder}, clips, settings, tmp_path)
    entry = document["autoencoders"]["star"]
    assert entry["class_name"] == "AutoencoderStar" and entry["frame_rate"] == 500
    fingerprint = codec_fingerprint(as_codec(tiny_autoencoder))
    next(tiny_autoencoder.decoder.parameters()).data += 1
    assert codec_fingerprint(as_codec(tiny_autoencoder)) != fingerprint


def test_names_become_different_folders():
    names = ["star", "a b", "a_b", "a/b", "../a", "..", "日本", "Star"]
    folders = [file_name(name) for name in names]
    assert len(set(folders)) == len(names) and folders[0] == "star"
    assert not any("/" in folder or folder.startswith(".") for folder in folders)


def test_records_are_complete_or_not_there(clips, settings, tmp_path):
    records = Records.of(tmp_path, "linear", LinearCodec(), clips, settings)
    assert records.load("star_gen-seed0") is None
    with pytest.raises(ValueError):
        records.save("star_gen-seed0", {"loss": float("nan")})
    assert records.load("star_gen-seed0") is None
    records.save("star_gen-seed0", {"loss": 0.5})
    assert records.load("star_gen-seed0") == {"loss": 0.5}
