"""Which clips are trained on, held out and generated for, and what is left out."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import ClassLabel
from probe_setup import RATE, make_waveform

from star_hf import write_audio
from star_hf.probe import ProbeSettings, open_clips


def _names(part):
    return {part.name(index) for index in range(len(part))}


def test_recordings_stay_together(make_rows, settings):
    clips = open_clips(make_rows(), settings, key_column="recording")
    keys = [{row["recording"] for row in part.rows} for part in (clips.training, clips.held_out)]
    assert not keys[0] & keys[1] and len(keys[1]) == math.ceil(0.34 * 6)
    assert len(clips.training) + len(clips.held_out) == 12
    other = open_clips(make_rows(), settings, key_column="recording")
    assert other.fingerprint == clips.fingerprint


def test_long_recordings_are_cut_into_clips_that_cover_them(make_rows, make_settings):
    rows = make_rows(2, seconds=(4.0, 3.4))
    clips = open_clips(rows, make_settings(max_seconds=1.5, held_out_fraction=0.5))
    (long,), (short,) = (
        [part for part in (clips.training, clips.held_out) if part.rows[0]["label"] == label]
        for label in ("tone", "noise")
    )
    assert [(span.start, span.seconds) for span in long.spans] == [(0, 1.5), (1.5, 1.5), (3.0, 1.0)]
    # 0.4 s at the end are less than half a clip
    assert [(span.start, span.seconds) for span in short.spans] == [(0, 1.5), (1.5, 1.5)]
    whole = make_waveform("tone", 4.0, 0)
    parts = torch.cat([long.read(index, RATE, 1) for index in range(3)], dim=1)
    assert torch.allclose(parts, whole, atol=1e-4)
    assert long.name(1).endswith("0.wav from 1.5 s")


def test_damaged_files_are_named_and_left_out(make_rows, settings, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    write_audio(tmp_path / "short.wav", torch.zeros(1, 100), RATE)
    extra = [
        {"audio": str(tmp_path / name), "label": "tone", "text": "", "recording": "9"}
        for name in ("broken.wav", "short.wav")
    ]
    clips = open_clips(make_rows(extra=extra), settings)
    assert len(clips.training) + len(clips.held_out) == 12
    assert sorted(bad.name.split("/")[-1] for bad in clips.bad_files) == ["broken.wav", "short.wav"]
    assert any("less than 0.5 s" in bad.reason for bad in clips.bad_files)


def test_captions_are_texts_else_labels_else_nothing(make_rows, settings):
    rows = make_rows()
    assert open_clips(rows, settings).training.captions[0][0] in ("a tone", "a noise")
    labels = open_clips(rows.remove_columns("text"), settings)
    assert {caption for (caption,) in labels.training.captions} == {"tone", "noise"}
    nothing = open_clips(rows.remove_columns(["text", "label"]), settings)
    assert not nothing.has_captions and nothing.training.labels[0] is None
    assert len({part.fingerprint for part in (labels, nothing)}) == 2
    numbers = rows.cast_column("label", ClassLabel(names=["tone", "noise"]))
    assert set(open_clips(numbers, settings).held_out.labels) <= {"tone", "noise"}


def test_prompts_take_turns_between_the_labels(clips):
    order = clips.prompts(len(clips.held_out))
    assert sorted(order) == list(range(len(clips.held_out)))
    assert [clips.held_out.labels[clip] for clip in order[:2]] != [clips.held_out.labels[order[0]]] * 2
    assert clips.prompts(3 * len(order)) == 3 * order


def test_the_number_of_clips_can_be_limited(make_rows, make_settings):
    clips = open_clips(make_rows(), make_settings(max_clips=6, held_out_fraction=0.5))
    assert len(clips.training) == len(clips.held_out) == 3


@pytest.mark.parametrize("argument", ["audio_column", "text_column", "label_column", "key_column"])
def test_a_column_that_is_not_there_is_refused(make_rows, settings, argument):
    with pytest.raises(ValueError, match=f"`{argument}` 'absent' is not in the data set, which has audio"):
        open_clips(make_rows(), settings, **{argument: "absent"})


def test_a_stream_and_unreadable_parts_are_refused(make_rows, settings, tmp_path):
    with pytest.raises(ValueError, match="not a stream"):
        open_clips(make_rows().to_iterable_dataset(), settings)
    rows = make_rows()
    for index in range(12):
        (tmp_path / f"{index}.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match="has 0 training clips that can be read, 2 are the least. .*wav"):
        open_clips(rows, settings, name="sounds")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generators": ("gan",)}, "`generators` must be one or more of star_gen, dit"),
        ({"generators": ("dit", "dit")}, "`generators`"),
        ({"budgets": (800, 200)}, "`budgets` must be ascending"),
        ({"budgets": ()}, "`budgets`"),
        ({"budgets": (0, 1)}, "`budgets` must be whole numbers >= 1, got 0"),
        ({"seeds": (1, 1)}, "`seeds` must be different"),
        ({"seeds": (-1,)}, "`seeds` must be whole numbers >= 0"),
        ({"batch_size": 0}, "`batch_size` must be a whole number >= 1, got 0"),
        ({"num_generated": 1}, "`num_generated` must be a whole number >= 2"),
        ({"metric_rate": 44100.5}, "`metric_rate`"),
        ({"learning_rate": math.nan}, "`learning_rate` must be a finite number > 0"),
        ({"guidance_scale": -1.0}, "`guidance_scale`"),
        ({"held_out_fraction": 0.0}, "`held_out_fraction` must be above 0 and below 1"),
        ({"caption_dropout": 1.0}, "`caption_dropout` must be at least 0 and below 1"),
        ({"hidden_size": 100}, "`hidden_size` must be an even multiple of `num_heads` 3"),
        ({"precision": "fp16"}, "`precision` must be one of bf16, float32"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ProbeSettings(**changes)


def test_settings_take_lists_and_single_values():
    settings = ProbeSettings(generators="dit", budgets=[5, 10], seeds=3)
    assert (settings.generators, settings.budgets, settings.seeds) == (("dit",), (5, 10), (3,))
    assert ProbeSettings(caption_dropout=0.0, ema_decay=0.0).caption_dropout == 0
