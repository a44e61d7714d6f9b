"""Encoded latents to train a generator on, and the choice between them and audio."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from loaders.encoded_audio import EncodedAudio
from loaders.generator_data import GeneratorData, LatentDataArguments, Statistics, Tokenize
from star_hf.data import (
    BadFiles,
    BucketedShuffle,
    EndlessShuffle,
    LatentCollator,
    LatentDataset,
    LatentInfo,
    make_loader,
    open_latents,
    row_captions,
    split_for_validation,
    vae_fingerprint,
)


class StoredLatents(GeneratorData):
    """Latents that encode_latents.py wrote; `ValueError` where another autoencoder than `vae` made them."""

    def __init__(
        self,
        arguments: LatentDataArguments,
        vae: nn.Module,
        vae_name: str,
        seed: int,
        say: Callable[[str], None],
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(vae)
        self.arguments, self.seed = arguments, seed
        rows, info = open_latents(arguments.source)
        refuse_other_vae(vae, vae_name, info, arguments.source)
        self.statistics = statistics or (info.latents_mean, info.latents_std)
        self.info = replace(info, latents_mean=self.statistics[0], latents_std=self.statistics[1])
        self.batch_size = arguments.batch_size
        self.training, self.validation = self._datasets(rows)
        self.bad_files = BadFiles(len(self.training))
        held_out = len(self.validation) if self.validation is not None else 0
        say(f"{len(self.training)} rows of latents to train on, {held_out} held out")

    def _datasets(self, rows: Dataset) -> tuple[LatentDataset, LatentDataset | None]:
        data = self.arguments
        captions = row_captions(rows, data.text_column, data.share_captions_by, data.captions, data.templates)
        rows = rows.add_column("row", range(len(rows)))
        training, validation = split_for_validation(
            rows, data.validation_fraction, key_column=data.validation_key or "row"
        )

        def latents(part: Dataset, dropout: float) -> LatentDataset:
            own = [captions[index] for index in part["row"]]
            return LatentDataset(
                part,
                self.info,
                own,
                crop_frames=data.crop_frames,
                caption_dropout=dropout,
                seed=self.seed,
            )

        if validation is not None and len(validation) > data.validation_clips:
            validation = validation.shuffle(seed=0).select(range(data.validation_clips))
        held_out = latents(validation, 0.0) if validation is not None else None
        return latents(training, data.caption_dropout), held_out

    def batches(
        self, tokenize: Tokenize, start: int, rank: int, world_size: int, position: Any = None
    ) -> Iterable[dict[str, Any]]:
        place = {"seed": self.seed, "start": start, "rank": rank, "world_size": world_size}
        if self.arguments.bucket_window > 0:
            sampler = BucketedShuffle(
                self.training.lengths(),
                self.batch_size,
                window_batches=self.arguments.bucket_window,
                **place,
            )
        else:
            sampler = EndlessShuffle(len(self.training), **place)
        return make_loader(
            self.training,
            LatentCollator(tokenize),
            batch_size=self.batch_size,
            num_workers=self.arguments.num_workers,
            sampler=sampler,
            seed=self.seed,
        )

    def held_out(self, tokenize: Tokenize) -> Iterable[dict[str, Any]]:
        if self.validation is None:
            return []
        return make_loader(self.validation, LatentCollator(tokenize), batch_size=self.batch_size)

    def latents(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        return batch["latents"], batch["audio_mask"]

    def captions(self) -> Iterable[str]:
        return (text for row in self.training.captions for text in row)

    def held_out_captions(self) -> Iterable[str]:
        return (row[0] for row in self.validation.captions) if self.validation is not None else []


def open_data(
    arguments: LatentDataArguments,
    vae: nn.Module,
    vae_name: str,
    seed: int,
    say: Callable[[str], None],
    statistics: Statistics | None = None,
) -> GeneratorData:
    """The data that the arguments name, whichever kind they are."""
    if arguments.source:
        return StoredLatents(arguments, vae, vae_name, seed, say, statistics)
    return EncodedAudio(arguments, vae, seed, say, statistics)


def refuse_other_vae(vae: nn.Module, vae_name: str, info: LatentInfo, source: str) -> None:
    """Latents mean something only to the autoencoder that made them."""
    fingerprint = vae_fingerprint(vae)
    if fingerprint != info.vae_fingerprint:
        raise ValueError(
            f"the latents in {source!r} were made by another autoencoder than vae {vae_name!r}: "
            f"fingerprint {info.vae_fingerprint[:12]}… there, {fingerprint[:12]}… here"
        )
