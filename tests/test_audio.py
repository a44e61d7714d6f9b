"""Reading, writing, resampling, channels, peaks, and every kind of bad file."""

from __future__ import annotations

import io
import os
import struct
import sys
import types

import numpy as np
import pytest
import soundfile
import torch

from star_hf import audio
from star_hf.audio import (
    AudioError,
    audio_info,
    check_writable,
    convert_channels,
    read_audio,
    resample,
    write_audio,
)
from star_hf.cli.outputs import FORMATS


def noise(channels: int = 2, samples: int = 4000, level: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((samples, channels)) * level).astype(np.float32)


def encoded(data: np.ndarray, rate: int = 44100, format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, data, rate, format=format, subtype=subtype)
    return file.getvalue()


class TestRead:
    @pytest.mark.parametrize(
        ("format", "subtype", "tolerance"),
        [
            ("WAV", "PCM_U8", 1 / 128),
            ("WAV", "PCM_16", 1 / 32768),
            ("WAV", "PCM_24", 2**-23),
            ("WAV", "FLOAT", 0),
            ("WAV", "DOUBLE", 0),
            ("FLAC", "PCM_24", 2**-23),
            ("AIFF", "PCM_16", 1 / 32768),
        ],
    )
    @pytest.mark.parametrize("rate", [8000, 44100, 96000, 192000])
    def test_formats_and_rates(self, format, subtype, tolerance, rate):
        data = noise()
        waveform, found = read_audio(encoded(data, rate, format, subtype))
        assert found == rate and waveform.dtype == torch.float32 and waveform.shape == (2, 4000)
        assert np.abs(waveform.numpy().T - data).max() <= tolerance * 1.001

    def test_path_bytes_file_objects_and_pipes_are_equal(self, tmp_path):
        content = encoded(noise())
        path = tmp_path / "clip.wav"
        path.write_bytes(content)

        class Pipe(io.RawIOBase):
            def __init__(self):
                self.buffer = io.BytesIO(content)

            def read(self, size=-1):
                return self.buffer.read(size)

            def seekable(self):
                return False

        expected, _ = read_audio(path)
        half_read = io.BytesIO(content)
        half_read.read(1000)
        with path.open("rb") as file:
            for source in (str(path), content, bytearray(content), half_read, file, Pipe()):
                assert torch.equal(read_audio(source)[0], expected)

    def test_source_of_another_type(self):
        with pytest.raises(TypeError, match="must be a path, bytes or a binary file object, got int"):
            read_audio(3)

    def test_silence_is_audio(self):
        waveform, _ = read_audio(encoded(np.zeros((100, 1), np.float32)))
        assert waveform.shape == (1, 100) and not waveform.any()

    def test_samples_beyond_full_scale_are_kept(self):
        waveform, _ = read_audio(encoded(noise(level=2.0), subtype="FLOAT"))
        assert waveform.abs().max() > 2

    def test_seven_channels_are_read_but_not_converted(self, tmp_path):
        path = tmp_path / "surround.wav"
        path.write_bytes(encoded(noise(channels=7)))
        assert read_audio(path)[0].shape[0] == 7
        with pytest.raises(AudioError, match=r"surround.wav: has 7 channels, which cannot be converted to 2"):
            read_audio(path, channels=2)

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("sampling_rate", 0),
            ("sampling_rate", 44100.0),
            ("channels", 0),
            ("offset_in_s", -1.0),
            ("offset_in_s", float("nan")),
            ("duration_in_s", 0.0),
            ("duration_in_s", float("inf")),
        ],
    )
    def test_wrong_arguments_are_named(self, argument, value):
        with pytest.raises(ValueError, match=f"`{argument}` must be .*got {value}"):
            read_audio(encoded(noise()), **{argument: value})

    def test_info(self):
        info = audio_info(encoded(noise(samples=12000), 48000))
        assert (info.sampling_rate, info.channels, info.num_frames, info.duration) == (48000, 2, 12000, 0.25)


