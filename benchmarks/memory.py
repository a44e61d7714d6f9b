"""Encode and decode ten minutes in tiles: the memory that it takes, against that of thirty seconds.

python benchmarks/memory.py --threads 2

First a length that fits into memory whole is encoded and decoded with tiles and without, in float32; the
results must be equal. Then each is measured in a process of its own: the peak above the loaded weights, input
and result included. Ten minutes go in the default tiles of ten seconds; thirty seconds at once, as without
`enable_tiling()`, and in the same tiles. Of Stable Audio Open's size, with the default Mamba stack, in bf16
where the machine has instructions for it, and of the embedded checkpoint.
"""

from __future__ import annotations

import argparse
import time

import torch
from common import DTYPES, largest_error, require_agreement, run_benchmark
from diffusers import AutoencoderOobleck
from machine import has_fast_bfloat16
from measurements import Measurement, Report
from models import TINY_CODEC, make_autoencoder, size_name
from processes import in_own_process, peak_above
from timing import synchronize

from star_hf.autoencoder import AutoencoderStar

DIRECTIONS = ("encode", "decode")
TOLERANCE = 1e-5  # of the tiled result, relative to the largest value of the untiled one
WARM_UP_SECONDS = 1.0
AUDIO_VALUES = 2 * 44100  # a second, of all sizes
# diffusers tiles what is longer than 30 s, in tiles of 30 s.
PEER_SECONDS = 70.0


