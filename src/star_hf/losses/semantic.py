"""Alignment of latents with the features of a frozen audio encoder."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

ALIGNMENT_FORMS = ("cosine", "l1", "mse")


class SemanticAlignment(nn.Module):
    r"""How far a linear map of the latents is from a teacher's features, and their similarities from its.

    With z_t the latents of a frame, f_t the features at its centre and W a learned linear map,

    \[w_f \operatorname{mean}_t \left(1 - \cos(W z_t, f_t)\right)
      + w_s \operatorname{mean}_{s,t} \left| \cos(z_s, z_t) - \cos(f_s, f_t) \right|\]

    where the second mean is over pairs of frames within a clip. The forms `"l1"` and `"mse"` compare W z_t
    and f_t element by element instead; they are for comparison: with them latents generate worse than without
    alignment (Semantic-VAE). All in float32.

    Args:
        latent_channels: of the latents.
        teacher_dim: width of the features.
        form: of the first term, one of `ALIGNMENT_FORMS`.
        self_similarity_weight: w_s; 0 leaves the term out.
        frame_weight: w_f; 0 leaves the term and the map out.
        normalize_features: bring each frame's features to zero mean and unit variance before comparing.

    Raises:
        ValueError: if an argument is out of range.

    Source: SemaVoice, with the losses of Yao et al., "Reconstruction vs. Generation" (VA-VAE, 2025), without
    their margins.
    """

    def __init__(
        self,
        latent_channels: int,
        teacher_dim: int,
        form: str = "cosine",
        self_similarity_weight: float = 1.0,
        frame_weight: float = 1.0,
        normalize_features: bool = False,
    ) -> None:
        super().__init__()
        if form not in ALIGNMENT_FORMS:
            raise ValueError(f"`form` must be one of {', '.join(ALIGNMENT_FORMS)}, not {form!r}.")
        weights = {"self_similarity_weight": self_similarity_weight, "frame_weight": frame_weight}
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"`{name}` must be at least 0, not {weight}.")
        if not any(weights.values()):
            raise ValueError("`self_similarity_weight` and `frame_weight` must not both be 0.")
        self.latent_channels, self.teacher_dim = latent_channels, teacher_dim
        self.form = form
        self.self_similarity_weight, self.frame_weight = self_similarity_weight, frame_weight
        self.normalize_features = normalize_features
        self.projection = nn.Conv1d(latent_channels, teacher_dim, 1) if frame_weight else None

    def forward(self, latents: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar in float32.

        Args:
            latents: `(batch, latent_channels, frames)`.
            features: `(batch, teacher_frames, teacher_dim)`, frames that divide the same span evenly; as many
                as the latents' are interpolated linearly between their centres. No gradient reaches them.

        Raises:
            ValueError: if the shapes do not match.
        """
        self._check(latents, features)
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            targets = features_at_frames(features.detach().float(), latents.shape[-1])
            if self.normalize_features:
                targets = F.layer_norm(targets.transpose(1, 2), (self.teacher_dim,)).transpose(1, 2)
            loss = latents.new_zeros(())
            if self.projection is not None:
                loss = loss + self.frame_weight * self._frame_distance(self.projection(latents), targets)
            if self.self_similarity_weight:
                difference = _self_similarity(latents) - _self_similarity(targets)
                loss = loss + self.self_similarity_weight * difference.abs().mean()
            return loss

    def _frame_distance(self, projected: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.form == "cosine":
            return 1 - F.cosine_similarity(projected, targets, dim=1).mean()
        return (F.l1_loss if self.form == "l1" else F.mse_loss)(projected, targets)

    def _check(self, latents: torch.Tensor, features: torch.Tensor) -> None:
        if latents.ndim != 3 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"`latents` must be (batch, {self.latent_channels}, frames), not {tuple(latents.shape)}."
            )
        batch = latents.shape[0]
        if features.ndim != 3 or features.shape[0] != batch or features.shape[2] != self.teacher_dim:
            raise ValueError(
                f"`features` must be ({batch}, teacher frames, {self.teacher_dim}), not "
                f"{tuple(features.shape)}."
            )


def features_at_frames(features: torch.Tensor, frames: int) -> torch.Tensor:
    """`(batch, F, dim)` → `(batch, dim, frames)`: linear interpolation between centres at (f + ½)/F."""
    features = features.transpose(1, 2)
    if features.shape[-1] == frames:
        return features
    return F.interpolate(features, size=frames, mode="linear", align_corners=False)


def _self_similarity(vectors: torch.Tensor) -> torch.Tensor:
    """Cosines between all frames of a clip: `(batch, dim, frames)` → `(batch, frames, frames)`."""
    unit = F.normalize(vectors, dim=1)
    return unit.transpose(1, 2) @ unit
