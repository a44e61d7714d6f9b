"""Latent datasets for generator training: sampled afresh each time, normalized, captioned, batched."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from .latent_format import LatentInfo, half_matrix, normalization


class LatentDataset(torch.utils.data.Dataset):
    """Normalized latents and captions; an item is asked for as `(epoch, index)` or `index`.

    Each item samples z = mean + std · ε anew and normalizes it per channel by the statistics in `info`; every
    choice follows from (seed, epoch, index). An item is a dict: `latents` (frames, latent_channels), `text`.

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
        latents = (mean + std * noise - self.mean) / self.std
        captions = self.captions[index]
        text = captions[int(random.integers(len(captions)))]
        if random.random() < self.caption_dropout:
            text = ""
        return {"latents": latents.T.contiguous(), "text": text}


def row_captions(
    rows: Dataset,
    text_column: str = "text",
    share_by: str | None = None,
    extra: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
    """The captions that each row may be given.

    `text_column` holds one caption or a list of them. Rows with an equal value in the column `share_by` share
    all their captions, and `extra` adds more by that value; without `share_by`, `extra` must be empty.
    """
    for argument, column in (("text_column", text_column), ("share_by", share_by)):
        if column is not None and column not in rows.column_names:
            raise ValueError(
                f"{argument} {column!r} is not in the dataset; it has {', '.join(rows.column_names)}"
            )
    own = [[value] if isinstance(value, str) else list(value or [""]) for value in rows[text_column]]
    if share_by is None:
        if extra:
            raise ValueError("extra captions need share_by, the column whose values they are given for")
        return own
    groups = [str(value) for value in rows[share_by]]
    unknown = set(extra or {}) - set(groups)
    if unknown:
        raise ValueError(f"extra captions are given for {sorted(unknown)}, which {share_by!r} never holds")
    shared: dict[str, set[str]] = {name: set(values) for name, values in (extra or {}).items()}
    for name, captions in zip(groups, own, strict=True):
        shared.setdefault(name, set()).update(captions)
    choices = {name: sorted(captions) for name, captions in shared.items()}
    return [choices[name] for name in groups]


class LatentCollator:
    """Pads latents at the end and text on the left.

    `tokenize` turns a list of texts into `input_ids` and `attention_mask`, both (batch, tokens). A batch has
    these two, `latents` (batch, frames, latent_channels), and `audio_mask` (batch, frames), true for frames
    that are real.
    """

    def __init__(self, tokenize: Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.tokenize = tokenize

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        latents = [item["latents"] for item in items]
        lengths = torch.tensor([len(row) for row in latents])
        input_ids, attention_mask = self.tokenize([item["text"] for item in items])
        return {
            "latents": torch.nn.utils.rnn.pad_sequence(latents, batch_first=True),
            "audio_mask": torch.arange(int(lengths.max())) < lengths[:, None],
            "input_ids": input_ids,
            "attention_mask": attention_mask,
        }
