"""A small flow-matching model trained beside the autoencoder: its loss makes latents easy to generate.

Source: Parker et al., "SAME: A Semantically-Aligned Music Autoencoder" (arXiv 2605.18613).
"""

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import (
    TimestepEmbedding,
    Timesteps,
    apply_rotary_emb,
    get_1d_rotary_pos_embed,
)
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero
from torch import nn
from torch.nn import functional as F

from ..flow import flow_matching_loss, interpolate, velocity_target
from .running_std import variance_over_processes

_STD_FLOOR = 1e-4


def truncated_logit_normal_times(normal: torch.Tensor, truncation: float = 0.075) -> torch.Tensor:
    r"""Training times of SAME's probe from standard normal numbers, of the same shape, in [0, 1].

    x is logit-normal, truncated to x > truncation, and t = (x − truncation) / (1 − truncation). SAME counts
    time from data to noise and trains at 1 − t; here, as in all of `star_hf.flow`, 1 is data: the two
    reversals cancel. Where the numbers are quantiles of the normal distribution, the times are the same
    quantiles of theirs.

    Raises:
        ValueError: if `truncation` is not in [0, 1).
    """
    if not 0 <= truncation < 1:
        raise ValueError(f"`truncation` must be in [0, 1), not {truncation}.")
    lowest = torch.special.ndtr(torch.special.logit(torch.tensor(truncation, dtype=torch.float64))).item()
    quantile = lowest + (1 - lowest) * torch.special.ndtr(normal.float())
    times = (torch.sigmoid(torch.special.ndtri(quantile)) - truncation) / (1 - truncation)
    return times.clamp(0, 1)


