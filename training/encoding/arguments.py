"""What encode_latents.py is told."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from engine.arguments import option
from engine.publishing import PublishingArguments
from star_hf.data.latent_format import ROW_FEATURES

SHIFTS = ("circular", "delay")
PRECISIONS = ("no", "bf16", "fp16")
#: What changes how the work is done, and not what comes out of it.
UNRELATED_TO_RESULT = (
    "vae",
    "source",
    "output_dir",
    "overwrite",
    "dry_run",
    "batch_size",
    "tile_seconds",
    "num_workers",
    "max_bad_share",
    "write_statistics_to_vae",
    "threads",
    "log_seconds",
    "push_to_hub",
    "hub_private",
    "hub_revision",
    "hub_license",
)


@dataclass
class EncodeArguments(PublishingArguments):
    vae: str = option("", "autoencoder: a run's folder, a from_pretrained folder or a Hub name")
    source: str = option("", "folder of audio files or Parquet, or the name of a Hub dataset")
    output_dir: str = option("", "folder to write; it appears when all is encoded")
    overwrite: bool = option(
        False, "replace an output_dir made with other settings, once the new one is complete"
    )
    dry_run: bool = option(False, "print counts, sizes and the state of output_dir, then exit")
    split: str = option("train", "split of the dataset")
    config_name: str | None = option(None, "configuration of a Hub dataset")
    streaming: bool = option(False, "read a Hub dataset without downloading it first")
    audio_column: str = option("audio", "column with the audio")
    text_column: str | None = option(
        "text", "column with the caption, or a list of captions; null: no captions"
    )
    keep_columns: list[str] = option([], "further columns to copy to the latents, such as a label")
    max_seconds: float | None = option(None, "longer clips give a random span of this length")
    num_shifts: int = option(0, "further versions of each clip, shifted in time, with other latents")
    shift: str = option(
        "circular", "circular: the end moves to the front; delay: silence in front, the end cut"
    )
    max_shift_seconds: float | None = option(
        None, "longest shift; default: the whole clip (circular), 0.5 s (delay)"
    )
    gain_db: float = option(0.0, "random gain of the further versions, ± dB")
    rows_per_shard: int | None = option(
        None, "clips of a Parquet file, all versions in it; default: 500, less where that gives few files"
    )
    batch_size: int | None = option(
        None, "clips of equal length encoded together; default: 8 on a GPU, 1 on a CPU"
    )
    tile_seconds: float | None = option(
        10.0,
        "AutoencoderStar: longer clips are encoded in tiles of this length, to the same result; null: never",
    )
    mixed_precision: str = option("no", f"of the encoder: {', '.join(PRECISIONS)}")
    num_workers: int = option(2, "threads of each process that read audio ahead; 0: none")
    max_bad_share: float = option(0.05, "stop when more than this share of the files cannot be read")
    write_statistics_to_vae: bool = option(False, "store the statistics in the autoencoder's config.json")
    threads: int | None = option(None, "PyTorch's threads; default: PyTorch's own choice")
    log_seconds: float = option(10.0, "between two lines of progress")
    seed: int = option(0, "of spans, shifts and gains")

    def check(self) -> None:
        """Raise `ValueError` for values that nothing can be encoded with, before anything is loaded."""
        for name in ("vae", "source", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"{name} is missing")
        for name, known in (("shift", SHIFTS), ("mixed_precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("num_shifts", "gain_db", "num_workers"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        positive = ("max_seconds", "max_shift_seconds", "rows_per_shard", "batch_size", "tile_seconds")
        for name in (*positive, "threads", "log_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")
        if not 0.0 <= self.max_bad_share <= 1.0:
            raise ValueError(f"max_bad_share must be between 0 and 1, got {self.max_bad_share}")
        self.check_publishing()
        taken = sorted({*ROW_FEATURES, "text"} & set(self.keep_columns))
        if taken:
            raise ValueError(
                f"keep_columns must not hold {', '.join(taken)}: latents have columns of that name"
            )

    def settings(self) -> dict[str, Any]:
        """What decides, beside the data and the autoencoder, what the latents are."""
        return {name: value for name, value in asdict(self).items() if name not in UNRELATED_TO_RESULT}


def file_name_of(path: str, root: str) -> str:
    """A path as it is below `root`, else its last part: the same wherever the folder lies."""
    prefix = os.path.join(root, "")
    return path[len(prefix) :].replace(os.sep, "/") if path.startswith(prefix) else os.path.basename(path)
