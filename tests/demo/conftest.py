"""Studios of tiny models, and clips to give them."""

from __future__ import annotations

import pytest


@pytest.fixture
def make_studio(tiny_pipeline_folder, tmp_path):
    """A `Studio` of the tiny pipeline (8 kHz stereo, hop 16, 4 latent channels); takes its keywords."""
    from star_hf import StarGenPipeline
    from star_hf.demo import Studio

    def make(**options):
        pipeline = StarGenPipeline.from_pretrained(tiny_pipeline_folder)
        folder = tmp_path / "files"
        folder.mkdir(exist_ok=True)
        return Studio(pipeline.vae, pipeline, folder=folder, name="tiny", **options)

    return make


@pytest.fixture
def studio(make_studio):
    return make_studio()


@pytest.fixture
def tone(tmp_path):
    """A second of a mono tone of 440 Hz at 16 kHz."""
    import torch

    from star_hf import write_audio

    samples = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
    return write_audio(tmp_path / "tone.wav", samples[None], 16000)
