"""Audio files and waveforms: read, write, resample, channel layout, peak policy.

A waveform is a float32 tensor (channels, samples), nominally in [-1, 1].
"""

from __future__ import annotations

import io
import math
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Union

import numpy as np
import soundfile
import soxr
import torch

AudioSource = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes]]
PeakPolicy = Literal["limit", "normalize", "keep"]

OUTPUT_FORMATS = ("wav", "flac")
PCM_SUBTYPES = {16: "PCM_16", 24: "PCM_24"}
NORMALIZED_PEAK = 10 ** (-1 / 20)  # -1 dBFS

# Half the length of soxr's HQ filter stays below this many samples of the slower of the two rates.
RESAMPLING_MARGIN = 256
# A stream written to a pipe has no known length; encoders then leave a size near 2**31 or 2**32.
UNKNOWN_SIZE = 0x7FFFF000
# An MP3's announced length may be off by encoder delay and padding: a few frames of 1152 samples.
MP3_LENGTH_TOLERANCE = 4 * 1152


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds: `sampling_rate` in Hz, `channels`, `num_frames` (samples per channel)."""

    sampling_rate: int
    channels: int
    num_frames: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sampling_rate


def audio_info(source: AudioSource) -> AudioInfo:
    """Read the header of a path, bytes or binary file object.

    Raises `AudioError` for a file that is missing, empty, truncated or not audio.
    """
    with _open(source) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def read_audio(
    source: AudioSource,
    sampling_rate: int | None = None,
    channels: int | None = None,
    offset_in_s: float = 0.0,
    duration_in_s: float | None = None,
) -> tuple[torch.Tensor, int]:
    """Read a path, bytes or binary file object: (channels, samples) float32, and its sampling rate in Hz.

    `sampling_rate` resamples and `channels` converts the layout (see `convert_channels`); None keeps the
    file's own. Only `offset_in_s` to `offset_in_s + duration_in_s` is decoded, plus the few samples that the
    resampling filter reaches: the span equals the same span of the whole file to about 1e-6. A span that
    passes the end of the file is cut there. Samples beyond [-1, 1] in float files are kept.

    Raises `AudioError`, naming the file, when it is missing, empty, truncated, not audio, holds NaN or
    infinite samples, starts after its end, or has channels that cannot be converted.
    """
    _check_rate("sampling_rate", sampling_rate)
    _check_channels(channels)
    if not (math.isfinite(offset_in_s) and offset_in_s >= 0):
        raise ValueError(f"`offset_in_s` must be a finite number of seconds >= 0, got {offset_in_s!r}.")
    if duration_in_s is not None and not (math.isfinite(duration_in_s) and duration_in_s > 0):
        raise ValueError(f"`duration_in_s` must be None or a finite number > 0, got {duration_in_s!r}.")

    name = _source_name(source)
    with _open(source) as file:
        from_rate, num_frames = file.samplerate, file.frames
        to_rate = sampling_rate or from_rate
        if not _channels_convertible(file.channels, channels):
            raise AudioError(f"{name}: {_channels_message(file.channels, channels)}")
        if offset_in_s * from_rate >= num_frames:
            raise AudioError(
                f"{name}: `offset_in_s` {offset_in_s:g} is past the end ({num_frames / from_rate:g} s)."
            )
        span = _Span.of(from_rate, to_rate, num_frames, offset_in_s, duration_in_s)
        data = _read_frames(file, name, span.start, span.stop)

    if not np.isfinite(data).all():
        raise AudioError(f"{name}: holds NaN or infinite samples.")
    waveform = resample(torch.from_numpy(np.ascontiguousarray(data.T)), from_rate, to_rate)
    waveform = waveform[:, span.skip :]
    if span.length is not None:
        waveform = waveform[:, : span.length]
    if waveform.shape[1] == 0:
        raise AudioError(f"{name}: the span has no samples at {to_rate} Hz.")
    waveform = convert_channels(waveform, channels) if channels is not None else waveform
    return waveform.contiguous(), to_rate


def resample(waveform: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """Resample (channels, samples) with soxr's HQ filter; the rates are in Hz, the delay is compensated."""
    _check_rate("from_rate", from_rate)
    _check_rate("to_rate", to_rate)
    if from_rate == to_rate:
        return waveform
    resampled = soxr.resample(waveform.detach().cpu().float().T.numpy(), from_rate, to_rate, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(resampled.T)).to(waveform.device)


def convert_channels(waveform: torch.Tensor, channels: int) -> torch.Tensor:
    """Convert (from_channels, samples) to (channels, samples).

    Mono is repeated into every channel; stereo becomes mono as the mean of left and right. Nothing else is
    guessed: the loudspeaker layout of three or more channels is not known here, so any other conversion
    raises `AudioError`. Read such a file with `channels=None` and mix it as its layout asks.
    """
    _check_channels(channels)
    from_channels = waveform.shape[0]
    if not _channels_convertible(from_channels, channels):
        raise AudioError(f"The waveform {_channels_message(from_channels, channels)}")
    if from_channels == channels:
        return waveform
    if from_channels == 1:
        return waveform.repeat(channels, 1)
    return waveform.mean(dim=0, keepdim=True)


