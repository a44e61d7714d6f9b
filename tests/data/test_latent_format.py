"""Latent datasets on disk: what the fingerprint of an autoencoder covers, sums of statistics, and the Hub."""

import json

import pytest
import torch
from diffusers import AutoencoderOobleck

from star_hf import AutoencoderStar
from star_hf.data import LatentInfo, LatentShard, LatentStatistics, open_latents, vae_fingerprint

SIZES = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 4],
    "channel_multiples": [1, 2],
    "decoder_channels": 4,
    "decoder_input_channels": 4,
    "sampling_rate": 8000,
}


def star(**changes):
    torch.manual_seed(0)
    options = {**SIZES, "filterbank_bands": 4, "linear_shortcut": True, "context_type": "transformer"}
    options |= {"num_context_layers": 1, "context_hidden_size": 8}
    return AutoencoderStar(**{**options, **changes})


def oobleck():
    torch.manual_seed(0)
    return AutoencoderOobleck(**SIZES)


@pytest.mark.parametrize("make", [star, oobleck])
def test_every_weight_that_shapes_the_latents_counts_and_no_other(make):
    vae, waveform = make(), torch.randn(1, 2, 512)
    for parameter in vae.parameters():  # some start at zero, and hide what stands before them
        parameter.data += 0.1 * torch.randn_like(parameter)
    fingerprint, latents = vae_fingerprint(vae), vae.encode(waveform).latent_dist.parameters
    for name, parameter in vae.named_parameters():
        before = parameter.detach().clone()
        parameter.data += 0.1 + 0.1 * torch.rand_like(parameter)
        latents_changed = not torch.equal(vae.encode(waveform).latent_dist.parameters, latents)
        assert (vae_fingerprint(vae) != fingerprint) == latents_changed, name
        parameter.data.copy_(before)


def test_configuration_counts_where_it_shapes_the_latents():
    fingerprint = vae_fingerprint(star())
    assert vae_fingerprint(star(decoder_channels=8)) == fingerprint
    assert vae_fingerprint(star(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)) == fingerprint
    assert vae_fingerprint(star(filterbank_scales=[1.0, 0.5, 0.5, 0.2])) != fingerprint
    assert vae_fingerprint(star(sampling_rate=16000)) != fingerprint
    assert vae_fingerprint(star(decoder_input_channels=5)) != fingerprint


@pytest.mark.parametrize(
    "bottleneck", [{"bottleneck": "sigma", "sigma": 0.5}, {"bottleneck": "soft_normalization"}]
)
def test_the_bottleneck_counts_and_what_only_decodes_or_records_does_not(bottleneck):
    vae = star().with_bottleneck(**bottleneck)
    fingerprint = vae_fingerprint(vae)
    assert fingerprint != vae_fingerprint(star())
    vae.register_to_config(latent_noise=0.1, regularizer={"name": "none"})
    assert vae_fingerprint(vae) == fingerprint
    if vae.normalization is None:
        vae.register_to_config(sigma=0.6)
    else:
        vae.normalization.running_std.fill_(1.1)
    assert vae_fingerprint(vae) != fingerprint


def test_latents_of_models_from_before_there_was_a_choice_still_fit():
    vae = star()
    fingerprint = vae_fingerprint(vae)
    old = {"bottleneck", "sigma", "latent_noise", "regularizer"}
    assert old < set(vae.config)
    vae._internal_dict = {name: value for name, value in vae.config.items() if name not in old}
    assert vae_fingerprint(vae) == fingerprint


def test_statistics_of_parts_add_up_and_survive_json_exactly():
    torch.manual_seed(1)
    whole, parts = LatentStatistics(3), [LatentStatistics(3), LatentStatistics(3)]
    for index in range(6):
        posterior = torch.randn(3, 5 + index), torch.rand(3, 5 + index)
        whole.update(*posterior)
        parts[index // 3].update(*posterior)
    total = LatentStatistics(3)
    for part in parts:
        total.merge(LatentStatistics.from_dict(json.loads(json.dumps(part.to_dict()))))
    direct = LatentStatistics(3)
    for part in parts:
        direct.merge(part)
    assert torch.equal(total.sum, direct.sum) and torch.equal(total.sum_of_squares, direct.sum_of_squares)
    assert total.num_frames == whole.num_frames == sum(range(5, 11))
    torch.testing.assert_close(total.mean(), whole.mean(), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(total.std(), whole.std(), rtol=1e-14, atol=1e-15)


def test_a_shard_has_the_statistics_of_what_it_stores():
    torch.manual_seed(2)
    mean, std = 100 + torch.randn(2, 7), torch.rand(2, 7)
    shard, stored = LatentShard(2), LatentStatistics(2)
    shard.add(mean, std, 0, {"text": ""})
    stored.update(mean.half(), std.half())
    assert torch.equal(shard.statistics.sum, stored.sum)
    assert not torch.equal(shard.statistics.sum, mean.double().sum(dim=1))


def write_dataset(folder):
    folder.mkdir()
    shard = LatentShard(2)
    shard.add(torch.zeros(2, 3), torch.ones(2, 3), 0, {"text": "a"})
    shard.write(folder / "latents-00000.parquet")
    LatentInfo(2, 50.0, 8000, 160, [0.0] * 2, [1.0] * 2, 1, 3, "AutoencoderStar", "0" * 64, "x").save(folder)


def test_descriptions_from_before_there_was_a_choice_of_posteriors_are_gaussian(tmp_path):
    write_dataset(tmp_path / "latents")
    path = tmp_path / "latents" / "latents.json"
    values = json.loads(path.read_text())
    del values["posterior"]
    path.write_text(json.dumps(values))
    assert LatentInfo.load(tmp_path / "latents").posterior == "gaussian"
    path.write_text(json.dumps({**values, "posterior": "vq"}))
    with pytest.raises(
        ValueError, match="`posterior` must be one of gaussian, sigma, deterministic, not 'vq'"
    ):
        LatentInfo.load(tmp_path / "latents")
    del values["frame_rate"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"missing or unknown keys: \['frame_rate'\]"):
        LatentInfo.load(tmp_path / "latents")


def test_a_dataset_of_the_hub_is_fetched_by_its_name(tmp_path, monkeypatch):
    write_dataset(tmp_path / "snapshot")
    calls = []

    def snapshot_download(name, **options):
        calls.append((name, options))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    rows, info = open_latents("someone/some-latents", revision="v1")
    assert (rows["text"], info.num_frames) == (["a"], 3)
    patterns = ["latents.json", "latents-*.parquet"]
    assert calls == [
        ("someone/some-latents", {"repo_type": "dataset", "revision": "v1", "allow_patterns": patterns})
    ]
    write_dataset(tmp_path / "own")
    (tmp_path / "someone").mkdir()
    (tmp_path / "own").rename(tmp_path / "someone" / "some-latents")
    open_latents("someone/some-latents")
    assert len(calls) == 1


def test_a_name_that_leads_nowhere_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="'runs/nothing' is neither a folder nor a dataset that the Hub gives"
    ):
        open_latents("runs/nothing")
