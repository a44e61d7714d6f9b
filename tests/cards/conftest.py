"""Measurements of a small model, as the measuring commands write them, and a place for its card."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from star_hf.cards import CardRequest

JUDGE = {
    "accuracy": 0.7654,
    "per_class": {"rain": 0.9, "sea_waves": 0.6308},
    "confusion": {"rain": {"rain": 9, "sea_waves": 1}, "sea_waves": {"rain": 4, "sea_waves": 6}},
    "num_clips": 20,
}
RUN = {
    "steps": 4321,
    "minutes": 12.3,
    "init_from": None,
    "losses": {"stft": 1.0, "waveform": 10.0},
    "regularizer": {"name": "star", "beta_min": 1e-4, "beta_max": 4e-4, "growth": "gamma", "gamma": 2.0},
}
ATTRIBUTION = """clip,title,author,license
1-100032-A.ogg,rose_bark.wav,nfrae,CC0
1-110389-A.ogg,"dog, springer|spaniel.wav",soundscalpel.com,CC-BY
"""
ABOUT = """---
license: cc-by-4.0
datasets: [sounds]
tags: [sound-effects]
---

Made for tests, from {{ generation.settings.real_clips }} recordings.

## Intended use and limits

Nothing but tests.

## A story of its own

It took {{ generation.pipeline.training.minutes | number(3) }} minutes.
"""


def generation() -> dict:
    return {
        "settings": {
            "dataset": "sounds",
            "real_clips": 318,
            "clips_per_class": 10,
            "seed": 1000,
            "seconds": 5.0,
            "steps": 24,
            "guidance": 3.0,
            "batch_size": 10,
            "prompts": {"rain": ["rain falling"], "sea_waves": ["sea waves", "waves"]},
        },
        "pipeline": {
            "parameters": {"model": 8800000, "vae": 4400000},
            "weights_mb": 26.4,
            "model": {"layers": 8, "hidden_size": 256, "attention_heads": 4, "vocabulary": 512},
            "vae": {
                "latent_channels": 64,
                "hop_length": 1024,
                "sampling_rate": 44100,
                "audio_channels": 2,
                "filterbank_bands": 32,
                "filterbank_type": "noise_excited",
                "linear_shortcut": True,
                "context_type": "mamba",
                "num_context_layers": 1,
            },
            "training": {**RUN, "regularizer": None, "losses": None, "steps": 9876, "minutes": 23.4},
        },
        "generated": {
            "judge": JUDGE,
            "silent_clips": 1,
            "novelty": {
                "generated_to_nearest": 0.61,
                "real_to_nearest": 0.72,
                "copy_distance": 0.41,
                "near_copies": 0.13,
                "near_copies_among_real": 0.11,
            },
        },
        "ceiling": {
            "real": {**JUDGE, "accuracy": 0.896},
            "through_vae": {**JUDGE, "accuracy": 0.853},
            "noise_vocoded": {**JUDGE, "accuracy": 0.817},
        },
        "chance": 0.5,
        "speed": {"seconds_per_clip_in_batches": 0.35, "seconds_single_clip": 0.77},
        "machine": {"architecture": "x86_64", "cpu_capability": "AVX512", "threads": 2, "gpu": None},
        "packages": {"torch": "2.13.0", "soxr": None},
        "command": "python training/evaluate_generator.py --data.source train",
    }


def reconstruction() -> dict:
    def measured(mean: float) -> dict:
        return {
            "class": "AutoencoderStar",
            "parameters": 4400000,
            "audio_channels": 2,
            "latent_channels": 64,
            "hop_length": 1024,
            "sampling_rate": 44100,
            "training": RUN,
            "stft_distance": {"mean": mean, "std": 0.31, "clips": 26},
            "mel_distance": {"mean": 1.27, "std": 0.22, "clips": 26},
            "si_sdr": {"mean": -3.41, "std": 5.2, "clips": 26},
            "latents": {"kl_per_eighth": [4.17, 3.28], "rate_kbps": 13.57},
            "judge": {**JUDGE, "accuracy": 0.848},
        }

    return {
        "settings": {"dataset": "sounds", "held_out_clips": 26},
        "autoencoders": {"star": measured(1.913), "isotropic": measured(1.957)},
        "ceiling": {**JUDGE, "num_clips": 318},
        "command": "python training/evaluate_autoencoder.py --data.source train",
    }


def audit() -> dict:
    def curve(*values: float) -> dict:
        return {"x": [1, 2], "stft": list(values), "mel": [2 * value for value in values]}

    noise = {"x": [0.0, 0.05, 0.1, 0.2, 0.5, 1.0], "stft": [1.1, 1.2, 1.3, 1.4, 1.5, 1.6], "mel": [2.0] * 6}
    return {
        "command": "star-hf audit model sounds/train -o measurements",
        "dataset": "sounds/train",
        "settings": {"max_clips": 24, "decoded_seconds": 5.0},
        "seed": 0,
        "versions": {"torch": "2.13.0"},
        "autoencoders": {
            "star": {
                "class": "AutoencoderStar",
                "sampling_rate": 44100,
                "audio_channels": 2,
                "hop_length": 1024,
                "parameters": 4400000,
                "num_clips": 24,
                "seconds": 120.0,
                "latents": {
                    "channels": 2,
                    "num_frames": 5184,
                    "profile": {
                        "kind": "KL",
                        "values": [5.44, 0.37],
                        "eighths": [5.44, 0.37],
                        "bits_per_frame": 8.38,
                        "rate_kbps": 4.561,
                        "head_tail_ratio": 14.7,
                        "rank_correlation": -1.0,
                        "falling_share": 1.0,
                    },
                    "effective_dimensions": 2,
                    "participation_ratio": 1.9,
                    "latent_correlation": 0.0643,
                    "local_predictability": 0.1471,
                    "spectral_decay": None,
                    "aggregate_kl_per_channel": 0.169,
                    "temporal_difference_ratio": 0.413,
                    "notes": ["No piece of audio was long enough."],
                },
                "decoder": {
                    "num_clips": 8,
                    "replaced_by": "0, the mean of the prior",
                    "truncation_head": curve(1.94, 1.11),
                    "truncation_tail": curve(3.47, 1.11),
                    "noise": noise,
                },
                "probe": {"accuracy": 0.25, "chance": 0.167},
            }
        },
    }


@pytest.fixture
def documents() -> dict[str, dict]:
    """The measurements by file name, to be changed at will and put into the folder by `put`."""
    return copy.deepcopy(
        {
            "generation.json": generation(),
            "reconstruction.json": reconstruction(),
            "audit.json": audit(),
        }
    )


@pytest.fixture
def put(tmp_path):
    """Write documents into the folder of measurements, in place of those that were there; returns it."""

    def write(documents: dict[str, dict]) -> Path:
        folder = tmp_path / "measured"
        folder.mkdir(exist_ok=True)
        for file in folder.glob("*.json"):
            file.unlink()
        for name, document in documents.items():
            (folder / name).write_text(json.dumps(document))
        return folder

    return write


@pytest.fixture
def request_card(put, documents, tmp_path):
    """A request for the card of these measurements, with `about.md` and a list of recordings."""
    folder = put(documents)
    (folder / "about.md").write_text(ABOUT)
    (folder / "ATTRIBUTION.csv").write_text(ATTRIBUTION)
    return CardRequest(folder, tmp_path / "measured.md", name="tiny", command="star-hf card measured")
