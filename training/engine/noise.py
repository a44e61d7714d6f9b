"""Random numbers that belong to samples, not to processes or steps."""

import torch


class SampleNoise:
    """Normal noise from one seed per sample.

    A sample gets the same noise whichever process draws it and whatever came before it, so that two processes
    train as one does and a resumed run is the uninterrupted one. Successive calls continue each sample's
    sequence.

    Args:
        seeds: `(batch,)` int64.
        device: where the noise is drawn; each kind of device has a sequence of its own.
    """

    def __init__(self, seeds: torch.Tensor, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds.tolist()]

    def normal(self, *shape: int, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """`(batch, *shape)` float32; with `lengths` `(batch,)` only so many rows of a sample, zeros after.

        Padding a sample to another length does not change its noise.
        """
        if lengths is None:
            rows = [torch.randn(shape, generator=g, device=self.device) for g in self.generators]
            return torch.stack(rows)
        noise = torch.zeros(len(self.generators), *shape, device=self.device)
        for row, generator, length in zip(noise, self.generators, lengths.tolist(), strict=True):
            row[:length] = torch.randn(length, *shape[1:], generator=generator, device=self.device)
        return noise