def check_writable(path: str | os.PathLike[str], format: str | None = None) -> Path:
    """Return the file that `write_audio(path, …)` would write, or raise before any work is done.

    Raises `ValueError` for an unknown format, and `OSError` when `path` is a folder, or its folder is
    missing or cannot be written to.
    """
    target = Path(path).expanduser().resolve()
    _output_format(target, format)
    if target.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a file to write.")
    if target.exists() and not target.is_file():
        raise OSError(f"{path}: is not a regular file.")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"{path}: the folder {target.parent} does not exist.")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{path}: the file exists and is write-protected.")
    # Only trying tells about read-only file systems, quotas and access lists.
    probe = _temporary_sibling(target)
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        raise PermissionError(f"{path}: cannot write to {target.parent} ({error.strerror}).") from error
    return target


def write_audio(
    path: str | os.PathLike[str],
    waveform: torch.Tensor | np.ndarray,
    sampling_rate: int,
    format: str | None = None,
    peak: PeakPolicy = "limit",
    bit_depth: Literal[16, 24] = 16,
) -> Path:
    """Write (channels, samples) as WAV or FLAC and return the file's path.

    `format` is "wav" or "flac", by default the suffix of `path`. The peak policy "limit" scales the whole
    waveform down to full scale only if it exceeds it, "normalize" scales its peak to -1 dBFS, "keep" changes
    nothing and raises `ValueError` if a sample would clip. The file appears complete or not at all: it is
    written to a temporary name beside `path` and renamed.
    """
    _check_rate("sampling_rate", sampling_rate)
    if bit_depth not in PCM_SUBTYPES:
        raise ValueError(f"`bit_depth` must be one of {tuple(PCM_SUBTYPES)}, got {bit_depth!r}.")
    target = check_writable(path, format)
    samples = torch.as_tensor(waveform).detach().cpu().float()
    if samples.ndim != 2 or samples.numel() == 0:
        raise ValueError(
            f"`waveform` must be (channels, samples) with at least one sample, got {tuple(samples.shape)}."
        )
    if not torch.isfinite(samples).all():
        raise ValueError("`waveform` holds NaN or infinite samples.")
    samples = _apply_peak_policy(samples, peak)

    temporary = _temporary_sibling(target)
    try:
        with temporary.open("xb") as file:
            soundfile.write(
                file,
                samples.T.numpy(),
                sampling_rate,
                subtype=PCM_SUBTYPES[bit_depth],
                format=_output_format(target, format).upper(),
            )
        temporary.replace(target)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{path}: cannot write {samples.shape[0]} channels at {sampling_rate} Hz ({error.error_string})."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _apply_peak_policy(waveform: torch.Tensor, peak: str) -> torch.Tensor:
    level = waveform.abs().max()
    if peak == "limit":
        return waveform / level if level > 1 else waveform
    if peak == "normalize":
        return waveform * (NORMALIZED_PEAK / level) if level > 0 else waveform
    if peak == "keep":
        if level > 1:
            raise ValueError(f"`waveform` peaks at {level:.3f} and would clip; `peak='limit'` scales it.")
        return waveform
    raise ValueError(f"`peak` must be 'limit', 'normalize' or 'keep', got {peak!r}.")