class TestPartialRead:
    @pytest.mark.parametrize("offset", [0.0, 0.1237, 1.0, 1.95])
    @pytest.mark.parametrize("duration", [0.05, 0.5, None])
    @pytest.mark.parametrize(
        ("from_rate", "to_rate"),
        [(44100, 44100), (48000, 44100), (22050, 44100), (44100, 16000), (96000, 44100), (192000, 8000)],
    )
    def test_equals_the_span_of_the_whole(self, from_rate, to_rate, offset, duration):
        content = encoded(noise(samples=2 * from_rate, level=0.3), from_rate, subtype="FLOAT")
        whole, _ = read_audio(content, to_rate)
        part, _ = read_audio(content, to_rate, offset_in_s=offset, duration_in_s=duration)
        start = round(offset * to_rate)
        length = whole.shape[1] if duration is None else round(duration * to_rate)
        expected = whole[:, start : start + length]
        assert part.shape == expected.shape
        assert (part - expected).abs().max() < 2e-6

    def test_decodes_only_the_span(self, monkeypatch):
        decoded = []
        original = soundfile.SoundFile.read

        def read(self, frames=-1, **kwargs):
            decoded.append(frames)
            return original(self, frames, **kwargs)

        content = encoded(noise(samples=480000), 48000)
        monkeypatch.setattr(soundfile.SoundFile, "read", read)
        read_audio(content, 44100, offset_in_s=5, duration_in_s=0.1)
        assert len(decoded) == 1 and decoded[0] < 6000

    def test_span_past_the_end_is_cut(self):
        part, _ = read_audio(encoded(noise(samples=44100)), offset_in_s=0.75, duration_in_s=1.0)
        assert part.shape[1] == 11025

    def test_start_past_the_end(self, tmp_path):
        path = tmp_path / "short.wav"
        path.write_bytes(encoded(noise(samples=44100)))
        with pytest.raises(AudioError, match=r"short.wav: `offset_in_s` 2 is past the end \(1 s\)"):
            read_audio(path, offset_in_s=2.0)


def _unknown_length(content: bytes) -> bytes:
    """A WAV as an encoder writes it into a pipe."""
    position = content.index(b"data") + 4
    return content[:position] + struct.pack("<I", 0xFFFFFFFF) + content[position + 4 :]


