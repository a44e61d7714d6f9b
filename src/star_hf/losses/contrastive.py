"""A contrastive critic: latents that a small network can tie to their captions.

Source: SAME (Stable Audio 3) trains such a critic of text and latents along with the autoencoder; the loss
and the learned temperature are those of CLIP (Radford et al., "Learning Transferable Visual Models From
Natural Language Supervision", 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

_INITIAL_TEMPERATURE = 0.07
_LARGEST_SCALE = 100.0  # CLIP's bound on 1/temperature


class ContrastiveCritic(nn.Module):
    r"""Symmetric InfoNCE between clips' latents, pooled over time, and the embeddings of their captions.

    With unit vectors a_i of the latents and c_i of the captions, and a learned temperature τ,

    \[-\frac{1}{2N} \sum_i \left( \ln \frac{e^{a_i c_i/\tau}}{\sum_{j \in N_i} e^{a_i c_j/\tau}}
      + \ln \frac{e^{a_i c_i/\tau}}{\sum_{j \in N_i} e^{a_j c_i/\tau}} \right)\]

    where N_i is i and the clips with another caption than i's: clips with equal captions are no negatives of
    each other. Clips without a caption (the empty text) are left out. With fewer than two different captions
    the loss is 0, and gives gradients of 0 to all parameters. In float32.

    Each process compares its own batch: nothing is gathered, so a clip has no more negatives than the batch
    of one process gives.

    Args:
        latent_channels: of the latents.
        text_dim: width of the captions' embeddings.
        hidden_size: width of the critic, and of the common space.

    Raises:
        ValueError: if a size is less than 1.
    """

    def __init__(self, latent_channels: int, text_dim: int, hidden_size: int = 256) -> None:
        super().__init__()
        sizes = {"latent_channels": latent_channels, "text_dim": text_dim, "hidden_size": hidden_size}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"`{name}` must be at least 1, not {size}.")
        self.latent_channels, self.text_dim = latent_channels, text_dim
        self.frames = nn.Sequential(
            nn.Conv1d(latent_channels, hidden_size, 1),
            nn.GELU(),
            nn.Conv1d(hidden_size, hidden_size, 1),
            nn.GELU(),
        )
        self.audio_projection = nn.Linear(hidden_size, hidden_size)
        self.text_projection = nn.Linear(text_dim, hidden_size)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(_INITIAL_TEMPERATURE)))

    def embed_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Unit vectors `(batch, hidden_size)` of latents `(batch, latent_channels, frames)`."""
        return F.normalize(self.audio_projection(self.frames(latents.float()).mean(dim=-1)), dim=-1)

    def embed_text(self, text_embeddings: torch.Tensor) -> torch.Tensor:
        """Unit vectors `(batch, hidden_size)` of captions' embeddings `(batch, text_dim)`."""
        return F.normalize(self.text_projection(text_embeddings.float()), dim=-1)

    def forward(
        self,
        latents: torch.Tensor,
        text_embeddings: torch.Tensor,
        captions: Sequence[str] | None = None,
    ) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            latents: `(batch, latent_channels, frames)`.
            text_embeddings: `(batch, text_dim)`, as `CaptionEncoder` gives them; no gradient reaches them.
            captions: the texts, which tell the clips that share one or have none; `None` if each has its own.

        Raises:
            ValueError: if the shapes do not match.
        """
        batch = latents.shape[0]
        if latents.ndim != 3 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"`latents` must be (batch, {self.latent_channels}, frames), not {tuple(latents.shape)}."
            )
        if text_embeddings.shape != (batch, self.text_dim):
            raise ValueError(
                f"`text_embeddings` must be {(batch, self.text_dim)}, not {tuple(text_embeddings.shape)}."
            )
        if isinstance(captions, str) or (captions is not None and len(captions) != batch):
            raise ValueError(f"`captions` must be a list of {batch} texts, not {captions!r}.")
        has_text, others = _comparisons(captions, batch)
        has_text, others = has_text.to(latents.device), others.to(latents.device)
        with torch.autocast(latents.device.type, enabled=False):
            audio, text = self.embed_latents(latents), self.embed_text(text_embeddings.detach())
            scale = self.log_scale.clamp(max=math.log(_LARGEST_SCALE)).exp()
            # A clip without a caption is compared with itself alone, which costs nothing.
            logits = (scale * audio @ text.T).masked_fill(~others, -torch.inf)
            own = torch.arange(batch, device=latents.device)
            losses = F.cross_entropy(logits, own, reduction="none")
            losses = (losses + F.cross_entropy(logits.T, own, reduction="none")) / 2
            return (losses * has_text).sum() / has_text.sum().clamp(min=1)


def _comparisons(captions: Sequence[str] | None, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which clips have a caption `(batch,)`, and with which each is compared `(batch, batch)`."""
    own = torch.eye(batch, dtype=torch.bool)
    if captions is None:
        return torch.ones(batch), torch.ones(batch, batch, dtype=torch.bool)
    numbers: dict[str, int] = {}
    groups = torch.tensor([numbers.setdefault(caption, len(numbers)) for caption in captions])
    has_text = torch.tensor([caption != "" for caption in captions])
    both = has_text[:, None] & has_text[None, :]
    return has_text.float(), own | (both & (groups[:, None] != groups[None, :]))
