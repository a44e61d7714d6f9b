"""`star-hf reconstruct`: audio through an autoencoder and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from star_hf.cli import options
from star_hf.cli.console import Reporter, Stopwatch
from star_hf.cli.models import load_autoencoder
from star_hf.cli.outputs import plan_outputs, prepare_outputs
from star_hf.cli.runtime import choose_device, choose_dtype, fast_imports, keep_freed_memory
from star_hf.hub import EMBEDDED_NAME, resolve_model


def reconstruct(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files.")],
    output: options.Output = "reconstruction",
    model: options.Model = None,
    format: options.Format = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Encode audio files to latents and decode them again, at the autoencoder's rate and channels."""
    paths = plan_outputs(output, [file.stem for file in inputs], format)
    folder = resolve_model(model)
    reporter, clock = Reporter(as_json), Stopwatch()
    with clock.phase("loading"):
        with fast_imports():
            from star_hf.audio import AudioError, audio_info

            prepare_outputs(output, paths)
            jobs, errors = [], []
            for file, path in zip(inputs, paths, strict=True):
                try:
                    audio_info(file)
                    jobs.append((file, path))
                except AudioError as error:
                    errors.append(str(error))
            if not jobs:
                raise AudioError(" ".join(errors))
            chosen_device = choose_device(device)
            keep_freed_memory()
            with reporter.progress(f"loading {model or EMBEDDED_NAME}", 1):
                autoencoder = load_autoencoder(folder, chosen_device, choose_dtype(dtype, chosen_device))

    files = []
    for file, path in jobs:
        try:
            with reporter.progress(str(file), 1):
                facts = _reconstruct_file(autoencoder, file, path, clock)
        except AudioError as error:
            errors.append(str(error))
            continue
        if facts["peak"] == 0:
            reporter.warn(f"{file} is silent.")
        files.append(facts)
        reporter.result(_as_text(facts))
    reporter.note(str(clock))
    for message in errors:
        reporter.note(f"error: {message}")
    reporter.document(
        {"model": model or EMBEDDED_NAME, "files": files, "errors": errors, "time": clock.rounded()}
    )
    if errors:
        raise typer.Exit(1)


def _reconstruct_file(autoencoder: Any, file: Path, path: Path, clock: Stopwatch) -> dict[str, Any]:
    import torch

    from star_hf.audio import read_audio, write_audio
    from star_hf.generation.vae_interface import encode_moments
    from star_hf.regularizers import rate_kbps

    config = autoencoder.config
    with clock.phase("reading"):
        waveform, rate = read_audio(file, config.sampling_rate, config.audio_channels)
    batch = waveform[None].to(autoencoder.device, autoencoder.dtype)
    with torch.inference_mode():
        with clock.phase("encoding"):
            latents = encode_moments(autoencoder, batch)
        with clock.phase("decoding"):
            decoded = autoencoder.decode(latents.mean).sample[0, :, : waveform.shape[1]].float().cpu()
    with clock.phase("writing"):
        write_audio(path, decoded, rate)
    waveform = waveform[:, : decoded.shape[1]]
    seconds = waveform.shape[1] / rate
    frame_rate = latents.mean.shape[-1] / seconds
    # Only a Gaussian posterior has a KL divergence to count.
    has_rate = latents.kind == "gaussian"
    return {
        "input": str(file),
        "path": str(path),
        "seconds": seconds,
        "sampling_rate": rate,
        "channels": decoded.shape[0],
        "snr_db": _signal_to_noise(waveform, decoded),
        "rate_kbps": round(float(rate_kbps(latents.mean, latents.std, frame_rate)), 2) if has_rate else None,
        "peak": round(float(waveform.abs().max()), 4),
        "decoded_peak": round(float(decoded.abs().max()), 4),
    }


def _signal_to_noise(signal: Any, decoded: Any) -> float | None:
    """In dB; None where it is not finite: of silence, or of a perfect copy."""
    energy, noise = float(signal.square().sum()), float((signal - decoded).square().sum())
    return round(10 * math.log10(energy / noise), 2) if energy > 0 and noise > 0 else None


def _as_text(facts: dict[str, Any]) -> str:
    snr = "" if facts["snr_db"] is None else f"  SNR {facts['snr_db']:.1f} dB"
    rate = "" if facts["rate_kbps"] is None else f"  {facts['rate_kbps']:.1f} kbit/s"
    return (
        f"{facts['path']}  {facts['seconds']:.2f} s{snr}{rate}  "
        f"peak {facts['peak']:.2f} -> {facts['decoded_peak']:.2f}"
    )
