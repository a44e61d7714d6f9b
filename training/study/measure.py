"""What a trained autoencoder does on clips that no run has seen: the same code for every run."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from diffusers.models.modeling_utils import ModelMixin

from measurement import naming, progress, read_clips
from star_hf.evaluation import (
    ChannelKL,
    LatentCovariance,
    LatentMoments,
    LatentSpectrum,
    channel_capacity,
    mel_distance,
    si_sdr,
    stft_distance,
)
from star_hf.generation.vae_interface import latent_layout

NOISE_SCALES = (0.1, 0.3)
Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: Is told a clip's name, its reconstruction and the original, both `(channels, samples)`.
Listen = Callable[[str, torch.Tensor, torch.Tensor], None]


@torch.no_grad()
def measure(
    vae: ModelMixin,
    held_out: Dataset,
    audio_column: str,
    title: str,
    latent_noise: float = 0.0,
    listen: Listen = lambda *_: None,
) -> dict[str, Any]:
    """Metrics and latent statistics over the clips, each clip on its own, as plain numbers.

    `latent_noise` is the scale of the noise that the decoder was trained under, in units of the standard
    deviation of all latents; a σ-VAE's σ is read from its configuration.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # an export may add noise of its own when it decodes
        kind, means, latents = _profile_latents(vae, held_out, audio_column, title)
        moments = latents.pop("moments")
        clips = _reconstruct_clips(vae, held_out, audio_column, title, means, moments.std, listen)
    metrics = {
        **{name: statistics.fmean(values) for name, values in clips.items()},
        "rate_kbps": None,
        "kl_head_tail_ratio": None,
        "capacity_kbps": None,
    }
    frame_rate = latent_layout(vae).sampling_rate / latent_layout(vae).hop_length
    if kind == "gaussian":
        profile = latents.pop("kl").profile(frame_rate).to_dict()
        latents["kl_per_channel"] = profile["kl_per_channel"]
        metrics |= {"rate_kbps": profile["rate_kbps"], "kl_head_tail_ratio": profile["head_tail_ratio"]}
    else:
        latents.pop("kl")
        noise = designed_noise(vae, moments, latent_noise)
        if noise is not None:
            capacity = channel_capacity(moments.variance, noise, frame_rate)
            latents |= {"designed_noise": noise, **capacity.to_dict()}
            metrics["capacity_kbps"] = capacity.capacity_kbps
    for name in ("latent_correlation", "local_predictability", "variance_head_tail_ratio", "spectral_decay"):
        metrics[name] = latents.pop(name)
    return {
        "metrics": metrics,
        "std_over_clips": {name: statistics.pstdev(values) for name, values in clips.items()},
        "clips": len(held_out),
        "posterior": kind,
        "frame_rate": frame_rate,
        "parameters": sum(parameter.numel() for parameter in vae.parameters()),
        "latents": latents,
    }


def designed_noise(vae: ModelMixin, moments: LatentMoments, latent_noise: float) -> float | None:
    """σ of the noise between encoder and decoder in training, in the latents' own unit; `None` for none.

    That is a σ-VAE's sigma, and `latent_noise` times the standard deviation of all latents together, which is
    how `LatentNoise` scales it; independent noises add in their squares.
    """
    sigma = vae.config.get("sigma") or 0.0
    variance = moments.variance.mean() + moments.mean.var(correction=0)
    noise = (sigma**2 + latent_noise**2 * variance.item()) ** 0.5
    return noise or None


def _profile_latents(
    vae: ModelMixin, held_out: Dataset, audio_column: str, title: str
) -> tuple[str, list[torch.Tensor], dict[str, Any]]:
    """The posterior's kind, its mean for each clip, and what the means (and KL) say over all clips."""
    covariance, spectrum, kl = LatentCovariance(), LatentSpectrum(), ChannelKL()
    kind, means = "gaussian", []
    for name, waveform in read_clips(progress(held_out, f"{title}: latents"), audio_column, vae):
        posterior = vae.encode(waveform[None].to(vae.device)).latent_dist
        # the posteriors of diffusers are Gaussian and do not say so
        kind = getattr(posterior, "kind", "gaussian")
        means.append(posterior.mode().cpu())
        with naming(name):
            covariance.update(means[-1])
            spectrum.update(means[-1])
            if kind == "gaussian":
                kl.update(posterior.mean, posterior.std)
    moments = covariance.moments()
    return kind, means, {"moments": moments, "kl": kl, **moments.to_dict(), **spectrum.spectrum().to_dict()}


def _reconstruct_clips(
    vae: ModelMixin,
    held_out: Dataset,
    audio_column: str,
    title: str,
    means: list[torch.Tensor],
    std: torch.Tensor,
    listen: Listen,
) -> dict[str, list[float]]:
    """Each clip's distances, decoded from its mean and from its mean with noise."""
    rate = vae.config.sampling_rate
    clean: dict[str, Distance] = {
        "stft_distance": stft_distance,
        "mel_distance": lambda prediction, reference: mel_distance(prediction, reference, rate),
        "si_sdr": si_sdr,
    }
    values: dict[str, list[float]] = {name: [] for name in clean}
    scales = torch.tensor([0.0, *NOISE_SCALES])[:, None, None]
    clips = read_clips(progress(held_out, f"{title}: reconstructions"), audio_column, vae)
    for number, (name, waveform) in enumerate(clips):
        mean, reference = means[number], waveform[None]
        # the same numbers for every run with latents of this shape
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(number))
        latents = mean + scales * std.float()[:, None] * noise
        decoded = vae.decode(latents.to(vae.device)).sample[..., : waveform.shape[-1]].float().cpu()
        prediction, *noisy = decoded.split(1)
        with naming(name):
            listen(name, prediction[0], waveform)
            for key, distance in clean.items():
                values[key].append(distance(prediction, reference).item())
            for scale, other in zip(NOISE_SCALES, noisy, strict=True):
                key = f"stft_distance_noise_{scale:g}"
                values.setdefault(key, []).append(stft_distance(other, reference).item())
    return values