class FlowProbe(nn.Module):
    r"""Joint flow probe: how well a small transformer predicts the latents' flow-matching velocity.

    With the latents z, a running standard deviation s of theirs and noise ε ~ N(0, I), the loss is

    \[\mathbb E\,\lVert v_\theta(z_t, t) - (z_1 - \varepsilon)\rVert^2,
      \qquad z_1 = z / s, \quad z_t = (1 - t)\,\varepsilon + t\,z_1,\]

    the mean over channels and frames, so about 2 before training (the head starts at zero) and, for
    independent Gaussian latents of unit variance, at best \(\mathbb E_t\,1 / (t^2 + (1 - t)^2)\). Its
    gradient trains the probe and, unless detached, the encoder.

    SAME scales the noise by s instead and does not divide the loss, which is s² times this one. The best
    velocity's error grows with the latents' size against the noise, so the gradient of either would ask an
    encoder without SAME's soft normalization to shrink its latents at every step, however often s follows.
    Here 1/s counts as the inverse of the batch's own deviation in the gradient: its component along the
    latents themselves is zero, and the probe can shape them but not scale them. For the same reason s is the
    deviation about each channel's mean, so constant offsets, which are easy to predict, cannot pass for
    signal; for centred latents it is SAME's.

    s is updated by each call in training mode with gradients enabled: s ← d s + (1 − d) std(z), with an
    equal average over the first 1 / (1 − d) calls instead of SAME's start at 1. Where processes train
    together it is taken over all their latents.

    The transformer has adaptive layer norm with zero-initialized gates (DiT) and rotary positions, and takes
    any number of frames.

    Source: Parker et al., "SAME" (arXiv 2605.18613) and its training code; Peebles and Xie, "Scalable
    Diffusion Models with Transformers" (arXiv 2212.09748).

    Args:
        latent_channels: channels of the latents.
        hidden_size: width, `num_heads` times an even number.
        num_layers: transformer blocks.
        num_heads: attention heads.
        std_decay: d above, in [0, 1).
        per_channel: one s for each channel, as the latents of a generator are normalized, instead of one for
            all as in SAME. Then the probe cannot scale single channels either.
        truncation: see `truncated_logit_normal_times`.

    Raises:
        ValueError: if an argument is out of range.
    """

    latent_std: torch.Tensor
    num_updates: torch.Tensor

    def __init__(
        self,
        latent_channels: int,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        std_decay: float = 0.99,
        per_channel: bool = False,
        truncation: float = 0.075,
    ):
        super().__init__()
        for name, value in (("latent_channels", latent_channels), ("num_layers", num_layers)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, not {value}.")
        if num_heads < 1 or hidden_size < 1 or hidden_size % (2 * num_heads):
            raise ValueError(
                f"`hidden_size` must be `num_heads` times an even number, not {hidden_size} for {num_heads}."
            )
        if not 0 <= std_decay < 1:
            raise ValueError(f"`std_decay` must be in [0, 1), not {std_decay}.")
        if not 0 <= truncation < 1:
            raise ValueError(f"`truncation` must be in [0, 1), not {truncation}.")
        self.latent_channels = latent_channels
        self.head_size = hidden_size // num_heads
        self.std_decay = std_decay
        self.per_channel = per_channel
        self.truncation = truncation
        self.latent_projection = nn.Linear(latent_channels, hidden_size)
        self.time_sinusoids = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0, scale=1000)
        self.time_embedding = TimestepEmbedding(256, hidden_size)
        self.blocks = nn.ModuleList(_Block(hidden_size, num_heads) for _ in range(num_layers))
        self.norm = AdaLayerNormContinuous(hidden_size, hidden_size, elementwise_affine=False, eps=1e-6)
        self.velocity_head = nn.Linear(hidden_size, latent_channels)
        # Zero gates make the blocks the identity, a zero head makes the first loss E|z_1 - ε|².
        for layer in (self.norm.linear, self.velocity_head, *(block.norm.linear for block in self.blocks)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("latent_std", torch.ones(latent_channels if per_channel else 1))
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))

    def forward(
        self, latents: torch.Tensor, noise: torch.Tensor, normal: torch.Tensor, detach: bool = False
    ) -> torch.Tensor:
        """The loss, a scalar in float32.

        Args:
            latents: of any audio autoencoder, `(batch, latent_channels, frames)`.
            noise: standard normal numbers of the same shape.
            normal: standard normal numbers, one for each example's time, `(batch,)`.
            detach: train the probe alone; SAME does so for the first 10,000 steps.

        Raises:
            ValueError: if a shape does not fit.
        """
        if latents.ndim != 3 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"`latents` must be (batch, {self.latent_channels} channels, frames), not "
                f"{tuple(latents.shape)}."
            )
        if noise.shape != latents.shape:
            raise ValueError(
                f"`noise` must have the shape of `latents`, {tuple(latents.shape)}, not {tuple(noise.shape)}."
            )
        if normal.shape != latents.shape[:1]:
            raise ValueError(
                f"`normal` must have shape {tuple(latents.shape[:1])}, one number for each example, not "
                f"{tuple(normal.shape)}."
            )
        latents = latents.detach() if detach else latents
        with torch.autocast(latents.device.type, enabled=False):
            data = self._normalize(latents.float()).transpose(1, 2)  # (B, T, C)
            noise = noise.to(data).transpose(1, 2)
            time = truncated_logit_normal_times(normal.to(data), self.truncation)
            noised = interpolate(noise, data, time)
        return flow_matching_loss(self._velocity(noised, time), velocity_target(noise, data))

    def _normalize(self, latents: torch.Tensor) -> torch.Tensor:
        """z / s; the gradient is that of division by the batch's own deviation, scaled to the same value."""
        variance, mean = torch.var_mean(latents, dim=(0, 2), correction=0)
        if self.training and torch.is_grad_enabled():
            count = latents.shape[0] * latents.shape[2]
            everywhere = variance_over_processes(variance.detach(), mean.detach(), count)
            self._update(self._scale(everywhere).sqrt())
        variance = self._scale(variance)
        # `clamp` copies: the next call's update must not reach into this call's backward pass.
        std = self.latent_std.float().clamp(min=_STD_FLOOR)
        own = (variance.detach() / variance).sqrt()
        return latents * (own / std)[:, None]

    def _scale(self, variance: torch.Tensor) -> torch.Tensor:
        """The variances `(channels,)` that latents are divided by: each channel's, or one for all."""
        chosen = variance if self.per_channel else variance.mean(0, keepdim=True)
        return chosen.clamp(min=_STD_FLOOR**2)

    @torch.no_grad()
    def _update(self, std: torch.Tensor) -> None:
        decay = (self.num_updates / (self.num_updates + 1)).clamp(max=self.std_decay)
        self.latent_std.copy_(decay * self.latent_std + (1 - decay) * std)
        self.num_updates += 1

    def _velocity(self, noised: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """dz_t/dt of `(batch, frames, channels)` at t `(batch,)`."""
        dtype = self.velocity_head.weight.dtype
        frames = torch.arange(noised.shape[1], device=noised.device)
        rotary = get_1d_rotary_pos_embed(self.head_size, frames, use_real=True)
        tokens = self.latent_projection(noised.to(dtype))
        # The sinusoids are computed in float32: in half precision 1000 t has no fraction left.
        condition = self.time_embedding(self.time_sinusoids(time).to(dtype))
        for block in self.blocks:
            tokens = block(tokens, condition, rotary)
        return self.velocity_head(self.norm(tokens, condition))


class _Block(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm = AdaLayerNormZero(hidden_size)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_output = nn.Linear(hidden_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.feed_forward = FeedForward(hidden_size, activation_fn="gelu-approximate")

    def forward(self, tokens: torch.Tensor, condition: torch.Tensor, rotary: tuple) -> torch.Tensor:
        normed, gate, shift, scale, feed_forward_gate = self.norm(tokens, emb=condition)
        tokens = tokens + gate[:, None] * self._attend(normed, rotary)
        normed = self.feed_forward_norm(tokens) * (1 + scale[:, None]) + shift[:, None]
        return tokens + feed_forward_gate[:, None] * self.feed_forward(normed)

    def _attend(self, tokens: torch.Tensor, rotary: tuple) -> torch.Tensor:
        query, key, value = (
            self.query_key_value(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )  # each (B, heads, T, head_size)
        query, key = apply_rotary_emb(query, rotary), apply_rotary_emb(key, rotary)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.attention_output(attended.transpose(1, 2).flatten(2))
