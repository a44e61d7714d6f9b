"""The training recipes in plain PyTorch, on diffusers' and transformers' models: the other side of ours.

As one would write them first: waveforms mixed in the time domain, `torch.stft` and automatic differentiation,
default memory layout, PyTorch's old weight norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import weight_norm
from transformers import Qwen3Model


class Discriminator(nn.Module):
    """`MultiScaleSTFTDiscriminator`, its parameters by their old names `weight_g` and `weight_v`."""

    def __init__(self, audio_channels: int = 2, fft_sizes=(2048, 1024, 512, 256, 128), filters: int = 64):
        super().__init__()
        self.scales = nn.ModuleList(Scale(2 * audio_channels, size, filters) for size in fft_sizes)

    def forward(self, waveform: torch.Tensor) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        results = [scale(waveform) for scale in self.scales]
        return [logits for logits, _ in results], [features for _, features in results]


class Scale(nn.Module):
    def __init__(self, in_channels: int, fft_size: int, filters: int):
        super().__init__()
        self.fft_size = fft_size
        self.register_buffer("window", torch.hann_window(fft_size), persistent=False)
        self.activation = nn.LeakyReLU(0.2)
        self.hidden = nn.ModuleList(
            [weight_norm(nn.Conv2d(in_channels, filters, (3, 9), padding=(1, 4)))]
            + [
                weight_norm(nn.Conv2d(filters, filters, (3, 9), padding=(d, 4), dilation=(d, 1)))
                for d in (1, 2, 4)
            ]
            + [weight_norm(nn.Conv2d(filters, filters, (3, 3), padding=(1, 1)))]
        )
        self.output = weight_norm(nn.Conv2d(filters, 1, (3, 3), padding=(1, 1)))

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        batch, channels, _ = waveform.shape
        spectrum = torch.stft(
            waveform.flatten(0, 1),
            self.fft_size,
            self.fft_size // 4,
            window=self.window,
            center=False,
            return_complex=True,
        )
        spectrum = spectrum / self.window.square().sum().sqrt()
        spectrum = spectrum.unflatten(0, (batch, channels)).transpose(2, 3)
        x = torch.cat([spectrum.real, spectrum.imag], dim=1)
        features = []
        for layer in self.hidden:
            x = self.activation(layer(x))
            features.append(x)
        return self.output(x), features


def discriminator_loss(real: Sequence[torch.Tensor], generated: Sequence[torch.Tensor]) -> torch.Tensor:
    scales = [F.relu(1 - r).mean() + F.relu(1 + g).mean() for r, g in zip(real, generated, strict=True)]
    return sum(scales) / len(scales)


def adversarial_loss(generated: Sequence[torch.Tensor]) -> torch.Tensor:
    return sum(-logits.mean() for logits in generated) / len(generated)


def feature_matching_loss(
    real: Sequence[Sequence[torch.Tensor]], generated: Sequence[Sequence[torch.Tensor]]
) -> torch.Tensor:
    scales = [
        sum((r - g).abs().mean() for r, g in zip(on_real, on_generated, strict=True)) / len(on_real)
        for on_real, on_generated in zip(real, generated, strict=True)
    ]
    return sum(scales) / len(scales)


class SpectralLoss(nn.Module):
    """`MultiResolutionSTFTLoss` for stereo with its default weights and A-weighting."""

    def __init__(self, gains: dict[int, torch.Tensor]):
        super().__init__()
        self.fft_sizes = list(gains)
        for size, gain in gains.items():
            self.register_buffer(f"gain_{size}", gain[:, None])
            self.register_buffer(f"window_{size}", torch.hann_window(size))

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        (left, right), (target_left, target_right) = prediction.unbind(1), target.unbind(1)
        pairs = [
            (0.5, left + right, target_left + target_right),
            (0.5, left - right, target_left - target_right),
            (0.5, left, target_left),
            (0.5, right, target_right),
        ]
        losses = [weight * self.distance(p, t, size) for size in self.fft_sizes for weight, p, t in pairs]
        return sum(losses) / len(self.fft_sizes)

    def distance(self, prediction: torch.Tensor, target: torch.Tensor, size: int) -> torch.Tensor:
        p, t = self.magnitude(prediction, size), self.magnitude(target, size)
        norms = [torch.linalg.vector_norm(magnitude.detach(), dim=(1, 2)) for magnitude in (p, t)]
        convergence = torch.linalg.vector_norm(t - p, dim=(1, 2)) / torch.maximum(*norms)
        return convergence.mean() + (t.log() - p.log()).abs().mean()

    def magnitude(self, waveform: torch.Tensor, size: int) -> torch.Tensor:
        window, gain = getattr(self, f"window_{size}"), getattr(self, f"gain_{size}")
        spectrum = torch.stft(waveform, size, size // 4, window=window, return_complex=True) * gain
        return (spectrum.real**2 + spectrum.imag**2).clamp(min=1e-8).sqrt()


class Generator(nn.Module):
    """STAR-Gen's forward pass around the same modules, with an additive mask over everything."""

    def __init__(self, embedding: nn.Module, backbone: Qwen3Model, head: nn.Linear):
        super().__init__()
        self.audio_embedding, self.backbone, self.flow_head = embedding, backbone, head

    def forward(self, latents, t, input_ids, attention_mask, audio_mask):
        text = self.backbone.embed_tokens(input_ids)
        embeds = torch.cat([text, self.audio_embedding(latents, t, latents.dtype)], dim=1)
        tokens, length = text.shape[1], embeds.shape[1]
        real = torch.cat([attention_mask, audio_mask], dim=1)
        allowed = torch.ones(length, length, dtype=torch.bool, device=embeds.device)
        allowed[:tokens] = allowed[:tokens].tril()
        allowed = allowed & real[:, None, :] | torch.eye(length, dtype=torch.bool, device=embeds.device)
        mask = torch.zeros_like(allowed, dtype=embeds.dtype).masked_fill(~allowed, float("-inf"))
        output = self.backbone(
            inputs_embeds=embeds,
            attention_mask={"full_attention": mask[:, None]},
            position_ids=(real.long().cumsum(dim=1) - 1).clamp(min=0),
            use_cache=False,
        )
        return self.flow_head(output.last_hidden_state[:, tokens:])