@dataclass(frozen=True)
class _Span:
    """Frames `start` to `stop` to decode, then the samples to skip and to keep after resampling."""

    start: int
    stop: int
    skip: int
    length: int | None  # None: to the end of the file

    @classmethod
    def of(
        cls, from_rate: int, to_rate: int, num_frames: int, offset: float, duration: float | None
    ) -> _Span:
        first = round(offset * to_rate)
        length = None if duration is None else max(1, round(duration * to_rate))
        # Both sampling grids meet every `period` frames; starting there keeps the output on its grid.
        period = from_rate // math.gcd(from_rate, to_rate)
        margin = 0 if from_rate == to_rate else math.ceil(RESAMPLING_MARGIN * max(1.0, from_rate / to_rate))
        start = max(0, (first * from_rate // to_rate - margin) // period * period)
        stop = num_frames
        if length is not None:
            stop = min(num_frames, math.ceil((first + length) * from_rate / to_rate) + margin)
        return cls(start, stop, first - start * to_rate // from_rate, length)


def _read_frames(file: soundfile.SoundFile, name: str, start: int, stop: int) -> np.ndarray:
    try:
        if start:
            file.seek(start)
        data = file.read(stop - start, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name}: is truncated or damaged ({error.error_string}).") from error
    missing = stop - start - len(data)
    if missing > (MP3_LENGTH_TOLERANCE if file.format == "MP3" else 0):
        raise AudioError(f"{name}: is truncated, {missing} of {file.frames} samples are missing.")
    if len(data) == 0:
        raise AudioError(f"{name}: has no samples in the requested span.")
    return data


def _open(source: AudioSource) -> soundfile.SoundFile:
    name = _source_name(source)
    readable = _as_path_or_seekable(source, name)
    if isinstance(readable, Path):
        if not readable.exists():
            raise AudioError(f"{name}: does not exist.")
        if readable.is_dir():
            raise AudioError(f"{name}: is a folder.")
        if readable.stat().st_size == 0 and readable.is_file():
            raise AudioError(f"{name}: is empty (0 bytes).")
        if not os.access(readable, os.R_OK):
            raise AudioError(f"{name}: may not be read (permission denied).")
    elif readable.seek(0, os.SEEK_END) == 0:
        raise AudioError(f"{name}: is empty (0 bytes).")
    else:
        readable.seek(0)
    try:
        file = soundfile.SoundFile(readable)
    # A TypeError is soundfile asking for the rate of what it takes for headerless samples, by the suffix.
    except (soundfile.LibsndfileError, TypeError) as error:
        return _open_with_torchcodec(readable, name, getattr(error, "error_string", "no header"))
    try:
        _check_complete(file, name)
    except AudioError:
        file.close()
        raise
    return file


def _check_complete(file: soundfile.SoundFile, name: str) -> None:
    # libsndfile shortens a cut PCM file silently and only its log tells.
    for line in file.extra_info.splitlines():
        sizes = re.match(r"\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", line)
        if sizes and int(sizes[2]) < int(sizes[1]) < UNKNOWN_SIZE:
            raise AudioError(f"{name}: is truncated, {sizes[2]} of {sizes[1]} bytes of samples are there.")
    if file.frames == 0:
        raise AudioError(f"{name}: has no samples.")


def _open_with_torchcodec(readable: Path | IO[bytes], name: str, reason: str) -> soundfile.SoundFile:
    try:
        from torchcodec.decoders import AudioDecoder
    # torchcodec raises RuntimeError or OSError at import when FFmpeg's libraries are missing.
    except (ImportError, RuntimeError, OSError):
        raise AudioError(
            f"{name}: is not audio that libsndfile reads ({reason.rstrip('.')}). If it is M4A, AAC, WMA or a "
            "video, install torchcodec with FFmpeg, or convert it to WAV or FLAC."
        ) from None
    try:
        content = readable.read_bytes() if isinstance(readable, Path) else _all_bytes(readable)
        decoded = AudioDecoder(content).get_all_samples()
    except (RuntimeError, ValueError) as error:
        raise AudioError(f"{name}: is not audio that libsndfile or torchcodec reads ({reason}).") from error
    if decoded.data.shape[-1] == 0:
        raise AudioError(f"{name}: has no samples.")
    wav = io.BytesIO()
    soundfile.write(
        wav, decoded.data.cpu().numpy().T, int(decoded.sample_rate), format="RF64", subtype="FLOAT"
    )
    wav.seek(0)
    return soundfile.SoundFile(wav)


def _all_bytes(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _as_path_or_seekable(source: AudioSource, name: str) -> Path | IO[bytes]:
    if isinstance(source, (str, os.PathLike)):
        return Path(source).expanduser()
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        raise TypeError(
            f"`source` must be a path, bytes or a binary file object, got {type(source).__name__}."
        )
    if hasattr(source, "seekable") and source.seekable():
        return source
    content = source.read()
    if not isinstance(content, bytes):
        raise TypeError(f"`source` {name} must be opened in binary mode.")
    return io.BytesIO(content)


def _source_name(source: AudioSource) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"<{len(source)} bytes>"
    return str(getattr(source, "name", f"<{type(source).__name__}>"))


def _output_format(target: Path, format: str | None) -> str:
    chosen = target.suffix.lower().lstrip(".") if format is None else format
    if chosen not in OUTPUT_FORMATS:
        where = f"the suffix of {target.name!r}" if format is None else f"`format` {format!r}"
        raise ValueError(f"{where} is no format that can be written: use {' or '.join(OUTPUT_FORMATS)}.")
    return chosen


def _temporary_sibling(target: Path) -> Path:
    return target.with_name(f".{target.name[:64]}.{uuid.uuid4().hex[:8]}.tmp")


def _channels_convertible(from_channels: int, to_channels: int | None) -> bool:
    return (
        from_channels == 1
        or to_channels in (None, from_channels)
        or (from_channels == 2 and to_channels == 1)
    )


def _channels_message(from_channels: int, to_channels: int | None) -> str:
    return (
        f"has {from_channels} channels, which cannot be converted to {to_channels}: only mono to any number "
        "and stereo to mono are. Mix it down first, or read it with `channels=None` and choose channels."
    )


def _check_rate(name: str, rate: int | None) -> None:
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or rate <= 0):
        raise ValueError(f"`{name}` must be a positive number of Hz (int), got {rate!r}.")


def _check_channels(channels: int | None) -> None:
    if channels is not None and (not isinstance(channels, (int, np.integer)) or channels < 1):
        raise ValueError(f"`channels` must be an integer >= 1, got {channels!r}.")
