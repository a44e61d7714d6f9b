"""Run a function of time in overlapping tiles and join what the tiles' edges do not affect."""

from collections.abc import Callable

import torch


def map_tiles(
    function: Callable[[torch.Tensor, int], torch.Tensor],
    x: torch.Tensor,
    tile_steps: int,
    reach: int,
    in_per_step: int,
    out_per_step: int,
    grid: int = 1,
) -> torch.Tensor:
    """Apply `function` along the last axis in tiles; a `reach` wide enough gives the result of one pass.

    Args:
        function: maps `(…, n · in_per_step)`, and the step that it starts at, to `(…, n · out_per_step)`.
        x: `(…, steps · in_per_step)`; the last step may be cut short, where `function` takes that.
        tile_steps: steps of result per tile.
        reach: steps on either side that a step of the result depends on.
        grid: tiles begin at multiples of so many steps, for a function whose rounding depends on where it
            begins.
    """
    steps = -(-x.shape[-1] // in_per_step)
    if steps <= tile_steps + reach:
        return function(x, 0)
    # of one shape, but for the last: nothing is planned or compiled anew for each
    length = tile_steps + 2 * reach + grid - 1
    joined = None
    for start in range(0, steps, tile_steps):
        end = min(start + tile_steps, steps)
        left = max(0, start - reach) // grid * grid
        tile = function(x[..., left * in_per_step : (left + length) * in_per_step], left)
        if joined is None:
            layout = torch.channels_last if tile.ndim == 4 else torch.contiguous_format
            shape = (*tile.shape[:-1], steps * out_per_step)
            joined = torch.empty(shape, dtype=tile.dtype, device=tile.device, memory_format=layout)
        kept = tile[..., (start - left) * out_per_step : (end - left) * out_per_step]
        joined[..., start * out_per_step : end * out_per_step] = kept
    return joined
