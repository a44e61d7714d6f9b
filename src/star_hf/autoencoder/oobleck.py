"""The convolutional encoder and decoder of Stable Audio Open ("Oobleck"), channels-last.

Module names and parameter shapes are those of diffusers' `AutoencoderOobleck`.
Features are `(batch, channels, 1, time)`; see `layers.py`.
"""

import math

import torch
from torch import nn

from .context import PIECE_FRAMES
from .layers import Conv1d, ConvTranspose1d
from .snake import Snake
from .tiling import map_tiles
from .winograd import OUTPUTS, PRODUCTS

DILATIONS = (1, 3, 9)
# Half of a kernel of 7 at each of a residual unit's dilations, in samples of the unit's rate, and as much
# again: minimal filtering computes 4 steps from 10, and their rounding depends on all 10.
RESIDUAL_REACH = (PRODUCTS - OUTPUTS) * sum(DILATIONS)
#: Tiles begin at multiples of this, so that the filter's steps are the same in all of them.
GRID_STEPS = OUTPUTS * math.lcm(*DILATIONS)

# On a CPU, inference runs each block on pieces of the signal whose widest feature map has about this many
# bytes: they stay in the cache, and the allocator reuses their memory instead of asking for new pages.
_PIECE_BYTES = 1 << 24


class OobleckResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.snake1 = Snake(channels)
        self.conv1 = Conv1d(channels, channels, kernel_size=7, dilation=dilation, padding=3 * dilation)
        self.snake2 = Snake(channels)
        self.conv2 = Conv1d(channels, channels, kernel_size=1)
        # Units that add little at first let the signal through a deep stack.
        self.conv2.scale_(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.snake2(self.conv1(self.snake1(x))))


class OobleckEncoderBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.in_per_step, self.out_per_step = stride, 1
        self.reach = math.ceil(RESIDUAL_REACH / stride + 1.5)
        self.bytes_per_step = 4 * max(in_channels * stride, out_channels)
        self.res_unit1, self.res_unit2, self.res_unit3 = (
            OobleckResidualUnit(in_channels, d) for d in DILATIONS
        )
        self.snake1 = Snake(in_channels)
        self.conv1 = Conv1d(
            in_channels, out_channels, kernel_size=2 * stride, stride=stride, padding=math.ceil(stride / 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.res_unit3(self.res_unit2(self.res_unit1(x)))
        return self.conv1(self.snake1(x))


class OobleckDecoderBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.in_per_step, self.out_per_step = 1, stride
        self.reach = math.ceil(RESIDUAL_REACH / stride + 1)
        self.bytes_per_step = 4 * max(in_channels, out_channels * stride)
        self.snake1 = Snake(in_channels)
        self.conv_t1 = ConvTranspose1d(in_channels, out_channels, stride)
        self.res_unit1, self.res_unit2, self.res_unit3 = (
            OobleckResidualUnit(out_channels, d) for d in DILATIONS
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_t1(self.snake1(x))
        return self.res_unit3(self.res_unit2(self.res_unit1(x)))


class _CheckpointedBlocks(nn.Module):
    """Runs `self.block` in order, recomputing activations in the backward pass when checkpointing is on."""

    gradient_checkpointing = False

    def run_blocks(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.block:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x)
            elif x.device.type == "cpu" and not torch.is_grad_enabled():
                piece = max(4 * block.reach, _PIECE_BYTES // block.bytes_per_step)
                x = map_tiles(
                    lambda tile, _, block=block: block(tile),
                    x,
                    piece,
                    block.reach,
                    block.in_per_step,
                    block.out_per_step,
                    GRID_STEPS,
                )
            else:
                x = block(x)
        return x


class OobleckEncoder(_CheckpointedBlocks):
    """Strided residual CNN: `features` down to the frame rate, `project` to means and scales."""

    def __init__(
        self, hidden_size, audio_channels, downsampling_ratios, channel_multiples, out_channels, context
    ):
        super().__init__()
        widths = [hidden_size * multiple for multiple in (1, *channel_multiples)]
        self.conv1 = Conv1d(audio_channels, hidden_size, kernel_size=7, padding=3)
        self.block = nn.ModuleList(
            OobleckEncoderBlock(narrow, wide, stride)
            for narrow, wide, stride in zip(widths[:-1], widths[1:], downsampling_ratios, strict=True)
        )
        self.context = context
        self.snake1 = Snake(widths[-1])
        self.conv2 = Conv1d(widths[-1], out_channels, kernel_size=3, padding=1)
        #: Input samples on either side of a frame that `features` looks at, beyond the frame's own.
        self.reach, samples_per_step = 3, 1
        for block in self.block:
            samples_per_step *= block.in_per_step
            self.reach += block.reach * samples_per_step

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.run_blocks(self.conv1(x))

    def project(self, features: torch.Tensor) -> torch.Tensor:
        features = self.context(features)
        if torch.is_grad_enabled():
            return self._to_parameters(features)
        return map_tiles(self._to_parameters, features, PIECE_FRAMES, 1, 1, 1)

    def _to_parameters(self, features: torch.Tensor, first_frame: int = 0) -> torch.Tensor:
        return self.conv2(self.snake1(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(self.features(x))


class OobleckDecoder(_CheckpointedBlocks):
    """Upsampling residual CNN: `expand` latents at the frame rate, `synthesize` the waveform from them."""

    def __init__(
        self, channels, input_channels, audio_channels, upsampling_ratios, channel_multiples, context
    ):
        super().__init__()
        widths = [channels * multiple for multiple in (1, *channel_multiples)][::-1]
        self.conv1 = Conv1d(input_channels, widths[0], kernel_size=7, padding=3)
        self.context = context
        self.block = nn.ModuleList(
            OobleckDecoderBlock(wide, narrow, stride)
            for wide, narrow, stride in zip(widths[:-1], widths[1:], upsampling_ratios, strict=True)
        )
        self.snake1 = Snake(channels)
        self.conv2 = Conv1d(channels, audio_channels, kernel_size=7, padding=3, bias=False)
        #: Frames on either side of a sample that `synthesize` looks at.
        self.reach, steps_per_frame = 0.0, 1
        for block in self.block:
            self.reach += block.reach / steps_per_frame
            steps_per_frame *= block.out_per_step
        self.reach += 3 / steps_per_frame

    def expand(self, latents: torch.Tensor) -> torch.Tensor:
        return self.context(self.conv1(latents))

    def synthesize(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.snake1(self.run_blocks(features)))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.synthesize(self.expand(latents))
