"""A small data set of tones and noises, and the least of settings."""

from __future__ import annotations

import pytest
from datasets import Audio, Dataset
from probe_setup import RATE, make_waveform

from star_hf import write_audio
from star_hf.probe import ProbeSettings, open_clips


@pytest.fixture
def make_rows(tmp_path):
    def make(number=12, seconds=(0.8, 1.0), extra=()):
        rows = []
        for index in range(number):
            label = ("tone", "noise")[index % 2]
            waveform = make_waveform(label, seconds[index % len(seconds)], index)
            path = write_audio(tmp_path / f"{index}.wav", waveform, RATE)
            rows.append(
                {"audio": str(path), "label": label, "text": f"a {label}", "recording": str(index // 2)}
            )
        return Dataset.from_list([*rows, *extra]).cast_column("audio", Audio(decode=False))

    return make


@pytest.fixture
def make_settings():
    def make(**changes):
        tiny = {
            "budgets": (2, 4),
            "seeds": (0,),
            "batch_size": 4,
            "held_out_fraction": 0.34,
            "num_generated": 4,
            "sampling_steps": 2,
            "guidance_scale": 2.0,
            "hidden_size": 32,
            "num_heads": 2,
            "num_layers": 1,
            "vocab_size": 280,
            "warmup_steps": 2,
            "kept_clips": 2,
            "precision": "float32",
            "metric_rate": RATE,
        }
        return ProbeSettings(**{**tiny, **changes})

    return make


@pytest.fixture
def settings(make_settings):
    return make_settings()


@pytest.fixture
def clips(make_rows, settings):
    return open_clips(make_rows(), settings, name="sounds", key_column="recording")
