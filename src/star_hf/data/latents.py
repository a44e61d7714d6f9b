"""Latent datasets for generator training: sampled afresh each time, normalized, captioned, batched."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from .captions import CaptionTemplates
from .items import noise_seed
from .latent_format import LatentInfo, half_matrix, normalization


class LatentDataset(torch.utils.data.Dataset):
    """Normalized latents and captions; an item is asked for as `(epoch, index)` or `index`.

    Each item samples z anew as `info.posterior` says and normalizes it per channel by the statistics in
    `info`; every choice follows from (seed, epoch, index). An item is a dict: `latents` (frames,
    latent_channels), `text`, and `noise_seed`, an integer for the noise that training adds.

    Args:
        rows: rows of a latent dataset (see `open_latents`), or a part of them.
        info: the dataset's description.
        captions: for each row the captions to choose from.
        crop_frames: longer clips give a random crop of this length.
        caption_dropout: share of items whose text is the empty prompt, for guidance.
    """

    def __init__(
        self,
        rows: Dataset,
        info: LatentInfo,
        captions: Sequence[Sequence[str]],
        *,
        crop_frames: int | None = None,
        caption_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not 0.0 <= caption_dropout <= 1.0:
            raise ValueError(f"caption_dropout must be between 0 and 1, got {caption_dropout}")
        if crop_frames is not None and crop_frames < 1:
            raise ValueError(f"crop_frames must be at least 1, got {crop_frames}")
        if len(captions) != len(rows) or not all(captions):
            raise ValueError("captions must hold at least one caption for each row")
        self.rows = rows.select_columns(["mean", "std", "num_frames"])
        self.info = info
        self.captions = captions
        self.crop_frames = crop_frames
        self.caption_dropout = caption_dropout
        self.seed = seed
        self.mean, self.std = normalization(info.latents_mean, info.latents_std)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        random = np.random.default_rng([self.seed, epoch, index])
        row = self.rows[index]
        frames = row["num_frames"] if self.crop_frames is None else min(self.crop_frames, row["num_frames"])
        start = int(random.integers(row["num_frames"] - frames + 1))
        mean = half_matrix(row["mean"], self.info.latent_channels, start, start + frames)
        std = half_matrix(row["std"], self.info.latent_channels, start, start + frames)
        noise = torch.from_numpy(random.standard_normal(mean.shape, dtype=np.float32))
        if self.info.posterior == "sigma":
            noise *= random.standard_normal()
        latents = (mean + std * noise - self.mean) / self.std
        captions = self.captions[index]
        text = captions[int(random.integers(len(captions)))]
        if random.random() < self.caption_dropout:
            text = ""
        return {
            "latents": latents.T.contiguous(),
            "text": text,
            "noise_seed": noise_seed(self.seed, epoch, index),
        }

    def lengths(self) -> np.ndarray:
        """Frames of each item, in the order of the rows."""
        frames = self.rows.select_columns("num_frames").with_format("numpy")[:]["num_frames"]
        return frames if self.crop_frames is None else np.minimum(frames, self.crop_frames)


def row_captions(
    rows: Dataset,
    text_column: str = "text",
    share_by: str | None = None,
    extra: Mapping[str, Sequence[str]] | None = None,
    templates: Sequence[str] = (),
) -> list[list[str]]:
    """The captions that each row may be given; the empty text for a row without any.

    `text_column` holds one caption or a list of them; `templates` such as "the sound of {label}" take its
    place (see `CaptionTemplates`). Rows with an equal value in the column `share_by` share all their
    captions, and `extra` adds more by that value; without `share_by`, `extra` must be empty.
    """
    if templates:
        writer = CaptionTemplates(templates, rows.features)
        writer.check(rows.column_names, "the latents")
        posteriors = [name for name in ("mean", "std") if name in rows.column_names]
        own = [writer.candidates(row) or [""] for row in rows.remove_columns(posteriors)]
    else:
        _require_column(rows, "text_column", text_column)
        own = [[value] if isinstance(value, str) else list(value or [""]) for value in rows[text_column]]
    if share_by is None:
        if extra:
            raise ValueError("extra captions need share_by, the column whose values they are given for")
        return own
    _require_column(rows, "share_by", share_by)
    groups = [str(value) for value in rows[share_by]]
    unknown = set(extra or {}) - set(groups)
    if unknown:
        raise ValueError(f"extra captions are given for {sorted(unknown)}, which {share_by!r} never holds")
    shared: dict[str, set[str]] = {name: set(values) for name, values in (extra or {}).items()}
    for name, captions in zip(groups, own, strict=True):
        shared.setdefault(name, set()).update(captions)
    choices = {name: sorted(captions) for name, captions in shared.items()}
    return [choices[name] for name in groups]


def _require_column(rows: Dataset, argument: str, column: str) -> None:
    if column not in rows.column_names:
        raise ValueError(
            f"{argument} {column!r} is not in the dataset; it has {', '.join(rows.column_names)}"
        )


class LatentCollator:
    """Pads latents at the end and text on the left.

    `tokenize` turns a list of texts into `input_ids` and `attention_mask`, both (batch, tokens). A batch has
    these two; `latents` (batch, frames, latent_channels); `audio_mask` (batch, frames), true for frames that
    are real; `noise_seed` (batch,) int64; and two lists, `num_frames` and `text`.
    """

    def __init__(self, tokenize: Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.tokenize = tokenize

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        latents = [item["latents"] for item in items]
        num_frames = [len(row) for row in latents]
        text = [item["text"] for item in items]
        input_ids, attention_mask = self.tokenize(text)
        return {
            "latents": torch.nn.utils.rnn.pad_sequence(latents, batch_first=True),
            "audio_mask": frame_mask(torch.tensor(num_frames)),
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "noise_seed": torch.tensor([item["noise_seed"] for item in items], dtype=torch.int64),
            "num_frames": num_frames,
            "text": text,
        }


def frame_mask(num_frames: torch.Tensor) -> torch.Tensor:
    """Boolean `(batch, longest)`, true for each row's first `num_frames`, `(batch,)`."""
    return torch.arange(int(num_frames.max()), device=num_frames.device) < num_frames[:, None]
