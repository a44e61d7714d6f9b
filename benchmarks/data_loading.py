"""Training crops per second: star_hf's readers against decoding each clip whole, as a plain loader does.

python benchmarks/data_loading.py --num_workers 0 1 2

Clips of noise are written to a temporary folder in each format and container (or --source is read). Both
sides go through the same datasets, shuffling and DataLoader and give the same crops, which is checked first;
they differ in decoding only the crop, or the whole clip, with datasets' own torchcodec decoder where that is
installed, else with soundfile. `per core` counts the processor time of all processes, so that other work on
the machine matters less. The files are in the page cache: this measures decoding, not disks or networks.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import soundfile
import torch
from common import refuse_what_is_not_positive
from machine import describe_machine, usable_cores
from measurements import Measurement, Report, write_report

from star_hf.audio import convert_channels, resample
from star_hf.data import (
    ClipDataset,
    ClipStream,
    CropReader,
    CropSettings,
    MixedClips,
    MixedStream,
    MixtureShuffle,
    ShuffledRows,
    audio_source,
    load_audio_dataset,
    make_loader,
)

SAMPLING_RATE, CHANNELS = 44100, 2
FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
CONTAINERS = ("folder", "parquet", "tar")
# Of lossless formats; decoders of the others begin anew at the crop, and MP3 encoders disagree on the delay.
TOLERANCE = {"wav": 1e-6, "flac": 1e-6, "ogg": 1e-3}

try:
    from torchcodec.decoders import AudioDecoder
# without FFmpeg's libraries its import fails in other ways
except (ImportError, RuntimeError, OSError):
    AudioDecoder = None


@dataclass(frozen=True)
class Result:
    """Crops per second, per second of processor time, and their seconds of audio per second.

    `whole_per_core` is that of decoding whole clips, `ratio` how many times more crops ours gives.
    """

    format: str
    container: str
    streaming: bool
    num_workers: int
    clips_per_second: float
    clips_per_core: float
    audio_seconds_per_second: float
    whole_per_core: float
    ratio: float


class WholeClipReader:
    """A random crop of a clip that is decoded whole."""

    columns, audio_column = ["audio"], "audio"

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def __call__(self, row: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
        waveform, rate = decode_whole(audio_source(row["audio"]))
        waveform = convert_channels(resample(waveform, rate, SAMPLING_RATE), CHANNELS)
        start = int(random.integers(max(0, waveform.shape[1] - self.num_samples) + 1))
        crop = waveform[:, start : start + self.num_samples]
        return {"waveform": torch.nn.functional.pad(crop, (0, self.num_samples - crop.shape[1]))}


def decode_whole(source: str | bytes) -> tuple[torch.Tensor, int]:
    if AudioDecoder is not None:
        samples = AudioDecoder(source).get_all_samples()
        return samples.data, samples.sample_rate
    data, rate = soundfile.read(
        io.BytesIO(source) if isinstance(source, bytes) else source, dtype="float32", always_2d=True
    )
    return torch.from_numpy(np.ascontiguousarray(data.T)), rate


def write_clips(folder: Path, format: str, clips: int, seconds: float) -> dict[str, Path]:
    """Clips of coloured noise as a folder of files, and the same in Parquet and tar, in four shards each."""
    places = {name: folder / format / name for name in CONTAINERS}
    for place in places.values():
        place.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(clips):
        noise = 0.1 * random.standard_normal((int(seconds * SAMPLING_RATE), CHANNELS), dtype=np.float32)
        samples = noise + np.roll(noise, 1, axis=0)
        name = places["folder"] / f"clip{index:04d}.{format}"
        soundfile.write(name, samples, SAMPLING_RATE, format=format.upper(), subtype=FORMATS[format])
    files = sorted(places["folder"].iterdir())
    for shard in range(4):
        own = files[shard::4]
        rows = [{"audio": {"bytes": file.read_bytes(), "path": file.name}} for file in own]
        table = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
        table.to_parquet(str(places["parquet"] / f"train-{shard}.parquet"))
        with tarfile.open(places["tar"] / f"train-{shard}.tar", "w") as tar:
            for file in own:
                tar.add(file, file.name)
    return places


def make_batches(
    dataset: datasets.Dataset | datasets.IterableDataset, reader: Any, batch_size: int, num_workers: int
) -> Iterable[dict[str, torch.Tensor]]:
    """Endless batches, as training draws them."""
    sampler = None
    if isinstance(dataset, datasets.Dataset):
        items = MixedClips([ClipDataset(dataset, reader)])
        sampler = MixtureShuffle([len(dataset)], [1.0])
    else:
        rows = ShuffledRows(dataset, block_size=max(1, 64 // max(1, num_workers)))
        items = MixedStream([ClipStream(rows, reader)], [1.0])
        num_workers = min(num_workers, rows.num_shards)
    return make_loader(items, stack, batch_size=batch_size, num_workers=num_workers, sampler=sampler)


def stack(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {"waveform": torch.stack([item["waveform"] for item in items])}


def check(dataset: Any, readers: Iterable[Any], batch_size: int, tolerance: float | None) -> None:
    """Raise `ValueError` when the readers give different crops."""
    ours, whole = (
        next(iter(make_batches(dataset, reader, batch_size, num_workers=0)))["waveform"] for reader in readers
    )
    error = float((ours - whole).abs().max())
    if ours.shape != whole.shape or (tolerance is not None and not error <= tolerance):
        raise ValueError(
            f"crops differ from those of the whole clips by {error:.1e}, allowed is {tolerance}."
        )


def measure(batches: Iterable[dict[str, torch.Tensor]], seconds: float) -> tuple[float, float]:
    """Crops per second, and per second of processor time, once every worker has begun."""
    iterator: Iterator[dict[str, torch.Tensor]] = iter(batches)
    for _ in range(1 + getattr(batches, "num_workers", 0)):
        next(iterator)
    started, used = time.perf_counter(), processor_time()
    clips = 0
    # a processor's clock may tick but every hundredth of a second
    while time.perf_counter() - started < seconds or processor_time() == used:
        clips += len(next(iterator)["waveform"])
    return clips / (time.perf_counter() - started), clips / (processor_time() - used)


def processor_time() -> float:
    """Seconds of processor time that this process and its workers have used."""
    process = psutil.Process()
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def run(
    arguments: argparse.Namespace, places: Iterable[tuple[str, str, Path]], show: Callable[[Result], None]
) -> list[Result]:
    ours = CropReader(CropSettings(num_samples=arguments.crop_samples), SAMPLING_RATE, CHANNELS)
    whole = WholeClipReader(arguments.crop_samples)
    results = []
    for (format, container, path), streaming in product(places, (False, True)):
        dataset = load_audio_dataset(path, streaming=streaming)
        check(dataset, (ours, whole), arguments.batch_size, TOLERANCE.get(format))
        for num_workers in arguments.num_workers:
            rates = [
                measure(
                    make_batches(dataset, reader, arguments.batch_size, num_workers),
                    arguments.measure_seconds,
                )
                for reader in (ours, whole)
            ]
            result = Result(
                format,
                container,
                streaming,
                num_workers,
                clips_per_second=rates[0][0],
                clips_per_core=rates[0][1],
                audio_seconds_per_second=rates[0][0] * arguments.crop_samples / SAMPLING_RATE,
                whole_per_core=rates[1][1],
                ratio=rates[0][1] / rates[1][1],
            )
            show(result)
            results.append(result)
    return results


def measurements(results: list[Result]) -> list[Measurement]:
    """The lines of the one table: crops per second of processor time."""
    return [
        Measurement(
            what=f"training crops per core, {result.format}, {place(result)}, {result.num_workers} workers",
            peer_name="clips decoded whole",
            precision="float32",
            device="cpu",
            ours=result.clips_per_core,
            peer=result.whole_per_core,
            ratio=result.ratio,
            unit="/s",
        )
        for result in results
    ]


def place(result: Result) -> str:
    return f"{result.container}, streamed" if result.streaming else result.container


HEADER = (
    "| format | from | workers | clips/s | clips/s per core | audio s/s | whole clips/s per core | ratio |"
)


def line(result: Result) -> str:
    return (
        f"| {result.format} | {place(result)} | {result.num_workers} | {result.clips_per_second:.0f} "
        f"| {result.clips_per_core:.0f} | {result.audio_seconds_per_second:.0f} "
        f"| {result.whole_per_core:.0f} | {result.ratio:.2f} |"
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="a folder, Parquet or tar files of your own instead")
    parser.add_argument("--clips", type=int, default=32, help="clips of each format")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--crop_samples", type=int, default=65536, help="length of a crop")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--num_workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--containers", nargs="+", choices=CONTAINERS, default=list(CONTAINERS))
    parser.add_argument("--measure_seconds", type=float, default=1.0, help="of each side of each row")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args(argv)
    refuse_what_is_not_positive(
        parser, arguments, ("clips", "seconds", "crop_samples", "batch_size", "measure_seconds")
    )
    if min(arguments.num_workers) < 0:
        parser.error(f"--num_workers must be at least 0, got {min(arguments.num_workers)}")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    available = soundfile.available_formats()
    setting = {
        "clips": arguments.clips,
        "seconds": arguments.seconds,
        "crop_samples": arguments.crop_samples,
        "batch_size": arguments.batch_size,
        "whole_clips_by": "torchcodec" if AudioDecoder is not None else "soundfile",
        "cores": usable_cores(),
        "soundfile": soundfile.__libsndfile_version__,
        "datasets": datasets.__version__,
        "torch": torch.__version__,
        "threads": 1,
        "warm_up": "one batch, and one of each worker",
    }
    print(", ".join(f"{name} {value}" for name, value in setting.items()))
    print(HEADER, "|---|---|---|---|---|---|---|---|", sep="\n", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        # datasets would copy what is not streamed to the user's cache, and leave it there
        datasets.config.HF_DATASETS_CACHE = Path(folder, "cache")
        if arguments.source is not None:
            places: Iterable[tuple[str, str, Path]] = [("own", arguments.source.name, arguments.source)]
        else:
            places = [
                (format, container, path)
                for format in arguments.formats
                if format.upper() in available
                for container, path in write_clips(
                    Path(folder), format, arguments.clips, arguments.seconds
                ).items()
                if container in arguments.containers
            ]
        try:
            results = run(arguments, places, lambda result: print(line(result), flush=True))
        except ValueError as error:
            sys.exit(f"error: {error}")
    if arguments.json is not None:
        report = Report(setting=setting, measurements=measurements(results), results=results)
        write_report(arguments.json, report, machine=describe_machine())


if __name__ == "__main__":
    main()
