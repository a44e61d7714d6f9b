"""Small models with random weights, under the names that pages give to real ones.

`FOLDERS` are folders that a page may name without having made them: placeholders such as `path/to/vae`, and
what another page makes. `REPOSITORIES` are names on the Hub. Each has a function that writes the folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

Write = Callable[[Path, "Lender"], None]
CAPTIONS = ["rain falling", "a rooster crowing", "a clock ticking"]
#: 44.1 kHz stereo, hop 512, 8 latent channels.
AUTOENCODER = {
    "encoder_hidden_size": 4,
    "decoder_channels": 4,
    "downsampling_ratios": [4, 8, 16],
    "channel_multiples": [1, 2, 4],
    "decoder_input_channels": 8,
}
TINY_QWEN3 = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


class Lender:
    """Makes what it is asked for once, below `place`.

    Args:
        place: an empty folder.
        recordings: a folder of audio files with metadata.csv.
    """

    def __init__(self, place: Path, recordings: Path) -> None:
        self.place, self.recordings = place, recordings
        self._made: dict[str, Path] = {}

    def __call__(self, name: str) -> Path:
        """The folder of what `FOLDERS` or `REPOSITORIES` has under this name."""
        if name not in self._made:
            import torch

            folder = self.place / name.replace("/", "--")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                (FOLDERS.get(name) or REPOSITORIES[name])(folder, self)
            self._made[name] = folder
        return self._made[name]


def _tokenizer(padding_side: str = "left"):
    from star_hf.generation.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(CAPTIONS, 280)
    tokenizer.padding_side = padding_side
    return tokenizer


def write_autoencoder(folder: Path, lender: Lender) -> None:
    """An `AutoencoderStar`."""
    from star_hf import AutoencoderStar

    AutoencoderStar(**AUTOENCODER, context_type="none").save_pretrained(folder)


def write_pipeline(folder: Path, lender: Lender) -> None:
    """A `StarGenPipeline`."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from transformers import Qwen3Config

    from star_hf import AutoencoderStar, StarGenConfig, StarGenModel, StarGenPipeline

    tokenizer = _tokenizer()
    config = StarGenConfig(
        text_config=Qwen3Config(vocab_size=len(tokenizer), **TINY_QWEN3),
        latent_channels=8,
        frame_rate=44100 / 512,
        sampling_rate=44100,
        time_embedding_dim=8,
        default_audio_length_in_s=1.0,
    )
    StarGenPipeline(
        vae=AutoencoderStar(**AUTOENCODER, context_type="none"),
        model=StarGenModel(config),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder)


def write_stable_audio(folder: Path, lender: Lender) -> None:
    """A `StableAudioPipeline` with diffusers' own autoencoder, as Stable Audio Open's repository has it."""
    from diffusers import (
        AutoencoderOobleck,
        EDMDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
        StableAudioProjectionModel,
    )
    from transformers import T5Config, T5EncoderModel

    tokenizer = _tokenizer("right")
    tokenizer.model_max_length = 8
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformer = StableAudioDiTModel(
        sample_size=86,
        in_channels=8,
        out_channels=8,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        cross_attention_dim=4,
        cross_attention_input_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
    )
    StableAudioPipeline(
        vae=AutoencoderOobleck(**AUTOENCODER | {"encoder_hidden_size": 16}),
        text_encoder=T5EncoderModel(config),
        projection_model=StableAudioProjectionModel(16, conditioning_dim=4, min_value=0, max_value=32),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=EDMDPMSolverMultistepScheduler(solver_order=2, prediction_type="v_prediction"),
    ).save_pretrained(folder)


def write_qwen3(folder: Path, lender: Lender) -> None:
    """A language model with its tokenizer."""
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = _tokenizer()
    Qwen3Model(Qwen3Config(vocab_size=len(tokenizer), **TINY_QWEN3)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_t5(folder: Path, lender: Lender) -> None:
    """A text encoder with its tokenizer."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = _tokenizer("right")
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_audio_teacher(folder: Path, lender: Lender) -> None:
    """An Audio Spectrogram Transformer with its feature extractor."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=128,
        num_mel_bins=16,
    )
    ASTModel(config).save_pretrained(folder)
    ASTFeatureExtractor(max_length=128, num_mel_bins=16).save_pretrained(folder)


def write_embedded(folder: Path, lender: Lender) -> None:
    """The checkpoint of the package."""
    from star_hf import embedded_checkpoint

    shutil.copytree(embedded_checkpoint(), folder)


def write_recordings(folder: Path, lender: Lender) -> None:
    """Audio files with metadata.csv."""
    shutil.copytree(lender.recordings, folder)


def write_shards(folder: Path, lender: Lender) -> None:
    """The recordings in two Parquet files."""
    from datasets import Audio, Dataset

    folder.mkdir()
    rows = [
        {"audio": {"bytes": path.read_bytes(), "path": path.name}, "text": path.stem}
        for path in sorted(lender.recordings.glob("*.wav"))
    ]
    for number in range(2):
        part = Dataset.from_list(rows[number::2]).cast_column("audio", Audio(decode=False))
        part.to_parquet(folder / f"{number}.parquet")


def write_latents(folder: Path, lender: Lender) -> None:
    """The recordings' latents of the autoencoder that generators' recipes name."""
    import encode_latents

    vae = lender("runs/star_phase2")
    words = ["--vae", vae, "--source", lender.recordings, "--output_dir", folder, "--num_workers", "0"]
    encode_latents.main([str(word) for word in words])


def run_of(write: Write) -> Write:
    """A finished run that exports what `write` writes."""
    return lambda folder, lender: write(folder / "export", lender)


FOLDERS: Mapping[str, Write] = {
    "path/to/vae": write_autoencoder,
    "other/vae": write_autoencoder,
    "path/or/id": write_pipeline,
    "path/to/dataset": write_recordings,
    "generated": write_recordings,
    "references": write_recordings,
    "shards": write_shards,
    "runs/star_phase1": run_of(write_autoencoder),
    "runs/star_phase2": run_of(write_autoencoder),
    "runs/latents": write_latents,
    "runs/generator": run_of(write_pipeline),
}
REPOSITORIES: Mapping[str, Write] = {
    "user/name": write_embedded,
    "stabilityai/stable-audio-open-1.0": write_stable_audio,
    "Qwen/Qwen3-0.6B": write_qwen3,
    "google-t5/t5-base": write_t5,
    "MIT/ast-finetuned-audioset-10-10-0.4593": write_audio_teacher,
}
