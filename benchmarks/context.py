"""The bidirectional Mamba stack in the encoder: its share of encoding, and how its time grows with length.

python benchmarks/context.py --threads 2

First the stack's output is compared with the recurrence that Mamba-2 is defined by. Then the stack is timed
on features of each length, in turn with a whole encode of the same length; beyond `--encode-frames`, where a
whole encode takes minutes, its time is that of the longest one times the length: convolutions are linear.
Growth is the slope of log time over log length between the second length and the last: 1 is linear. On a GPU
with mamba-ssm the same shows its kernels, and their difference from the recurrence.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from importlib.util import find_spec

import torch
from common import DTYPES, measure_rates, relative_error, require_agreement, run_benchmark
from measurements import Measurement, Report
from models import make_autoencoder, size_name
from plain_mamba import plain_context
from processes import peak_above
from timing import count_flops, time_in_turn

from star_hf.autoencoder import AutoencoderStar

LENGTHS = [215, 860, 3445, 13000]  # 10 s to 10 minutes at Stable Audio Open's frame rate
CHECKED_FRAMES = 150  # more than two chunks of the matrix form, and no whole number of them
TOLERANCE = {"cpu": 1e-4, "cuda": 1e-3}


def make_features(vae: AutoencoderStar, frames: int) -> torch.Tensor:
    """What the encoder's CNN could give, `(1, channels, 1, frames)` in channels-last memory."""
    channels = vae.encoder.context.in_proj.in_features
    features = torch.randn(1, channels, 1, frames, generator=torch.Generator().manual_seed(frames))
    return features.to(vae.device, vae.dtype, memory_format=torch.channels_last)


def encode(vae: AutoencoderStar, frames: int) -> torch.Tensor:
    samples = frames * vae.hop_length
    generator = torch.Generator(vae.device).manual_seed(1)
    waveform = torch.randn(
        1, vae.config.audio_channels, samples, generator=generator, device=vae.device, dtype=vae.dtype
    )
    return vae.encode(0.1 * waveform).latent_dist.mean


@torch.inference_mode()
def context_error(vae: AutoencoderStar) -> float:
    """Of what the stack adds to the features, against the recurrence."""
    features = make_features(vae, CHECKED_FRAMES)
    added = vae.encoder.context(features).cpu().double() - features.cpu().double()
    return relative_error(added, plain_context(vae.encoder.context, features) - features.cpu().double())


@torch.inference_mode()
def measure_size(
    vae: AutoencoderStar, name: str, arguments: argparse.Namespace, report: Report
) -> list[Measurement]:
    """Raises `ValueError` where the stack differs from the recurrence."""
    device = vae.device.type
    stack, error = vae.encoder.context, context_error(vae)
    require_agreement(f"the Mamba stack of {name} on {device}", error, TOLERANCE[device], "its recurrence")
    vae.enable_tiling()  # long waveforms are encoded so
    measurements, seconds, encode_seconds = [], {}, {}
    for frames in sorted(arguments.frames):
        features = make_features(vae, frames)
        (_, flops), peak = peak_above(partial(count_flops, partial(stack, features)), vae.device)
        if frames <= arguments.encode_frames or not encode_seconds:
            encode(vae, min(frames, LENGTHS[0]))  # warm-up, as the call above is for the stack
            seconds[frames], encode_seconds[frames] = time_in_turn(
                [partial(stack, features), partial(encode, vae, frames)], arguments.repeats, vae.device
            )
        else:
            (seconds[frames],) = time_in_turn([partial(stack, features)], arguments.repeats, vae.device)
            longest = max(encode_seconds)
            encode_seconds[frames] = encode_seconds[longest] * frames / longest
        measurements.append(
            Measurement(
                what=f"bidirectional Mamba, {frames} frames, {name}",
                peer_name="the whole encode",
                precision="float32",
                device=device,
                ours=seconds[frames],
                peer=encode_seconds[frames],
                ratio=seconds[frames] / encode_seconds[frames],
                target="mamba share" if device == "cpu" else None,
                flops=flops,
                share=report.share(flops, seconds[frames], device, "float32"),
                our_bytes=peak,
                error=error,
                tolerance=TOLERANCE[device],
            )
        )
    if len(seconds) > 2:
        measurements.append(growth(seconds, name, device))
    if device == "cuda" and find_spec("mamba_ssm"):
        measurements.append(
            Measurement(
                what=f"error of mamba-ssm's kernels, {name}",
                peer_name="plain recurrence",
                precision="float32",
                device=device,
                ours=error,
                peer=None,
                ratio=error,
                unit="",
                target="mamba kernels",
            )
        )
    return measurements


def growth(seconds: dict[int, float], name: str, device: str) -> Measurement:
    """The exponent of time over length, from the second length on: a call's overhead hides it before."""
    (shorter, longer) = sorted(seconds)[1], max(seconds)
    exponent = math.log(seconds[longer] / seconds[shorter]) / math.log(longer / shorter)
    return Measurement(
        what=f"growth of Mamba's time from {shorter} to {longer} frames, {name}",
        peer_name="linear",
        precision="float32",
        device=device,
        ours=exponent,
        peer=1.0,
        ratio=exponent,
        unit="",
        target="mamba growth",
    )


def measure(arguments: argparse.Namespace) -> Report:
    report = Report(rates=measure_rates(arguments.devices, list(DTYPES), arguments.tiny))
    for device in arguments.devices:
        for size in ["tiny"] if arguments.tiny else arguments.sizes:
            vae = make_autoencoder(size).to(device)
            report.measurements += measure_size(vae, size_name(size), arguments, report)
    report.setting = {
        "frames": arguments.frames,
        "encode_frames": arguments.encode_frames,
        "repeats": arguments.repeats,
        "warm_up": "one call of each",
        "mamba_ssm": find_spec("mamba_ssm") is not None,
    }
    report.remarks.append(
        f"Beyond {arguments.encode_frames} frames the time of the whole encode is that of the longest "
        "measured one times the length."
    )
    return report


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sizes", nargs="+", choices=["full", "embedded"], default=["full", "embedded"], help="[both]"
    )
    parser.add_argument("--frames", type=int, nargs="+", default=LENGTHS, help=f"lengths {LENGTHS}")
    parser.add_argument("--encode-frames", type=int, default=860, help="longest whole encode [860]")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each [3]")


def main(argv: list[str] | None = None) -> None:
    run_benchmark(__doc__, measure, add_options, argv, positive=("frames", "encode_frames", "repeats"))


if __name__ == "__main__":
    main()
