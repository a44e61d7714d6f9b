"""Latent datasets: what is stored comes back, is sampled anew, and is normalized by its true statistics."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from datasets import Dataset

from star_hf.data import (
    BucketedShuffle,
    EndlessShuffle,
    LatentCollator,
    LatentDataset,
    LatentInfo,
    LatentShard,
    LatentStatistics,
    open_latents,
    row_captions,
    vae_fingerprint,
)

CHANNELS = 3
TEXTS = ["one", "two", "three"]
LENGTHS = [40, 25, 30]


def posteriors():
    torch.manual_seed(3)
    offset, spread = torch.tensor([[5.0], [-1.0], [0.0]]), torch.tensor([[0.1], [2.0], [1.0]])
    return [
        (offset + spread * torch.randn(CHANNELS, frames), 0.1 + torch.rand(CHANNELS, frames))
        for frames in LENGTHS
    ]


@pytest.fixture
def latents(tmp_path):
    """A latent dataset of three clips in two shards."""
    statistics = LatentStatistics(CHANNELS)
    shards = [LatentShard(CHANNELS), LatentShard(CHANNELS)]
    for index, (text, (mean, std)) in enumerate(zip(TEXTS, posteriors(), strict=True)):
        shards[index // 2].add(mean, std, 0, {"text": text, "label": "odd" if text != "two" else "even"})
    for number, shard in enumerate(shards):
        shard.write(tmp_path / f"latents-{number:05d}.parquet")
        statistics.merge(shard.statistics)
    LatentInfo(
        latent_channels=CHANNELS,
        frame_rate=50.0,
        sampling_rate=8000,
        hop_length=160,
        latents_mean=statistics.mean().tolist(),
        latents_std=statistics.std().tolist(),
        num_rows=3,
        num_frames=sum(LENGTHS),
        vae_class="AutoencoderStar",
        vae_fingerprint="0" * 64,
        source="test",
    ).save(tmp_path)
    return tmp_path


def dataset(folder, **options):
    rows, info = open_latents(folder)
    return LatentDataset(rows, info, row_captions(rows), **options)


def test_statistics_equal_those_of_float64_samples():
    statistics = LatentStatistics(CHANNELS)
    for mean, std in posteriors():
        statistics.update(mean, std)
    mean = torch.cat([mean for mean, _ in posteriors()], dim=1).double()
    std = torch.cat([std for _, std in posteriors()], dim=1).double()
    assert statistics.num_frames == sum(LENGTHS)
    torch.testing.assert_close(statistics.mean(), mean.mean(dim=1), rtol=1e-12, atol=1e-12)
    expected = (mean.var(dim=1, unbiased=False) + std.square().mean(dim=1)).sqrt()
    torch.testing.assert_close(statistics.std(), expected, rtol=1e-12, atol=1e-12)
    samples = mean + std * torch.randn(20000, *mean.shape, dtype=torch.float64)
    torch.testing.assert_close(statistics.std(), samples.std(dim=(0, 2)), rtol=1e-2, atol=0)


def test_statistics_keep_their_precision_far_from_zero():
    statistics = LatentStatistics(1)
    frames = 1e4 + torch.linspace(-1, 1, 1001, dtype=torch.float64)[None]
    for chunk in frames.split(100, dim=1):
        statistics.update(chunk, torch.zeros_like(chunk))
    assert float(statistics.std()) == pytest.approx(float(frames.std(unbiased=False)), rel=1e-6)


def test_rows_come_back_in_half_precision(latents):
    rows, info = open_latents(latents)
    assert len(list(latents.glob("latents-*.parquet"))) == 2
    assert (rows["num_frames"], rows["text"], info.frame_rate) == (LENGTHS, TEXTS, 50.0)
    for row, (mean, std) in zip(rows, posteriors(), strict=True):
        for name, values in (("mean", mean), ("std", std)):
            stored = torch.frombuffer(bytearray(row[name]), dtype=torch.float16)
            assert torch.equal(stored.reshape(CHANNELS, -1), values.half())


def test_items_are_normalized_samples_drawn_anew_each_epoch(latents):
    data = dataset(latents)
    (mean, std), info = posteriors()[1], data.info
    draws = torch.stack([data[epoch, 1]["latents"] for epoch in range(2000)])
    assert draws.shape == (2000, LENGTHS[1], CHANNELS)
    restored = draws * torch.tensor(info.latents_std) + torch.tensor(info.latents_mean)
    error = (restored.mean(dim=0).T - mean).abs() / (std / 2000**0.5)
    assert float(error.max()) < 5
    torch.testing.assert_close(restored.std(dim=0).T, std, rtol=0.12, atol=0)
    assert torch.equal(draws[7], data[7, 1]["latents"])
    everything = torch.cat([data[epoch, row]["latents"] for epoch in range(200) for row in range(3)])
    torch.testing.assert_close(everything.mean(dim=0), torch.zeros(CHANNELS), rtol=0, atol=0.03)
    torch.testing.assert_close(everything.std(dim=0), torch.ones(CHANNELS), rtol=0.03, atol=0)


def test_items_of_a_sigma_vae_have_one_scale_of_noise_for_each_example(latents):
    rows, info = open_latents(latents)
    gaussian = LatentDataset(rows, info, row_captions(rows))
    sigma = LatentDataset(rows, replace(info, posterior="sigma"), row_captions(rows))
    (mean, std), draws = posteriors()[0], range(1500)

    def noise(data, epoch):
        restored = data[epoch, 0]["latents"] * torch.tensor(info.latents_std) + torch.tensor(
            info.latents_mean
        )
        return (restored.T - mean) / std

    scales = torch.stack([noise(sigma, epoch).square().mean() for epoch in draws])
    assert float(scales.mean()) == pytest.approx(1, abs=0.2)
    assert float(scales.square().mean() / scales.mean() ** 2) == pytest.approx(3, abs=0.7)
    for epoch in (0, 1):
        both = torch.stack([noise(sigma, epoch).flatten(), noise(gaussian, epoch).flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) > 0.99
    assert torch.equal(sigma[3, 0]["latents"], sigma[3, 0]["latents"])


def test_crops_are_spans_and_short_clips_stay_whole(latents):
    data = dataset(latents, crop_frames=28)
    lengths = [len(data[0, row]["latents"]) for row in range(3)]
    assert lengths == [28, 25, 28]
    info = data.info
    mean, std = posteriors()[0]
    restored = data[3, 0]["latents"] * torch.tensor(info.latents_std) + torch.tensor(info.latents_mean)
    likelihoods = [
        float((((restored.T - mean[:, s : s + 28]) / std[:, s : s + 28]) ** 2).mean()) for s in range(13)
    ]
    assert sum(value < 2 for value in likelihoods) == 1


def test_captions_are_dropped_at_their_rate(latents):
    kept, sometimes_dropped = dataset(latents), dataset(latents, caption_dropout=0.25)
    dropped = [sometimes_dropped[epoch, 0]["text"] == "" for epoch in range(400)]
    assert 70 < sum(dropped) < 130
    assert {kept[epoch, 0]["text"] for epoch in range(20)} == {"one"}


def test_a_sample_has_one_noise_seed_and_every_sample_another(latents):
    data = dataset(latents)
    seeds = [data[epoch, row]["noise_seed"] for epoch in range(50) for row in range(3)]
    assert len(set(seeds)) == 150 and all(0 <= seed < 2**63 for seed in seeds)
    assert (
        data[7, 1]["noise_seed"] == dataset(latents, caption_dropout=0.5, crop_frames=3)[7, 1]["noise_seed"]
    )
    assert data[7, 1]["noise_seed"] != dataset(latents, seed=1)[7, 1]["noise_seed"]


def test_captions_follow_templates():
    rows = Dataset.from_list(
        [{"text": "a", "label": "x", "mean": b"0"}, {"text": "", "label": None, "mean": b""}]
    )
    templates = ["{text}", "the sound of {label}", "audio"]
    assert row_captions(rows, templates=templates) == [["a", "the sound of x", "audio"], ["audio"]]
    assert row_captions(rows, templates=["of {label}"]) == [["of x"], [""]]
    with pytest.raises(ValueError, match="names 'kind', which is not a column of"):
        row_captions(rows, templates=["{kind}"])


def test_captions_are_shared_and_added_by_label():
    rows = Dataset.from_list(
        [
            {"text": "a", "label": "x"},
            {"text": "b", "label": "x"},
            {"text": "c", "label": "y"},
        ]
    )
    assert row_captions(rows) == [["a"], ["b"], ["c"]]
    shared = row_captions(rows, share_by="label", extra={"y": ["d"]})
    assert shared == [["a", "b"], ["a", "b"], ["c", "d"]]
    lists = Dataset.from_list([{"text": ["a", "b"]}, {"text": ["c"]}])
    assert row_captions(lists) == [["a", "b"], ["c"]]
    with pytest.raises(ValueError, match=r"\['z'\], which 'label' never holds"):
        row_captions(rows, share_by="label", extra={"z": ["d"]})
    with pytest.raises(ValueError, match="need share_by"):
        row_captions(rows, extra={"x": ["d"]})
    with pytest.raises(ValueError, match="text_column 'caption' is not in the dataset"):
        row_captions(rows, "caption")


def test_a_batch_is_padded_at_the_end_of_the_audio_and_the_start_of_the_text(latents, tiny_tokenizer):
    from functools import partial

    from star_hf.generation import tokenize_prompts

    data = dataset(latents)
    items = [data[0, row] for row in range(3)]
    for item, text in zip(items, ["a dog barking", "", "rain"], strict=True):
        item["text"] = text
    batch = LatentCollator(partial(tokenize_prompts, tiny_tokenizer, max_tokens=8))(items)
    assert batch["latents"].shape == (3, 40, CHANNELS)
    assert batch["audio_mask"].sum(dim=1).tolist() == LENGTHS
    for row, (item, frames) in enumerate(zip(items, LENGTHS, strict=True)):
        assert torch.equal(batch["latents"][row, :frames], item["latents"])
        assert not batch["latents"][row, frames:].any() and not batch["audio_mask"][row, frames:].any()
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert batch["num_frames"] == LENGTHS and batch["text"] == ["a dog barking", "", "rain"]
    assert batch["noise_seed"].tolist() == [item["noise_seed"] for item in items]
    assert batch["noise_seed"].dtype == torch.int64


def test_lengths_are_those_of_the_items(latents):
    for options in ({}, {"crop_frames": 28}):
        data = dataset(latents, **options)
        assert data.lengths().tolist() == [len(data[0, row]["latents"]) for row in range(3)]
    rows, info = open_latents(latents)
    assert LatentDataset(rows.select([2, 0]), info, [["a"], ["b"]]).lengths().tolist() == [30, 40]


def padding_share(lengths, sampler, batch_size, count):
    batches = islice(zip(*[iter(sampler)] * batch_size, strict=True), count)
    batches = [[lengths[index] for _, index in batch] for batch in batches]
    return 1 - sum(map(sum, batches)) / sum(max(batch) * len(batch) for batch in batches)


def test_buckets_leave_little_padding():
    lengths = np.random.default_rng(0).integers(10, 500, size=1000)
    plain = padding_share(lengths, EndlessShuffle(1000), 16, 125)
    bucketed = padding_share(lengths, BucketedShuffle(lengths, 16), 16, 125)
    assert plain > 0.4 and bucketed < 0.02


@pytest.mark.parametrize("length", [5, 32, 103])
@pytest.mark.parametrize("window_batches", [1, 5, 64])
def test_buckets_give_every_clip_once_per_epoch(length, window_batches):
    lengths = np.random.default_rng(1).integers(1, 50, size=length)
    taken = list(islice(BucketedShuffle(lengths, 8, seed=3, window_batches=window_batches), 8 * length))
    assert sorted(taken) == [(epoch, index) for epoch in range(8) for index in range(length)]
    for start in range(0, len(taken), 8):
        epochs = sorted(epoch for epoch, _ in taken[start : start + 8])
        assert epochs == [position // length for position in range(start, start + 8)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_several_processes_share_the_batches_of_one(world_size):
    lengths = np.random.default_rng(2).integers(1, 90, size=70)
    alone = BucketedShuffle(lengths, 8, seed=5)
    ranks = [
        iter(BucketedShuffle(lengths, 8 // world_size, 5, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for batch in islice(zip(*[iter(alone)] * 8, strict=True), 30):
        shares = [list(islice(rank, 8 // world_size)) for rank in ranks]
        assert sorted(batch) == sorted(pair for share in shares for pair in share)
        totals = [sum(lengths[index] for _, index in share) for share in shares]
        assert max(totals) - min(totals) <= max(lengths[i] for _, i in batch) - min(
            lengths[i] for _, i in batch
        )


@pytest.mark.parametrize("done", [8, 40, 64, 200])
def test_buckets_continue_where_they_stopped(done):
    lengths = np.random.default_rng(3).integers(1, 90, size=45)
    whole = list(islice(BucketedShuffle(lengths, 8, seed=1), 400))
    assert list(islice(BucketedShuffle(lengths, 8, seed=1, start=done), 400 - done)) == whole[done:]
    second = list(islice(BucketedShuffle(lengths, 4, seed=1, start=done, rank=1, world_size=2), 20))
    assert second == whole[done + 1 : done + 41 : 2]


@pytest.mark.parametrize(("lengths", "batch_size", "window"), [([], 2, 4), ([3], 0, 4), ([3], 2, 0)])
def test_buckets_out_of_range_are_refused(lengths, batch_size, window):
    with pytest.raises(ValueError, match="lengths|batch_size|window_batches"):
        BucketedShuffle(lengths, batch_size, window_batches=window)


def test_damaged_datasets_are_refused(latents, tmp_path):
    with pytest.raises(ValueError, match="has no latents.json"):
        open_latents(tmp_path / "elsewhere")
    (latents / "latents-00001.parquet").unlink()
    with pytest.raises(ValueError, match="has 2 rows, latents.json says 3"):
        open_latents(latents)
    info = json.loads((latents / "latents.json").read_text())
    (latents / "latents.json").write_text(json.dumps({**info, "extra": 1}))
    with pytest.raises(ValueError, match="missing or unknown keys: .*extra"):
        open_latents(latents)


def test_what_does_not_fit_half_precision_is_refused(tmp_path):
    shard = LatentShard(1)
    with pytest.raises(ValueError, match="mean does not fit half precision"):
        shard.add(torch.full((1, 2), 1e5), torch.ones(1, 2), 0, {"text": ""})


def test_the_fingerprint_follows_the_weights_and_not_the_statistics(tiny_autoencoder):
    before = vae_fingerprint(tiny_autoencoder)
    tiny_autoencoder.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    assert vae_fingerprint(tiny_autoencoder) == before
    next(tiny_autoencoder.parameters()).data.view(-1)[0] += 1e-6
    assert vae_fingerprint(tiny_autoencoder) != before
