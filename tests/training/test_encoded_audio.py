"""Latents of audio that is encoded while a generator trains: drawn as the autoencoder's posterior says."""

import pytest
import torch

from star_hf import AutoencoderStar

BOTTLENECKS = {
    "gaussian": {"bottleneck": "gaussian"},
    "sigma": {"bottleneck": "sigma", "sigma": 0.5},
    "deterministic": {"bottleneck": "soft_normalization"},
}


@torch.no_grad()
@pytest.mark.parametrize("kind", BOTTLENECKS)
def test_latents_are_draws_of_the_posterior(exported_autoencoder, recordings, kind):
    from engine.noise import SampleNoise
    from loaders.audio_data import AudioDataArguments
    from loaders.encoded_audio import EncodedAudio
    from loaders.generator_data import LatentDataArguments

    vae = AutoencoderStar.from_pretrained(exported_autoencoder).eval().with_bottleneck(**BOTTLENECKS[kind])
    arguments = LatentDataArguments(audio=AudioDataArguments(source=str(recordings)))
    statistics = ([1.0] * 8, [2.0] * 8)
    data = EncodedAudio(arguments, vae, 0, lambda _: None, statistics)
    batch = {
        "waveform": 0.3 * torch.randn(4, 2, 320),
        "num_samples": torch.tensor([320, 200, 320, 33]),
        "noise_seed": torch.tensor([5, 6, 7, 8]),
    }
    latents, mask = data.latents(batch)
    assert mask.sum(dim=1).tolist() == [10, 7, 10, 2]

    source = SampleNoise(batch["noise_seed"] ^ 1, "cpu")
    noise = source.normal(10, 8, lengths=mask.sum(dim=1))
    scales = source.normal(1, 1) if kind == "sigma" else torch.ones(4, 1, 1)
    for row, frames in enumerate(mask.sum(dim=1).tolist()):
        samples = batch["waveform"][row : row + 1, :, : 32 * frames]
        posterior = vae.encode(samples).latent_dist
        expected = posterior.mean[0].T + scales[row] * posterior.std[0].T * noise[row, :frames]
        torch.testing.assert_close(latents[row, :frames], (expected - 1) / 2, rtol=1e-4, atol=1e-5)
        assert not latents[row, frames:].any()
