"""The judge: real clips are the nearest to real clips, and what cannot be told is None."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from probe_setup import RATE, make_waveform

from star_hf.evaluation.log_mel_embedder import LogMelEmbedder
from star_hf.probe import Judge, open_clips


@pytest.fixture
def judge(clips, settings):
    return Judge(clips, settings)


def _held_out(clips):
    indices = list(range(len(clips.held_out)))
    return [clips.held_out.read(index, RATE, 1) for index in indices], indices


def test_real_clips_are_nearer_than_others_and_have_their_labels(judge, clips):
    real, indices = _held_out(clips)
    scores = judge.score(real, RATE, indices)
    swapped = [make_waveform("noise", 1.0, 100 + index) * 0.01 for index in indices]
    others = judge.score(swapped, RATE, indices)
    assert scores.frechet < 0.3 * others.frechet and scores.kernel < others.kernel
    assert scores.accuracy == 1.0 == judge.describe()["accuracy"] and others.accuracy < 1
    assert scores.silent_share == 0 and scores.text_similarity is None
    # few windows: their extrapolation would mean nothing
    assert scores.frechet_infinity is None
    assert judge.describe()["dimensions"] == 64


def test_enough_windows_are_extrapolated(clips, settings, monkeypatch):
    monkeypatch.setattr("star_hf.probe.judge.load_embedder", lambda name, device: LogMelEmbedder(bands=2))
    judge = Judge(clips, replace(settings, embedder="small"))
    waveforms = [make_waveform(("tone", "noise")[i % 2], 1.0, 50 + i) for i in range(24)]
    scores = judge.score(waveforms, RATE, [0] * len(waveforms))
    assert scores.frechet_infinity is not None and scores.frechet_infinity != scores.frechet
    assert judge.score(waveforms[:8], RATE, [0] * 8).frechet_infinity is None


def test_silence_and_what_is_not_finite_are_counted_and_punished(judge, clips):
    real, indices = _held_out(clips)
    broken = [waveform.clone() for waveform in real]
    broken[0][:] = torch.nan
    broken[1] *= 1e-4
    scores = judge.score(broken, RATE, indices)
    assert scores.silent_share == 2 / len(real)
    assert scores.frechet > judge.score(real, RATE, indices).frechet
    assert np.isfinite(scores.frechet)


def test_what_exceeds_full_scale_is_heard_as_a_file_would_be(judge, clips):
    real, indices = _held_out(clips)
    loud = judge.score([100 * waveform for waveform in real], RATE, indices)
    square = judge.score([(100 * waveform).clamp(-1, 1) for waveform in real], RATE, indices)
    assert loud.frechet == square.frechet


def test_channels_and_rates_are_brought_to_the_judge_s(judge, clips):
    real, indices = _held_out(clips)
    stereo = [waveform.repeat(2, 1) for waveform in real]
    assert judge.score(stereo, RATE, indices).frechet == judge.score(real, RATE, indices).frechet
    slow = judge.score(real, RATE // 2, indices)
    assert slow.frechet > judge.score(real, RATE, indices).frechet


def test_without_labels_or_captions_there_is_no_accuracy(make_rows, settings):
    for columns in (["label"], ["label", "text"]):
        clips = open_clips(make_rows().remove_columns(columns), settings)
        judge = Judge(clips, settings)
        real, indices = _held_out(clips)
        assert judge.score(real, RATE, indices).accuracy is None
        assert judge.describe()["accuracy"] is None


def test_a_model_that_embeds_text_tells_how_near_it_is(clips, settings, monkeypatch):
    class TextEmbedder:
        tokenizer = object()

        def embed_clips(self, waveforms):
            noisy = [waveform.diff().std() > waveform.std() for waveform, _ in waveforms]
            return [np.eye(2)[[int(noise)] * 2] + 0.01 * index for index, noise in enumerate(noisy)]

        def embed_text(self, texts):
            return np.stack([np.eye(2)[int(text == "a noise")] for text in texts])

    monkeypatch.setattr("star_hf.probe.judge.load_embedder", lambda name, device: TextEmbedder())
    judge = Judge(clips, replace(settings, embedder="clap"))
    assert judge.embedder_name == "clap"
    real, indices = _held_out(clips)
    assert judge.score(real, RATE, indices).text_similarity > 0.9
    assert judge.score(real[::-1], RATE, indices).text_similarity < 0.9


def test_the_rate_must_be_known_and_the_embedder_must_embed(clips, settings, monkeypatch):
    with pytest.raises(ValueError, match="`settings.metric_rate` must be given"):
        Judge(clips, replace(settings, metric_rate=None))
    monkeypatch.setattr("star_hf.probe.judge.load_embedder", lambda name, device: object())
    with pytest.raises(ValueError, match="`settings.embedder` 'passt' gives no embeddings"):
        Judge(clips, replace(settings, embedder="passt"))
