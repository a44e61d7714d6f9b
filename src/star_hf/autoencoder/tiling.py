"""Encode and decode in bounded memory: the CNN runs on overlapping tiles, the context stack on all frames.

Tiles are whole numbers of frames, and each is wider on both sides than what its inner frames can see, so the result is
that of one pass over the whole signal.
"""

import math
from collections.abc import Callable, Sequence

import torch

from .oobleck import DILATIONS

# Half of a kernel of 7 at each of a residual unit's dilations.
_RESIDUAL_REACH = 3 * sum(DILATIONS)


def encoder_reach(downsampling_ratios: Sequence[int], filterbank_bands: int) -> int:
    """Frames on either side of a frame that the CNN encoder looks at, rounded up."""
    reach, samples_per_step = 3.0, 1
    for stride in downsampling_ratios:
        reach += _RESIDUAL_REACH * samples_per_step + 1.5 * stride * samples_per_step
        samples_per_step *= stride
    front_end = 1 if filterbank_bands > 1 else 0
    return math.ceil((reach + front_end) / samples_per_step)


def decoder_reach(upsampling_ratios: Sequence[int], filterbank_bands: int) -> int:
    """Frames on either side of a frame that reach the samples the CNN decoder makes of it, rounded up."""
    reach, steps_per_frame = 0.0, 1
    for stride in upsampling_ratios:
        reach += 1.0 / steps_per_frame
        steps_per_frame *= stride
        reach += _RESIDUAL_REACH / steps_per_frame
    front_end = 1 if filterbank_bands > 1 else 0
    return math.ceil(reach + (3 + front_end) / steps_per_frame)


def map_tiles(
    function: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    frames: int,
    tile_frames: int,
    reach: int,
    in_per_frame: int,
    out_per_frame: int,
) -> torch.Tensor:
    """Apply `function` along the last axis in tiles and join what is not affected by their edges.

    Args:
        function: maps `(…, n · in_per_frame)` to `(…, n · out_per_frame)`.
        x: `(…, frames · in_per_frame)`.
        frames: length of the signal in frames.
        tile_frames: frames of result per tile.
        reach: frames of context on either side.
    """
    tiles = []
    for start in range(0, frames, tile_frames):
        end = min(start + tile_frames, frames)
        left, right = max(0, start - reach), min(frames, end + reach)
        tile = function(x[..., left * in_per_frame : right * in_per_frame])
        tiles.append(tile[..., (start - left) * out_per_frame : (end - left) * out_per_frame].clone())
    return torch.cat(tiles, dim=-1)
