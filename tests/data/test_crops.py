"""Crops: a crop is what was recorded, the same again for a seed, and bad files do not stop a run."""

import numpy as np
import pytest
import soundfile
import torch

from star_hf.audio import AudioError
from star_hf.data import (
    BadFile,
    BadFiles,
    ClipDataset,
    CropReader,
    CropSettings,
    EndlessShuffle,
    TooManyBadFiles,
    UnwantedClip,
    load_audio_dataset,
)

RATE = 8000


@pytest.fixture
def folder(tmp_path):
    """Clips whose sample n holds n / 8000 (and its negative on the right of the stereo one)."""
    ramp = np.arange(4000) / RATE
    soundfile.write(tmp_path / "mono.wav", ramp, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([ramp, -ramp], 1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", ramp[:300], RATE, subtype="FLOAT")
    return tmp_path


def crops(folder, settings, channels=2, sampling_rate=RATE, cache=False, **more):
    reader = CropReader(settings, sampling_rate, channels)
    cache_at = sampling_rate if cache else None
    return ClipDataset(load_audio_dataset(folder), reader, cache_at=cache_at, **more)


def test_a_crop_is_a_span_of_the_clip_and_a_short_clip_gets_zeros_after(folder):
    dataset = crops(folder, CropSettings(num_samples=1000))
    mono, short, stereo = (dataset[(3, index)]["waveform"] for index in range(3))
    for waveform in (mono, stereo):
        start = round(float(waveform[0, 0]) * RATE)
        torch.testing.assert_close(waveform[0], (start + torch.arange(1000)) / RATE)
    assert torch.equal(mono[0], mono[1])
    assert torch.equal(stereo[0], -stereo[1])
    torch.testing.assert_close(short[0, :300], torch.arange(300) / RATE)
    assert not short[:, 300:].any()


def test_crops_follow_from_seed_epoch_and_index_with_and_without_a_cache(folder):
    settings = CropSettings(num_samples=1000, gain_db=6, channel_gain_db=3, swap_channels=True)
    first = crops(folder, settings, seed=5)
    again = crops(folder, settings, seed=5)
    cached = crops(folder, settings, seed=5, cache=True)
    keys = [(epoch, index) for epoch in range(3) for index in range(3)]
    for key in keys:
        assert torch.equal(first[key]["waveform"], again[key]["waveform"])
        torch.testing.assert_close(first[key]["waveform"], cached[key]["waveform"], rtol=2e-3, atol=2e-3)
    other = crops(folder, settings, seed=6)
    assert not any(torch.equal(first[key]["waveform"], other[key]["waveform"]) for key in keys)
    assert not torch.equal(first[0, 0]["waveform"], first[1, 0]["waveform"])


def test_noise_seeds_name_the_sample_and_are_all_different(folder):
    keys = [(epoch, index) for epoch in range(20) for index in range(3)]

    def seeds(seed, **settings):
        dataset = crops(folder, CropSettings(**settings), seed=seed)
        return [dataset[key]["noise_seed"] for key in keys]

    first = seeds(5, num_samples=1000)
    assert len(set(first)) == len(keys) and all(0 <= seed < 2**63 for seed in first)
    assert first == seeds(5, num_samples=300)
    assert not set(first) & set(seeds(6, num_samples=1000))


def test_workers_give_the_same_batches(folder):
    data = crops(folder, CropSettings(num_samples=1000, gain_db=6))

    def first_batches(workers):
        loader = torch.utils.data.DataLoader(
            data,
            batch_size=2,
            sampler=EndlessShuffle(3),
            num_workers=workers,
            collate_fn=lambda items: torch.stack([item["waveform"] for item in items]),
        )
        return torch.stack([batch for batch, _ in zip(loader, range(5), strict=False)])

    assert torch.equal(first_batches(0), first_batches(2))


def test_only_the_crop_is_read(folder, monkeypatch):
    import star_hf.data.items as module

    spans = []

    def spy(source, **options):
        spans.append(options["duration_in_s"])
        return read_audio(source, **options)

    read_audio = module.read_audio
    monkeypatch.setattr(module, "read_audio", spy)
    crops(folder, CropSettings(num_samples=1000))[0]
    assert spans == [1000 / RATE]


def test_a_resampled_crop_has_the_wanted_length(folder):
    waveform = crops(folder, CropSettings(num_samples=2000), sampling_rate=16000)[0]["waveform"]
    assert waveform.shape == (2, 2000)
    slope = torch.diff(waveform[0, 100:-100]).median()
    assert float(slope) == pytest.approx(1 / 16000, rel=1e-2)


def test_gains_stay_in_their_range_and_pan_mono_sources(folder):
    settings = CropSettings(num_samples=300, gain_db=6, channel_gain_db=3)
    dataset = crops(folder, settings)
    gains = []
    for epoch in range(200):
        waveform = dataset[epoch, 1]["waveform"]
        gains.append(20 * torch.log10(waveform[:, 299] * RATE / 299))
    gains = torch.stack(gains)
    assert gains.abs().max() < 9.01 and gains.max() > 6 and gains.min() < -6
    assert (gains[:, 0] - gains[:, 1]).abs().max() > 3


def test_a_gain_does_not_push_a_crop_out_of_range():
    clip = torch.full((1, 100), 0.9)
    reader = CropReader(CropSettings(num_samples=100, gain_db=20), RATE, 1)
    peaks = [float(reader.read(clip, np.random.default_rng(seed)).abs().max()) for seed in range(20)]
    assert max(peaks) == pytest.approx(1.0) and min(peaks) < 0.5


def test_swapped_channels_are_the_other_half_of_the_crops(folder):
    dataset = crops(folder, CropSettings(num_samples=3999, swap_channels=True))
    left_is_positive = [bool(dataset[epoch, 2]["waveform"][0, -1] > 0) for epoch in range(40)]
    assert 8 < sum(left_is_positive) < 32


def test_silent_crops_are_drawn_again_and_the_loudest_is_kept():
    clip = torch.zeros(1, 10000)
    clip[:, 9000:] = 0.1
    loud = CropReader(CropSettings(num_samples=1000, silence_db=-40, silence_retries=200), RATE, 1)
    silent = CropReader(CropSettings(num_samples=1000, silence_db=-10, silence_retries=0), RATE, 1)
    draws = [np.random.default_rng(seed) for seed in range(20)]
    assert all(loud.read(clip, draw).any() for draw in draws)
    assert not all(silent.read(clip, draw).any() for draw in draws)


def test_clips_of_another_channel_count_are_converted_picked_from_or_skipped(folder):
    quad = np.stack([np.full(500, channel / 8) for channel in range(4)], 1)
    soundfile.write(folder / "quad.wav", quad, RATE, subtype="FLOAT")

    def read(name, policy, channels, draw):
        reader = CropReader(CropSettings(num_samples=300, channels=policy), RATE, channels)
        return reader.read(str(folder / name), np.random.default_rng(draw))

    stereo = read("stereo.wav", "convert", 1, 0)
    assert stereo.shape == (1, 300) and not stereo.any()  # left and right cancel
    with pytest.raises(AudioError, match="4 channels"):
        read("quad.wav", "convert", 2, 0)
    pairs = {tuple((8 * read("quad.wav", "random", 2, draw)[:, 0]).tolist()) for draw in range(60)}
    assert pairs == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    halves = {bool(read("stereo.wav", "random", 1, draw)[0, -1] > 0) for draw in range(20)}
    assert halves == {True, False}
    with pytest.raises(UnwantedClip, match="1 channels instead of 2"):
        read("mono.wav", "skip", 2, 0)
    assert read("stereo.wav", "skip", 2, 0).any()


def test_another_clip_stands_in_for_one_of_the_wrong_channel_count(folder):
    dataset = crops(folder, CropSettings(num_samples=300, channels="skip"))
    items = [dataset[epoch, index] for epoch in range(4) for index in range(3)]
    assert all(torch.equal(item["waveform"][0], -item["waveform"][1]) for item in items)
    assert not any(item["failures"] for item in items)
    with pytest.raises(ValueError, match="1000 clips in a row are passed over: . channels instead of 4"):
        crops(folder, CropSettings(num_samples=300, channels="skip"), channels=4)[0]


def test_the_level_is_that_of_the_crop_that_is_given():
    clip = torch.zeros(2, 10000)
    clip[0], clip[1] = 0.5, -0.5
    clip[:, 9000:] = 0.1
    reader = CropReader(CropSettings(num_samples=500, silence_db=-40, silence_retries=200), RATE, 1)
    assert reader.read(clip, np.random.default_rng(0)).any()


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": "stereo"},
        {"num_samples": 0},
        {"gain_db": -1},
        {"channel_gain_db": float("nan")},
        {"silence_retries": -1},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=f"crops {next(iter(settings))} must be"):
        CropSettings(**settings)


@pytest.mark.parametrize("cache", [False, True])
def test_the_next_clip_stands_in_for_a_bad_one(folder, cache):
    (folder / "broken.wav").write_text("not audio")  # sorts before the others
    item = crops(folder, CropSettings(num_samples=1000), cache=cache)[0]
    assert item["waveform"].any()
    (failure,) = item["failures"]
    assert failure.name == str(folder / "broken.wav")
    assert failure.name not in failure.reason


def test_a_folder_of_bad_files_ends_with_their_list(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.wav").write_text("not audio")
    with pytest.raises(TooManyBadFiles, match=r"3 files in a row(.|\n)*2\.wav"):
        crops(tmp_path, CropSettings())[0]


def test_bad_files_are_reported_once_and_stop_the_run_above_their_share():
    said = []
    bad = BadFiles(total=40, max_share=0.05, report=said.append)
    bad.add([("a", "broken"), ("b", "empty")], seen=4)
    bad.add([("a", "broken")], seen=2)
    assert said == ["skipping a: broken", "skipping b: empty"]
    with pytest.raises(
        TooManyBadFiles, match=r"3 of 40 files cannot be read, more than the 5.0%(.|\n)*b: empty"
    ):
        bad.add([("c", "cut")])


def test_a_stream_is_judged_after_a_while():
    bad = BadFiles(total=None, max_share=0.1, report=lambda line: None, judged_after=10)
    bad.add([("a", "x"), ("b", "x")], seen=5)
    with pytest.raises(TooManyBadFiles, match="2 of 10"):
        bad.add([], seen=5)


def test_each_dataset_is_judged_by_itself():
    said = []
    bad = BadFiles({"small": 10, "large": 1000}, max_share=0.1, report=said.append)
    bad.add([BadFile("row 1", "cut", "small"), BadFile("row 1", "cut", "large")])
    assert said == ["skipping small: row 1: cut", "skipping large: row 1: cut"]
    with pytest.raises(TooManyBadFiles, match="2 of 10 files of 'small'") as stopped:
        bad.add([BadFile("row 2", "empty", "small")])
    assert "large" not in str(stopped.value) and "small: row 2: empty" in str(stopped.value)


def test_endless_shuffle_visits_every_index_once_per_epoch_and_continues():
    def take(count, **options):
        return [pair for pair, _ in zip(EndlessShuffle(7, seed=1, **options), range(count), strict=False)]

    pairs = take(21)
    for epoch in range(3):
        own = [index for number, index in pairs if number == epoch]
        assert sorted(own) == list(range(7))
    assert take(11, start=10) == pairs[10:]
    halves = [take(10, rank=rank, world_size=2) for rank in range(2)]
    assert [pair for both in zip(*halves, strict=True) for pair in both] == pairs[:20]
    with pytest.raises(ValueError, match="at least 1"):
        EndlessShuffle(0)