def make_input(vae: AutoencoderStar, direction: str, seconds: float) -> torch.Tensor:
    """Noise, in the precision and on the device of the model."""
    samples = round(seconds * vae.config.sampling_rate)
    shape = (1, vae.config.audio_channels, samples)
    if direction == "decode":
        shape = (1, vae.config.decoder_input_channels, -(-samples // vae.hop_length))
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator).mul_(0.1).to(vae.device, vae.dtype)


def run(vae: AutoencoderStar, direction: str, x: torch.Tensor) -> torch.Tensor:
    return vae.encode(x).latent_dist.mean if direction == "encode" else vae.decode(x).sample


@torch.inference_mode()
def peak_of(
    size: str,
    direction: str,
    seconds: float,
    in_tiles: bool,
    tile_seconds: float | None,
    device: str,
    precision: str,
) -> tuple[int, float]:
    """Bytes above the weights, and the time that it takes."""
    vae = make_autoencoder(size).to(device, DTYPES[precision])
    if in_tiles:
        tiled(vae, tile_seconds)
    run(vae, direction, make_input(vae, direction, WARM_UP_SECONDS))

    def timed() -> float:
        started = time.perf_counter()
        # the input is counted: it is memory that the task takes
        run(vae, direction, make_input(vae, direction, seconds))
        synchronize(vae.device)
        return time.perf_counter() - started

    taken, peak = peak_above(timed, vae.device)
    return peak, taken


def tiled(vae: AutoencoderStar, tile_seconds: float | None) -> AutoencoderStar:
    vae.enable_tiling()
    if tile_seconds is not None:
        vae.tile_frames = max(1, round(tile_seconds * vae.frame_rate))
    return vae


@torch.inference_mode()
def tiling_error(vae: AutoencoderStar, direction: str, seconds: float) -> float:
    """How far the tiled result is from the untiled one. Raises `ValueError` where the length is one tile."""
    x = make_input(vae, direction, seconds)
    frames = -(-x.shape[-1] // vae.hop_length) if direction == "encode" else x.shape[-1]
    if frames < 2 * vae.tile_frames:
        raise ValueError(f"--check-seconds {seconds:g} is less than two tiles of {vae.tile_frames} frames.")
    vae.disable_tiling()
    whole = run(vae, direction, x)
    vae.enable_tiling()
    return largest_error(run(vae, direction, x), whole)


def compare_tiles(size: str, seconds: float, tile_seconds: float | None, device: str) -> dict[str, float]:
    """Errors of both directions in float32. Raises `ValueError` where tiles change the result."""
    vae = tiled(make_autoencoder(size).to(device), tile_seconds)
    errors = {direction: tiling_error(vae, direction, seconds) for direction in DIRECTIONS}
    for direction, error in errors.items():
        require_agreement(f"tiled {direction} of {size_name(size)}", error, TOLERANCE, "untiled")
    return errors


@torch.inference_mode()
def frames_lost_by_diffusers() -> str:
    """A sentence about its tiled encode, of a narrow model: how many frames there are hangs on no width."""
    peer = AutoencoderOobleck(**{**TINY_CODEC, "encoder_hidden_size": 4}).eval()
    waveform = torch.zeros(1, 2, round(PEER_SECONDS * peer.config.sampling_rate))
    expected = waveform.shape[-1] // peer.hop_length
    peer.enable_tiling()
    found = peer.encode(waveform).latent_dist.mean.shape[-1]
    return (
        f"diffusers' AutoencoderOobleck, tiled, encodes {PEER_SECONDS:g} s to {found} frames, untiled to "
        f"{expected}; ours gives as many frames either way, and the same ones."
    )


def measure(arguments: argparse.Namespace) -> Report:
    report = Report()
    sizes = ["tiny"] if arguments.tiny else arguments.sizes
    long, short = arguments.seconds
    for device in arguments.devices:
        for size in sizes:
            precision = precision_of(size, device)
            errors = compare_tiles(size, arguments.check_seconds, arguments.tile_seconds, device.type)
            for direction in DIRECTIONS:
                settings = (arguments.tile_seconds, device.type, precision)
                peak, taken = in_own_process(peak_of, size, direction, long, True, *settings)
                for in_tiles in (False, True):
                    short_peak, _ = in_own_process(peak_of, size, direction, short, in_tiles, *settings)
                    report.measurements.append(
                        Measurement(
                            what=f"peak memory, {direction} {long:g} s, {size_name(size)}",
                            peer_name=f"{short:g} s {'in the same tiles' if in_tiles else 'at once'}",
                            precision=precision,
                            device=device.type,
                            ours=peak,
                            peer=short_peak,
                            ratio=peak / short_peak,
                            unit="B",
                            target=None if in_tiles else "memory",
                            error=errors[direction],
                            tolerance=TOLERANCE,
                        )
                    )
                audio = long * AUDIO_VALUES * DTYPES[precision].itemsize
                report.remarks.append(
                    f"{direction} of {long:g} s, {size_name(size)}, {precision}, {device.type}: {taken:.1f} s"
                    f", {long / taken:.1f} times as fast as it plays; {audio / 1e6:.0f} MB of the "
                    f"{peak / 1e6:.0f} are the audio itself."
                )
    report.remarks.append(frames_lost_by_diffusers())
    report.setting = {
        "seconds": arguments.seconds,
        "tile_seconds": arguments.tile_seconds or "10, the default",
        "check_seconds": arguments.check_seconds,
        "repeats": 1,
        "warm_up": f"{WARM_UP_SECONDS:g} s",
    }
    return report


def precision_of(size: str, device: torch.device) -> str:
    """bf16 where the large model gains from it; the embedded checkpoint as it is."""
    if device.type == "cuda":
        return "bfloat16"
    return "bfloat16" if size == "full" and has_fast_bfloat16(device) else "float32"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sizes", nargs="+", choices=["full", "embedded"], default=["full", "embedded"], help="[both]"
    )
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=[600.0, 30.0], help="the long and the short one [600 30]"
    )
    parser.add_argument("--check-seconds", type=float, default=25.0, help="compared with untiled [25]")
    parser.add_argument("--tile-seconds", type=float, help="[the model's default, 10]")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(__doc__, measure, add_options, argv, positive=("seconds", "check_seconds", "tile_seconds"))


if __name__ == "__main__":
    main()