class TestBadFiles:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("empty.wav", b"", "is empty (0 bytes)"),
            ("header.wav", encoded(noise())[:30], "is not audio that libsndfile reads"),
            ("no_samples.wav", encoded(noise(samples=0)), "has no samples"),
            ("cut.wav", encoded(noise())[:9000], "is truncated, 8956 of 16000 bytes"),
            ("cut_float.wav", encoded(noise(), subtype="FLOAT")[:9000], "is truncated"),
            ("cut.aiff", encoded(noise(), format="AIFF")[:9000], "is truncated"),
            ("cut.au", encoded(noise(), format="AU")[:9000], "is truncated"),
            ("cut.flac", encoded(noise(samples=40000), format="FLAC")[:30000], "is truncated or damaged"),
            (
                "nan.wav",
                encoded(np.full((99, 1), np.nan, np.float32), subtype="FLOAT"),
                "holds NaN or infinite",
            ),
            (
                "inf.wav",
                encoded(np.full((99, 1), np.inf, np.float32), subtype="FLOAT"),
                "holds NaN or infinite",
            ),
            ("text.wav", b"this is not audio at all " * 50, "is not audio that libsndfile reads"),
            ("text.raw", b"this is not audio at all " * 50, "is not audio that libsndfile reads"),
            ("film.m4a", b"\0\0\0\x20ftypM4A " + bytes(500), "install torchcodec with FFmpeg, or convert it"),
        ],
    )
    def test_message_names_the_file_and_what_is_wrong(self, tmp_path, monkeypatch, name, content, message):
        monkeypatch.setitem(sys.modules, "torchcodec", None)
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(AudioError) as error:
            read_audio(path)
        assert name in str(error.value) and message in str(error.value)

    def test_half_an_mp3_is_truncated(self, tmp_path):
        content = encoded(noise(samples=88200), format="MP3", subtype="MPEG_LAYER_III")
        assert read_audio(content)[0].shape[1] >= 88200
        with pytest.raises(AudioError, match="is truncated, .* samples are missing"):
            read_audio(content[: len(content) // 2])

    def test_missing_file_and_folder(self, tmp_path):
        with pytest.raises(AudioError, match="nowhere.wav: does not exist"):
            audio_info(tmp_path / "nowhere.wav")
        with pytest.raises(AudioError, match="is a folder"):
            audio_info(tmp_path)

    def test_bad_bytes_are_named_by_their_size(self):
        with pytest.raises(AudioError, match="<9000 bytes>: is truncated"):
            audio_info(encoded(noise())[:9000])

    def test_a_stream_of_unknown_length_is_not_truncated(self):
        content = encoded(noise())
        assert torch.equal(read_audio(_unknown_length(content))[0], read_audio(content)[0])

    def test_files_are_closed(self, tmp_path):
        path = tmp_path / "cut.wav"
        path.write_bytes(encoded(noise())[:9000])
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        for _ in range(3):
            with pytest.raises(AudioError):
                read_audio(path)
        after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        assert after <= before


class TestTorchcodec:
    def _install(self, monkeypatch, decode):
        decoders = types.ModuleType("torchcodec.decoders")
        decoders.AudioDecoder = lambda content: types.SimpleNamespace(get_all_samples=lambda: decode(content))
        monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
        monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)

    def test_reads_what_libsndfile_cannot(self, tmp_path, monkeypatch):
        samples = torch.from_numpy(noise(samples=8000).T.copy())
        self._install(monkeypatch, lambda content: types.SimpleNamespace(data=samples, sample_rate=16000))
        path = tmp_path / "clip.m4a"
        path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
        waveform, rate = read_audio(path, offset_in_s=0.25, duration_in_s=0.125)
        assert rate == 16000 and torch.equal(waveform, samples[:, 4000:6000])
        assert audio_info(path.read_bytes()).num_frames == 8000

    def test_failure_names_the_file(self, tmp_path, monkeypatch):
        def fail(content):
            raise RuntimeError("no stream")

        self._install(monkeypatch, fail)
        path = tmp_path / "notes.m4a"
        path.write_bytes(b"some notes")
        with pytest.raises(AudioError, match="notes.m4a: is not audio that libsndfile or torchcodec reads"):
            read_audio(path)


class TestResample:
    @pytest.mark.parametrize(("from_rate", "to_rate"), [(48000, 44100), (44100, 48000), (96000, 44100)])
    def test_a_sine_stays_where_it_is(self, from_rate, to_rate):
        seconds = torch.arange(from_rate // 2, dtype=torch.float64) / from_rate
        waveform = torch.sin(2 * torch.pi * 1000 * seconds).float()[None]
        resampled = resample(waveform, from_rate, to_rate)
        assert resampled.shape == (1, to_rate // 2)
        seconds = torch.arange(to_rate // 2, dtype=torch.float64) / to_rate
        middle = slice(to_rate // 8, -to_rate // 8)
        expected = torch.sin(2 * torch.pi * 1000 * seconds).float()
        assert (resampled[0] - expected)[middle].abs().max() < 1e-4

    def test_same_rate_is_the_same_tensor(self):
        waveform = torch.rand(2, 10)
        assert resample(waveform, 44100, 44100) is waveform

    def test_wrong_rate(self):
        with pytest.raises(ValueError, match="`to_rate` must be a positive number of Hz"):
            resample(torch.rand(1, 10), 44100, -1)


class TestChannels:
    def test_mono_is_repeated(self):
        mono = torch.rand(1, 5)
        assert torch.equal(convert_channels(mono, 2), torch.cat([mono, mono]))
        assert convert_channels(mono, 4).shape == (4, 5)

    def test_stereo_becomes_the_mean(self):
        stereo = torch.tensor([[1.0, 0.0], [0.0, -0.5]])
        assert torch.equal(convert_channels(stereo, 1), torch.tensor([[0.5, -0.25]]))

    @pytest.mark.parametrize(("have", "want"), [(7, 2), (6, 1), (2, 6), (3, 2)])
    def test_layouts_are_not_guessed(self, have, want):
        with pytest.raises(AudioError, match=f"has {have} channels, which cannot be converted to {want}"):
            convert_channels(torch.rand(have, 5), want)

    def test_nothing_to_do(self):
        waveform = torch.rand(7, 5)
        assert convert_channels(waveform, 7) is waveform


class TestWrite:
    @pytest.mark.parametrize("suffix", FORMATS)
    @pytest.mark.parametrize("bit_depth", [16, 24])
    def test_round_trip(self, tmp_path, suffix, bit_depth):
        waveform = torch.from_numpy(noise().T.copy())
        path = write_audio(tmp_path / f"clip.{suffix}", waveform, 44100, bit_depth=bit_depth)
        again, rate = read_audio(path)
        assert rate == 44100 and (again - waveform).abs().max() <= 2.0 ** (1 - bit_depth)
        info = soundfile.info(path)
        assert (info.format, info.subtype) == (suffix.upper(), f"PCM_{bit_depth}")
        assert os.listdir(tmp_path) == [f"clip.{suffix}"]

    def test_format_overrides_the_suffix_and_arrays_are_taken(self, tmp_path):
        path = write_audio(tmp_path / "clip.bin", np.zeros((1, 100)), 8000, format="flac")
        assert soundfile.info(path).format == "FLAC"
        assert audio.OUTPUT_FORMATS == FORMATS

    @pytest.mark.parametrize(
        ("peak", "level", "expected"),
        [("limit", 0.5, 0.5), ("limit", 2.0, 1.0), ("normalize", 0.1, 10 ** (-1 / 20)), ("keep", 0.9, 0.9)],
    )
    def test_peak_policy(self, tmp_path, peak, level, expected):
        waveform = torch.sin(torch.arange(4410) * 0.05)[None].repeat(2, 1)
        waveform = waveform / waveform.abs().max() * level
        again, _ = read_audio(write_audio(tmp_path / "clip.wav", waveform, 44100, peak=peak, bit_depth=24))
        assert again.abs().max() == pytest.approx(expected, abs=1e-4)
        # Scaled as a whole: the shape of the waveform is untouched.
        assert (again / expected - waveform / level).abs().max() < 1e-4

    def test_silence_cannot_be_normalized_and_stays_silent(self, tmp_path):
        again, _ = read_audio(write_audio(tmp_path / "clip.wav", torch.zeros(1, 10), 8000, peak="normalize"))
        assert not again.any()

    @pytest.mark.parametrize(
        ("waveform", "options", "message"),
        [
            (torch.full((1, 9), 1.5), {"peak": "keep"}, "peaks at 1.500 and would clip"),
            (
                torch.zeros(1, 9),
                {"peak": "loud"},
                "`peak` must be 'limit', 'normalize' or 'keep'",
            ),
            (torch.zeros(1, 9), {"bit_depth": 8}, "`bit_depth` must be one of"),
            (torch.zeros(1, 9), {"format": "mp3"}, "'mp3' is no format that can be written"),
            (torch.zeros(9), {}, "`waveform` must be .channels, samples."),
            (torch.zeros(2, 0), {}, "`waveform` must be .channels, samples."),
            (torch.full((1, 9), float("nan")), {}, "holds NaN or infinite"),
            (torch.zeros(9, 9), {"format": "flac"}, "cannot write 9 channels at 8000 Hz"),
        ],
    )
    def test_wrong_arguments_leave_no_file(self, tmp_path, waveform, options, message):
        with pytest.raises(ValueError, match=message):
            write_audio(tmp_path / "clip.wav", waveform, 8000, **options)
        assert not os.listdir(tmp_path)

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("No space left on device")])
    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path, monkeypatch, interruption):
        path = tmp_path / "clip.wav"
        path.write_bytes(b"the old file")

        def write(file, *args, **kwargs):
            file.write(b"RIFF")
            raise interruption

        monkeypatch.setattr(soundfile, "write", write)
        with pytest.raises((KeyboardInterrupt, OSError)):
            write_audio(path, torch.zeros(1, 10), 8000)
        assert path.read_bytes() == b"the old file" and os.listdir(tmp_path) == ["clip.wav"]

    def test_a_link_is_written_through(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "clip.wav"
        link.symlink_to(tmp_path / "elsewhere" / "target.wav")
        write_audio(link, torch.zeros(1, 10), 8000)
        assert link.is_symlink() and audio_info(tmp_path / "elsewhere" / "target.wav").num_frames == 10


class TestCheckWritable:
    def test_leaves_nothing_behind(self, tmp_path):
        assert check_writable(tmp_path / "clip.wav") == (tmp_path / "clip.wav").resolve()
        assert not os.listdir(tmp_path)

    def test_folder_missing_folder_and_device(self, tmp_path):
        (tmp_path / "folder.wav").mkdir()
        with pytest.raises(IsADirectoryError, match="folder.wav: is a folder"):
            check_writable(tmp_path / "folder.wav")
        with pytest.raises(NotADirectoryError, match="nowhere does not exist"):
            check_writable(tmp_path / "nowhere" / "clip.wav")
        if os.path.exists("/dev/null"):
            with pytest.raises(OSError, match="/dev/null: is not a regular file"):
                check_writable("/dev/null", format="wav")

    def test_unknown_suffix(self, tmp_path):
        with pytest.raises(ValueError, match="the suffix of 'clip.mp3' is no format .* use wav or flac"):
            check_writable(tmp_path / "clip.mp3")

    def test_a_folder_that_takes_no_files(self, tmp_path, monkeypatch):
        def refuse(self, *args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.open", refuse)
        with pytest.raises(PermissionError, match="clip.wav: cannot write to .*Permission denied"):
            check_writable(tmp_path / "clip.wav")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
    def test_a_protected_folder(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError):
            check_writable(tmp_path / "clip.wav")
