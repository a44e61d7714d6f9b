"""The latent dataset on disk: Parquet shards of posteriors in half precision beside `latents.json`.

One row is one encoded clip: `mean` and `std`, float16 bytes of a C-contiguous `(latent_channels, num_frames)`
array, `num_frames`, `version` (0 for the clip as it is, then augmented ones), `text`, and further columns.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Value, load_dataset
from torch import nn

INFO_NAME = "latents.json"
STATISTICS = ("latents_mean", "latents_std")
ROW_FEATURES = {
    "mean": Value("binary"),
    "std": Value("binary"),
    "num_frames": Value("int32"),
    "version": Value("int32"),
}


@dataclass
class LatentInfo:
    """What all rows of a latent dataset share; `latents_mean` and `latents_std` are per channel."""

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

    def save(self, folder: Path) -> None:
        (folder / INFO_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "LatentInfo":
        """Raises `ValueError` when the folder is no latent dataset, or its description is not complete."""
        path = folder / INFO_NAME
        if not path.is_file():
            raise ValueError(f"{str(folder)!r} is no latent dataset: it has no {INFO_NAME}")
        values = json.loads(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ValueError(f"{str(path)!r} has missing or unknown keys: {sorted(names ^ set(values))}")
        return cls(**values)


def vae_fingerprint(vae: nn.Module) -> str:
    """SHA-256 over an autoencoder's class, configuration and weights.

    Measured statistics of the latents do not count, since they are added to the configuration afterwards;
    neither do the library's version and the path it was loaded from.
    """
    config = {k: v for k, v in vae.config.items() if not k.startswith("_") and k not in STATISTICS}
    digest = hashlib.sha256(f"{type(vae).__name__} {json.dumps(config, sort_keys=True)}".encode())
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class LatentStatistics:
    """Mean and standard deviation per channel of sampled latents z = μ + σε, over all frames, in float64.

    E[z] = E[μ] and Var[z] = E[μ² + σ²] − E[μ]²: no sample needs to be drawn.
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

    def mean(self) -> torch.Tensor:
        return self.sum / self.num_frames

    def std(self) -> torch.Tensor:
        return (self.sum_of_squares / self.num_frames - self.mean().square()).clamp(min=0).sqrt()


class LatentWriter:
    """Writes rows to `latents-00000.parquet`, … in `folder`; `close` writes what is left."""

    def __init__(self, folder: Path, columns: Features | None = None, rows_per_shard: int = 2000) -> None:
        if rows_per_shard < 1:
            raise ValueError(f"rows_per_shard must be at least 1, got {rows_per_shard}")
        self.folder = folder
        self.features = Features({**ROW_FEATURES, **columns}) if columns is not None else None
        self.rows_per_shard = rows_per_shard
        self.rows: list[dict[str, Any]] = []
        self.num_rows = self.num_shards = 0

    def add(self, mean: torch.Tensor, std: torch.Tensor, version: int, columns: dict[str, Any]) -> None:
        """Add one posterior `(latent_channels, frames)`; values beyond half precision are refused."""
        for name, values in (("mean", mean), ("std", std)):
            if not bool(torch.isfinite(values.half()).all()):
                raise ValueError(
                    f"the posterior's {name} does not fit half precision: {float(values.abs().max())}"
                )
        row = {
            "mean": mean.half().cpu().numpy().tobytes(),
            "std": std.half().cpu().numpy().tobytes(),
            "num_frames": mean.shape[1],
            "version": version,
        }
        self.rows.append({**row, **columns})
        self.num_rows += 1
        if len(self.rows) == self.rows_per_shard:
            self._write_shard()

    def close(self) -> None:
        if self.rows:
            self._write_shard()

    def _write_shard(self) -> None:
        path = self.folder / f"latents-{self.num_shards:05d}.parquet"
        Dataset.from_list(self.rows, features=self.features).to_parquet(str(path))
        self.rows = []
        self.num_shards += 1


def open_latents(folder: str | Path) -> tuple[Dataset, LatentInfo]:
    """The rows of a latent dataset, memory-mapped, and what they have in common."""
    folder = Path(folder)
    info = LatentInfo.load(folder)
    shards = sorted(folder.glob("latents-*.parquet"))
    if not shards:
        raise ValueError(f"{str(folder)!r} has no latents-*.parquet")
    rows = load_dataset("parquet", data_files=[str(shard) for shard in shards], split="train")
    if len(rows) != info.num_rows:
        raise ValueError(
            f"{str(folder)!r} has {len(rows)} rows, {INFO_NAME} says {info.num_rows}: shards are missing"
        )
    return rows, info


def half_matrix(data: bytes, channels: int, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """Frames `start` to `stop` of a stored `mean` or `std`, `(channels, frames)` float32."""
    matrix = np.frombuffer(data, dtype=np.float16).reshape(channels, -1)[:, start:stop]
    return torch.from_numpy(matrix.astype(np.float32))


def normalization(mean: Sequence[float], std: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Statistics per channel as float32 tensors `(channels, 1)`; `ValueError` if they cannot normalize."""
    if not all(math.isfinite(value) for value in mean) or not all(0 < value < math.inf for value in std):
        raise ValueError("latents_mean must be finite and latents_std positive and finite")
    return torch.tensor(mean, dtype=torch.float32)[:, None], torch.tensor(std, dtype=torch.float32)[:, None]
