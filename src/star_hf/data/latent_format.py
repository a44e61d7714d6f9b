"""The latent dataset on disk: Parquet shards of posteriors in half precision beside `latents.json`.

One row is one encoded clip: `mean` and `std`, float16 bytes of a C-contiguous `(latent_channels, num_frames)`
array, `num_frames`, `version` (0 for the clip as it is, then augmented ones), `text`, and further columns.
`latents.json` is written last: a folder without it is not complete.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Value, load_dataset
from torch import nn

INFO_NAME = "latents.json"
SHARD_PATTERN = "latents-*.parquet"
STATISTICS = ("latents_mean", "latents_std")
POSTERIORS = ("gaussian", "sigma", "deterministic")
ROW_FEATURES = {
    "mean": Value("binary"),
    "std": Value("binary"),
    "num_frames": Value("int32"),
    "version": Value("int32"),
}
#: Sub-modules that only decode, by what autoencoders call them.
DECODER_MODULES = {"decoder", "post_quant_conv", "from_latents"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class LatentInfo:
    """What all rows of a latent dataset share; `latents_mean` and `latents_std` are per channel.

    The two fingerprints tell which autoencoder made the latents and from which clips, `settings` how the
    clips were cut and varied. `num_failures` clips could not be read; `failures.json` lists them.

    `posterior` tells how z is drawn from a row: `"gaussian"`, mean + std · ε; `"sigma"`, mean + s · std · ε
    with one s ~ N(0, 1) for each example, as a σ-VAE's; `"deterministic"`, the mean, and std is 0.
    """

    latent_channels: int
    frame_rate: float
    sampling_rate: int
    hop_length: int
    latents_mean: list[float]
    latents_std: list[float]
    num_rows: int
    num_frames: int
    vae_class: str
    vae_fingerprint: str
    source: str
    dataset_fingerprint: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    num_failures: int = 0
    posterior: str = "gaussian"

    def save(self, folder: Path) -> None:
        temporary = folder / f".{INFO_NAME}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self), indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / INFO_NAME)

    @classmethod
    def load(cls, folder: Path) -> "LatentInfo":
        """Raises `ValueError` when the folder is no latent dataset, or its description is not complete."""
        path = folder / INFO_NAME
        if not path.is_file():
            raise ValueError(f"{str(folder)!r} is no latent dataset: it has no {INFO_NAME}")
        values = json.loads(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is field.default_factory is MISSING}
        wrong = (set(values) - names) | (required - set(values))
        if wrong:
            raise ValueError(f"{str(path)!r} has missing or unknown keys: {sorted(wrong)}")
        info = cls(**values)
        if info.posterior not in POSTERIORS:
            raise ValueError(
                f"{str(path)!r}: `posterior` must be one of {', '.join(POSTERIORS)}, not {info.posterior!r}"
            )
        return info


def vae_fingerprint(vae: nn.Module) -> str:
    """SHA-256 over what the latents of an autoencoder depend on: its class and its encoder's side.

    Weights and configuration of the decoder do not count, so that a decoder trained further on a frozen
    encoder keeps fitting the latents. Neither do measured statistics of the latents, which are added to the
    configuration afterwards, noise that only decoding adds, the record of the regularizer, the library's
    version, and the path that the model was loaded from. A Gaussian bottleneck counts as none named.
    """
    config = {name: value for name, value in vae.config.items() if _shapes_latents(name, value)}
    digest = hashlib.sha256(f"{type(vae).__name__} {json.dumps(config, sort_keys=True)}".encode())
    for name, tensor in sorted(vae.state_dict().items()):
        if not DECODER_MODULES.isdisjoint(name.split(".")):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _shapes_latents(name: str, value: Any) -> bool:
    # Oobleck's name for the width of the latents
    if name == "decoder_input_channels":
        return True
    # Models from before there was a choice have no such entry.
    if (name, value) in (("bottleneck", "gaussian"), ("sigma", None)):
        return False
    not_encoding = (*STATISTICS, "latent_noise", "regularizer")
    return name not in not_encoding and not name.startswith(("_", "decoder_", "dec_"))


class LatentStatistics:
    """Mean and standard deviation per channel of sampled latents z = μ + σε, over all frames, in float64.

    E[z] = E[μ] and Var[z] = E[μ² + σ²] − E[μ]²: no sample needs to be drawn. A scale s ~ N(0, 1) common to an
    example's noise changes neither, as E[s²] = 1.
    """

    def __init__(self, channels: int) -> None:
        self.num_frames = 0
        self.sum = torch.zeros(channels, dtype=torch.float64)
        self.sum_of_squares = torch.zeros(channels, dtype=torch.float64)

    def update(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Add posteriors `(channels, frames)`."""
        mean, std = mean.double().cpu(), std.double().cpu()
        self.num_frames += mean.shape[1]
        self.sum += mean.sum(dim=1)
        self.sum_of_squares += (mean.square() + std.square()).sum(dim=1)

    def merge(self, other: "LatentStatistics") -> None:
        """Add what another one has seen."""
        self.num_frames += other.num_frames
        self.sum += other.sum
        self.sum_of_squares += other.sum_of_squares

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which keeps float64 exactly."""
        return {
            "num_frames": self.num_frames,
            "sum": self.sum.tolist(),
            "sum_of_squares": self.sum_of_squares.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LatentStatistics":
        statistics = cls(len(values["sum"]))
        statistics.num_frames = values["num_frames"]
        statistics.sum += torch.tensor(values["sum"], dtype=torch.float64)
        statistics.sum_of_squares += torch.tensor(values["sum_of_squares"], dtype=torch.float64)
        return statistics

    def mean(self) -> torch.Tensor:
        return self.sum / self.num_frames

    def std(self) -> torch.Tensor:
        return (self.sum_of_squares / self.num_frames - self.mean().square()).clamp(min=0).sqrt()


class LatentShard:
    """The rows of one Parquet file in their order, and the statistics of what it stores."""

    def __init__(self, latent_channels: int, columns: Features | None = None) -> None:
        self.features = Features({**ROW_FEATURES, **columns}) if columns is not None else None
        self.statistics = LatentStatistics(latent_channels)
        self.rows: list[dict[str, Any]] = []

    def add(self, mean: torch.Tensor, std: torch.Tensor, version: int, columns: dict[str, Any]) -> None:
        """Add one posterior `(latent_channels, frames)`; values beyond half precision are refused."""
        for name, values in (("mean", mean), ("std", std)):
            if not bool(torch.isfinite(values.half()).all()):
                raise ValueError(
                    f"the posterior's {name} does not fit half precision: {float(values.abs().max())}"
                )
        mean, std = mean.half().cpu(), std.half().cpu()
        self.statistics.update(mean, std)
        row = {
            "mean": mean.numpy().tobytes(),
            "std": std.numpy().tobytes(),
            "num_frames": mean.shape[1],
            "version": version,
        }
        self.rows.append({**row, **columns})

    def write(self, path: Path) -> None:
        Dataset.from_list(self.rows, features=self.features).to_parquet(str(path))


def open_latents(source: str | Path, revision: str | None = None) -> tuple[Dataset, LatentInfo]:
    """The rows of a latent dataset, memory-mapped, and what they have in common.

    `source` is a folder, or the name `user/name` of a dataset on the Hub, which is downloaded at `revision`.

    Raises `ValueError` when there is none, or when a part of it is missing.
    """
    folder = _local_folder(source, revision)
    info = LatentInfo.load(folder)
    shards = sorted(folder.glob(SHARD_PATTERN))
    if not shards:
        raise ValueError(f"{str(source)!r} has no {SHARD_PATTERN}")
    rows = load_dataset("parquet", data_files=[str(shard) for shard in shards], split="train")
    if len(rows) != info.num_rows:
        raise ValueError(
            f"{str(source)!r} has {len(rows)} rows, {INFO_NAME} says {info.num_rows}: shards are missing"
        )
    return rows, info


def _local_folder(source: str | Path, revision: str | None) -> Path:
    folder = Path(source).expanduser()
    if folder.exists() or not (isinstance(source, str) and _HUB_ID.fullmatch(source)):
        return folder
    from huggingface_hub import snapshot_download

    try:
        files = [INFO_NAME, SHARD_PATTERN]
        return Path(snapshot_download(source, repo_type="dataset", revision=revision, allow_patterns=files))
    except OSError as error:
        raise ValueError(
            f"{source!r} is neither a folder nor a dataset that the Hub gives: {error}"
        ) from error


def half_matrix(data: bytes, channels: int, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """Frames `start` to `stop` of a stored `mean` or `std`, `(channels, frames)` float32."""
    matrix = np.frombuffer(data, dtype=np.float16).reshape(channels, -1)[:, start:stop]
    return torch.from_numpy(matrix.astype(np.float32))


def normalization(mean: Sequence[float], std: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Statistics per channel as float32 tensors `(channels, 1)`; `ValueError` if they cannot normalize."""
    if not all(math.isfinite(value) for value in mean) or not all(0 < value < math.inf for value in std):
        raise ValueError("latents_mean must be finite and latents_std positive and finite")
    return torch.tensor(mean, dtype=torch.float32)[:, None], torch.tensor(std, dtype=torch.float32)[:, None]
