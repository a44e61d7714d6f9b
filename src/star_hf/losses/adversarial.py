"""Hinge and feature-matching losses on the outputs of a multi-scale discriminator."""

from collections.abc import Iterable, Sequence

import torch
from torch.nn import functional as F

from .absolute_difference import mean_absolute_difference


def hinge_discriminator_loss(real: Sequence[torch.Tensor], generated: Sequence[torch.Tensor]) -> torch.Tensor:
    r"""Discriminator's loss \(\operatorname{mean}\max(0, 1 - D(x)) + \operatorname{mean}\max(0, 1 + D(y))\).

    Each mean is over all logits of a scale; scales are averaged, as in stable-audio-tools.

    Args:
        real, generated: logits of recordings x and of generated audio y, one tensor for each scale.

    Raises:
        ValueError: if the numbers of scales differ or there are none.

    Source: Lim and Ye, "Geometric GAN" (2017), eq. 17.
    """
    _check_pairs("scales", real, generated)
    return _mean(
        F.relu(1 - _at_least_float32(on_real)).mean() + F.relu(1 + _at_least_float32(on_generated)).mean()
        for on_real, on_generated in zip(real, generated, strict=True)
    )


def hinge_generator_loss(generated: Sequence[torch.Tensor]) -> torch.Tensor:
    r"""The generator's loss \(-\operatorname{mean} D(y)\).

    The mean is over all logits of a scale, then over scales, as in stable-audio-tools. (EnCodec has
    \(\max(0, 1 - D(y))\) instead.)

    Args:
        generated: logits of generated audio y, one tensor for each scale.

    Raises:
        ValueError: if there is no scale.

    Source: Lim and Ye, "Geometric GAN" (2017), eq. 18.
    """
    _check_pairs("scales", generated, generated)
    return _mean(-_at_least_float32(logits).mean() for logits in generated)


def feature_matching_loss(
    real: Sequence[Sequence[torch.Tensor]], generated: Sequence[Sequence[torch.Tensor]]
) -> torch.Tensor:
    r"""Mean absolute difference \(\operatorname{mean}|F(x) - F(y)|\) of hidden activations.

    The mean is over all elements of a layer, then over the layers of a scale, then over scales. As is
    stable-audio-tools' default, nothing is divided by the size of the real activations (EnCodec does).
    No gradient flows to `real`.

    Args:
        real, generated: activations on recordings x and on their reconstructions y, for each scale a list
            with one tensor for each layer.

    Raises:
        ValueError: if the numbers of scales or of layers differ or are zero, or the shapes of two layers.

    Source: Larsen et al., "Autoencoding beyond pixels using a learned similarity metric" (2016), with L1.
    """
    _check_pairs("scales", real, generated)
    for on_real, on_generated in zip(real, generated, strict=True):
        _check_pairs("layers", on_real, on_generated)
    return _mean(
        _mean(mean_absolute_difference(y, x) for x, y in zip(on_real, on_generated, strict=True))
        for on_real, on_generated in zip(real, generated, strict=True)
    )


def _check_pairs(what: str, real: Sequence, generated: Sequence) -> None:
    if not real or len(real) != len(generated):
        raise ValueError(
            f"`real` and `generated` must have the same number of {what}, at least one, not {len(real)} and "
            f"{len(generated)}."
        )


def _at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _mean(values: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack([_at_least_float32(value) for value in values]).mean()
