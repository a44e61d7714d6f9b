"""The scripts' own modules, a fresh accelerate per test, and a tiny recording folder."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

TRAINING = Path(__file__).parents[2] / "training"
sys.path.insert(0, str(TRAINING))

TEXTS = {"low": "a low tone", "high": "a high tone", "noise": "white noise"}


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Nine clips of three kinds at 8 and 16 kHz, mono and stereo, with metadata.csv."""
    folder = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    rows = ["file_name,text,label,group"]
    for index in range(9):
        label = list(TEXTS)[index % 3]
        rate = 16000 if index == 1 else 8000
        time = np.arange(int(0.4 * rate)) / rate
        tone = np.sin(2 * np.pi * {"low": 220, "high": 1760, "noise": 0}[label] * time)
        samples = 0.3 * (random.standard_normal(len(time)) if label == "noise" else tone)
        if index == 4:
            samples = np.stack([samples, -0.5 * samples], axis=1)
        soundfile.write(folder / f"{index}.wav", samples, rate)
        rows.append(f"{index}.wav,{TEXTS[label]},{label},{index // 2}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def autoencoder_options(recordings, tmp_path):
    """Command line of a two-second autoencoder run; later options win."""

    def options(*more: str) -> list[str]:
        text = f"""
output_dir: {tmp_path / "autoencoder"}
max_steps: 4
log_every: 2
validate_every: 2
save_every: 2
threads: 1
report_to: []
model:
  encoder_hidden_size: 4
  decoder_channels: 4
  downsampling_ratios: [4, 8]
  channel_multiples: [1, 2]
  decoder_input_channels: 8
  sampling_rate: 8000
  context_type: none
data:
  source: {recordings}
  batch_size: 2
  validation_fraction: 0.2
  validation_key: group
  validation_seconds: 0.3
  crops: {{num_samples: 2048, gain_db: 3, channel_gain_db: 3, swap_channels: true, silence_db: -60}}
losses: {{stft: 1.0, waveform: 1.0, kl: 1.0}}
stft: {{fft_sizes: [256, 64]}}
regularizer: {{name: star, warmup_steps: 2}}
posterior_noise: {{start_step: 1, warmup_steps: 2}}
optimizer: {{learning_rate: 1e-3, warmup_steps: 1}}
"""
        recipe = tmp_path / "autoencoder.yaml"
        recipe.write_text(text)
        return ["--config", str(recipe), *more]

    return options


@pytest.fixture(scope="session")
def exported_autoencoder(tmp_path_factory):
    import torch

    from star_hf import AutoencoderStar

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderStar(
        encoder_hidden_size=4,
        decoder_channels=4,
        downsampling_ratios=[4, 8],
        channel_multiples=[1, 2],
        decoder_input_channels=8,
        sampling_rate=8000,
        context_type="none",
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def encode_options(exported_autoencoder, recordings, tmp_path):
    """Command line that encodes the recordings to `tmp_path / "latents"`; later options win."""

    def options(*more: str) -> list[str]:
        own = {
            "vae": exported_autoencoder,
            "source": recordings,
            "output_dir": tmp_path / "latents",
            "keep_columns": "[label, group]",
        }
        return [text for key, value in own.items() for text in (f"--{key}", str(value))] + list(more)

    return options


GENERATOR = """
max_steps: 3
log_every: 1
validate_every: 2
save_every: 2
threads: 1
report_to: []
text_config:
  hidden_size: 32
  intermediate_size: 32
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 1
  head_dim: 16
model: {default_audio_length_in_s: 0.3, time_embedding_dim: 8}
vocab_size: 300
data: {share_captions_by: label, captions: {low: [a deep hum]}, batch_size: 4, validation_key: group}
export_dtype: float16
"""


@pytest.fixture
def generator_options(exported_autoencoder, tmp_path):
    """Command line of a three-step generator run on `tmp_path / "latents"`; later options win."""

    def options(*more: str) -> list[str]:
        recipe = tmp_path / "generator.yaml"
        recipe.write_text(GENERATOR)
        own = {
            "config": recipe,
            "output_dir": tmp_path / "generator",
            "vae": exported_autoencoder,
            "data.source": tmp_path / "latents",
        }
        return [text for key, value in own.items() for text in (f"--{key}", str(value))] + list(more)

    return options
