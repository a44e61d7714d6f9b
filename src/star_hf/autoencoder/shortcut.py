"""A linear path around the CNN, from the front end's features to the latents and back, fitted in closed form.

Around a strided CNN a linear codec of patches is what the network would spend its first thousands of steps
on: the shortcuts of deep compression autoencoders serve the same end (Chen et al., "Deep Compression
Autoencoder", 2024).
"""

from collections.abc import Iterable

import torch
from torch import nn


class LinearShortcut(nn.Module):
    """Patches of `patch` steps ⇄ latents by one strided convolution each way.

    Args:
        in_channels: channels of the front end's features.
        out_channels: channels that the front end synthesizes from.
        latent_channels: channels of the latents.
        patch: steps per latent frame.
    """

    def __init__(self, in_channels: int, out_channels: int, latent_channels: int, patch: int):
        super().__init__()
        self.to_latents = nn.Conv1d(in_channels, latent_channels, patch, stride=patch)
        self.from_latents = nn.ConvTranspose1d(latent_channels, out_channels, patch, stride=patch)
        for layer in (self.to_latents, self.from_latents):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def fit(self, features: Iterable[torch.Tensor], gain: float, offset: float) -> torch.Tensor:
        """Set both ways to the principal components of patches, whitened, the strongest in the first channel.

        Args:
            features: batches `(batch, in_channels, steps)`, steps a multiple of `patch`.
            gain, offset: the first `in_channels` outputs are `gain · features + offset`, the others 0.

        Returns:
            The share of the patches' variance that the latents keep.

        Raises:
            ValueError: more latent channels than values in a patch, or fewer patches than that.
        """
        latent_channels, in_channels, patch = self.to_latents.weight.shape
        size = in_channels * patch
        if latent_channels > size:
            raise ValueError(
                f"`latent_channels` must be at most {size}, the values of a patch, not {latent_channels}."
            )
        total, square, count = torch.zeros(size, dtype=torch.float64), None, 0
        for batch in features:
            patches = batch.unfold(-1, patch, patch).permute(0, 2, 1, 3).reshape(-1, size).double().cpu()
            total += patches.sum(0)
            square = patches.T @ patches if square is None else square.add_(patches.T @ patches)
            count += len(patches)
        if count < size:
            raise ValueError(
                f"`features` must hold at least {size} patches for components of that size, not {count}."
            )
        mean = total / count
        variances, components = torch.linalg.eigh(square / count - torch.outer(mean, mean))
        kept = variances[-latent_channels:].flip(0).clamp(min=1e-12)
        components = components[:, -latent_channels:].flip(1)
        whitening = components / kept.sqrt()
        self.to_latents.weight.copy_(whitening.T.reshape(latent_channels, in_channels, patch))
        self.to_latents.bias.copy_(-mean @ whitening)
        coloring = (components * kept.sqrt()).T.reshape(latent_channels, in_channels, patch)
        self.from_latents.weight.zero_()
        self.from_latents.bias.zero_()
        self.from_latents.weight[:, :in_channels] = gain * coloring.to(self.from_latents.weight)
        average = mean.reshape(in_channels, patch).mean(1)
        self.from_latents.bias[:in_channels] = (gain * average + offset).to(self.from_latents.bias)
        return (kept.sum() / variances.sum()).float()
