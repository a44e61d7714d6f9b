"""Scores of generated clips that have a partner each: tag posteriors of the original, text of the prompt."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from .waveform_checks import Reduction, reduce_clips

TAG_EPSILON = 1e-6


def tag_divergence(
    prediction: torch.Tensor | np.ndarray,
    reference: torch.Tensor | np.ndarray,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    epsilon: float = TAG_EPSILON,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    r"""KL(prediction ‖ reference) in nats between the tag posteriors of two sets of clips.

    Both are logits `(clips, classes)`, row by row of a generated clip and of the recording that its prompt
    describes. "softmax" takes the classes as exclusive, \(\sum_c p_c (\ln p_c - \ln(r_c + \epsilon))\), which
    with PaSST's 527 classes and ε = 1e-6 is the KL_PaSST of the papers; "sigmoid" sums the divergence of each
    tag, present or absent, \(\sum_c p_c \ln\frac{p_c}{r_c + \epsilon} + (1 - p_c) \ln\frac{1 - p_c}{1 - r_c +
    \epsilon}\). Returns the mean over clips, or `(clips,)` with `reduction="none"`. Source: Kreuk et al.,
    "AudioGen" (2022); stable-audio-metrics.

    Raises `ValueError` for logits of different shapes, not `(clips, classes)` or not finite, and for an
    unknown activation.
    """
    prediction, reference = _paired(prediction, reference, "classes")
    if activation == "softmax":
        generated, wanted = prediction.softmax(dim=1), reference.softmax(dim=1)
    elif activation == "sigmoid":
        generated, wanted = (
            torch.cat([logits.sigmoid(), (-logits).sigmoid()], dim=1) for logits in (prediction, reference)
        )
    else:
        raise ValueError(f"`activation` must be 'softmax' or 'sigmoid', got {activation!r}.")
    divergence = torch.xlogy(generated, generated) - generated * (wanted + epsilon).log()
    return reduce_clips(divergence.sum(dim=1), reduction)


def text_audio_similarity(
    audio: torch.Tensor | np.ndarray, text: torch.Tensor | np.ndarray, reduction: Reduction = "mean"
) -> torch.Tensor:
    """Cosine between the audio embedding of each clip and the text embedding of its prompt (CLAP score).

    Both are `(clips, dimensions)` of one text-audio model. Returns the mean over clips, or `(clips,)` with
    `reduction="none"`. Raises `ValueError` for different shapes, or values that are not finite.
    """
    audio, text = _paired(audio, text, "dimensions", names=("audio", "text"))
    return reduce_clips(torch.cosine_similarity(audio, text, dim=1), reduction)


def _paired(
    first, second, columns: str, names=("prediction", "reference")
) -> tuple[torch.Tensor, torch.Tensor]:
    tensors = tuple(torch.as_tensor(values).detach().cpu().double() for values in (first, second))
    for name, values in zip(names, tensors, strict=True):
        if values.ndim != 2 or values.numel() == 0:
            raise ValueError(f"`{name}` must be (clips > 0, {columns}), got {tuple(values.shape)}.")
        if not torch.isfinite(values).all():
            raise ValueError(f"`{name}` holds NaN or infinite values.")
    if tensors[0].shape != tensors[1].shape:
        raise ValueError(
            f"`{names[0]}` and `{names[1]}` must have one shape (clips, {columns}), got "
            f"{tuple(tensors[0].shape)} and {tuple(tensors[1].shape)}."
        )
    return tensors
