"""The audio side of a recipe: which datasets, how they are read, and what is held out."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from engine.arguments import build, group, option
from star_hf.data import CropSettings


@dataclass
class CaptionArguments:
    templates: list[str] = option(
        [], 'texts over columns, such as "the sound of {label}"; default: the text_column alone'
    )
    dropout: float = option(0.1, "share of clips that get the empty prompt, for guidance")


@dataclass
class SourceArguments:
    """One of several datasets; what is `None` here is as for all of them."""

    source: str = ""
    weight: float = 1.0
    split: str | None = None
    config_name: str | None = None
    audio_column: str | None = None
    text_column: str | None = None
    templates: list[str] | None = None
    validation_fraction: float | None = None
    validation_key: str | None = None


@dataclass
class AudioDataArguments:
    source: str = option("", "folder, Parquet or tar files (patterns, too), or the name of a Hub dataset")
    sources: Any = option(
        {}, "several datasets by name: {name: {source, weight, …}}; what is missing is as given here"
    )
    split: str = option("train", "split of the dataset")
    config_name: str | None = option(None, "configuration of a Hub dataset")
    audio_column: str = option("audio", "column with the audio")
    text_column: str = option("text", "column with the caption or the captions, where there are any")
    captions: CaptionArguments = group(CaptionArguments)
    streaming: bool = option(False, "read while training instead of downloading or converting first")
    shuffle_buffer: int = option(1000, "streaming: rows that each process keeps in memory to shuffle them")
    batch_size: int = option(16, "clips per batch and process")
    num_workers: int = option(0, "processes that read audio; 0 reads in the training process")
    prefetch_factor: int = option(2, "batches that each of these processes reads ahead")
    cache_audio: bool = option(False, "decode every clip once and keep it in memory, for small datasets")
    max_bad_share: float = option(0.05, "the run stops when more than this share of the files cannot be read")
    max_seconds: float | None = option(None, "captioned clips: longer ones give a random span of this length")
    validation_fraction: float = option(0.05, "share held out")
    validation_key: str | None = option(
        None, "column whose equal values are held out together; default: the audio"
    )
    validation_clips: int = option(32, "held-out clips to measure, at most")
    validation_seconds: float = option(5.0, "of each held-out clip, at most")
    crops: CropSettings = group(CropSettings)

    def check(self) -> None:
        """Raise `ValueError` for values that no dataset can be read with."""
        for name in ("batch_size", "prefetch_factor", "shuffle_buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("num_workers", "validation_clips"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} must be at least 0, got {getattr(self, name)}")
        if not self.validation_seconds > 0:
            raise ValueError(f"data.validation_seconds must be greater than 0, got {self.validation_seconds}")
        if self.streaming and self.cache_audio:
            raise ValueError("data.cache_audio keeps whole datasets: it needs data.streaming false")

    def all_sources(self) -> dict[str, SourceArguments]:
        """The datasets by name, with everything filled in."""
        given = self.sources or {}
        if isinstance(given, list):
            given = {str(number): values for number, values in enumerate(given)}
        if not isinstance(given, dict):
            raise ValueError(f"data.sources must hold datasets by name, got {given!r}")
        if bool(given) == bool(self.source):
            raise ValueError("data.source or data.sources must be given: a folder or the name of a dataset")
        sources = {
            name: build(SourceArguments, values, f"data.sources.{name}") for name, values in given.items()
        }
        for name, source in sources.items():
            if not source.source:
                raise ValueError(f"data.sources.{name}.source is missing: a folder or the name of a dataset")
        return {
            name: self._filled_in(source)
            for name, source in (sources or {"": SourceArguments(self.source)}).items()
        }

    def _filled_in(self, source: SourceArguments) -> SourceArguments:
        shared = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(source)
            if getattr(source, field.name) is None and field.name != "templates"
        }
        filled = dataclasses.replace(source, **shared)
        # a text column of its own is meant to be used
        templates = source.templates or ([] if source.text_column else self.captions.templates)
        return dataclasses.replace(filled, templates=templates or [f"{{{filled.text_column}}}"])
