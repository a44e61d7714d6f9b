"""Inference time of the backbones: encode and decode one clip, taking turns, in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from engine.arguments import option
from measurement import read_clips
from star_hf.audit import Codec
from study.held_out import HeldOut

REFERENCE = "cnn"


@dataclass
class TimingArguments:
    seconds: float = option(10.0, "of the clip, the first held-out ones one after another")
    rounds: int = option(9, "of all backbones in turn, after one that does not count")

    def check(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"timing.rounds must be at least 1, got {self.rounds}")
        if not self.seconds > 0:
            raise ValueError(f"timing.seconds must be greater than 0, got {self.seconds}")


def timed(codecs: Mapping[str, Codec], waveform: torch.Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of `encode`, `decode` and both of each backbone, and the ratio of both to the plain CNN.

    Of each it is the median over the rounds; `fastest` and `slowest` tell how far they are apart. The
    backbones take turns, so that a machine that slows down slows all of them.

    Args:
        waveform: `(channels, samples)`.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in codecs}
    for number in range(rounds + 1):
        for name, codec in codecs.items():
            encoding, moments = _clock(codec, lambda codec=codec: codec.encode(waveform[None]))
            decoding, _ = _clock(codec, lambda codec=codec, z=moments.mean: codec.decode(z))
            if number:
                times[name].append((encoding, decoding))
    result = {}
    for name, pairs in times.items():
        both = [encoding + decoding for encoding, decoding in pairs]
        result[name] = {
            "seconds": statistics.median(both),
            "encode_seconds": statistics.median(encoding for encoding, _ in pairs),
            "decode_seconds": statistics.median(decoding for _, decoding in pairs),
            "fastest": min(both),
            "slowest": max(both),
        }
    if REFERENCE in result:
        for values in result.values():
            values["ratio"] = values["seconds"] / result[REFERENCE]["seconds"]
    return result


def timing_clip(held_out: HeldOut, codec: Codec, seconds: float) -> torch.Tensor:
    """`(channels, samples)`: held-out clips one after another, up to `seconds`, over again if needed."""
    samples, pieces = round(seconds * codec.sampling_rate), []
    while sum(piece.shape[-1] for piece in pieces) < samples:
        for _, waveform in read_clips(held_out.split()[1], held_out.audio_column, codec.model):
            pieces.append(waveform)
            if sum(piece.shape[-1] for piece in pieces) >= samples:
                break
    return torch.cat(pieces, dim=-1)[:, :samples]


def timing_settings(arguments: TimingArguments, codec: Codec) -> dict[str, Any]:
    return {
        **asdict(arguments),
        "device": codec.device.type,
        "precision": str(codec.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _clock(codec: Codec, work: Callable[[], Any]) -> tuple[float, Any]:
    _wait(codec)
    started = time.perf_counter()
    result = work()
    _wait(codec)
    return time.perf_counter() - started, result


def _wait(codec: Codec) -> None:
    if codec.device.type == "cuda":
        torch.cuda.synchronize(codec.device)
