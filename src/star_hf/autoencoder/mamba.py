"""Mamba-2 over long sequences: transformers' mixer, segment by segment where its kernels are not there."""

from importlib.util import find_spec

import torch
from torch.nn import functional as F
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

# Frames that are worked on at a time: what they need stays in a core's caches, however long the sequence is.
SEGMENT_FRAMES = 512
# Of the matrix form, within a segment.
CHUNK_FRAMES = 32
HAS_KERNELS = find_spec("mamba_ssm") is not None


class SegmentedMamba2Mixer(Mamba2Mixer):
    """A Mamba-2 mixer in bounded memory: the same weights and results as transformers'.

    On CUDA with mamba-ssm it is transformers' mixer with its kernels. Elsewhere the sequence is read in
    segments that hand on the state, and what the heads have in common (one group) is computed once.
    Source: Dao and Gu, "Transformers are SSMs" (2024), section 6.
    """

    def __init__(self, config: Mamba2Config) -> None:
        if config.n_groups != 1:
            raise ValueError(f"`n_groups` must be 1, got {config.n_groups}.")
        super().__init__(config, layer_idx=0)

    def forward(self, hidden_states: torch.Tensor, reverse: bool = False) -> torch.Tensor:
        """`(batch, frames, width)` → the same shape: each frame from those before it, `reverse` after it."""
        if hidden_states.is_cuda and HAS_KERNELS:
            if reverse:
                return super().forward(hidden_states.flip(1)).flip(1)
            return super().forward(hidden_states)
        # what is compiled is one graph, not one for every number of segments
        frames = hidden_states.shape[1] if torch.compiler.is_compiling() else SEGMENT_FRAMES
        segments = hidden_states.split(frames, dim=1)
        outputs, state = [], None
        for segment in reversed(segments) if reverse else segments:
            output, state = self._segment(segment.flip(1) if reverse else segment, state)
            outputs.append(output.flip(1) if reverse else output)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs[::-1] if reverse else outputs, dim=1)

    def _segment(
        self, hidden_states: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """The output of a segment, and what the next one needs: the convolution's last inputs, the memory."""
        inner, size, heads = self.intermediate_size, self.ssm_state_size, self.num_heads
        past = self.conv_kernel_size - 1
        gate, inputs, step = self.in_proj(hidden_states).split([inner, inner + 2 * size, heads], dim=-1)
        if state is None:
            state = inputs.new_zeros(len(inputs), past, inputs.shape[-1]), None
        inputs = torch.cat([state[0], inputs], dim=1)
        wide = torch.promote_types(inputs.dtype, torch.float32)
        with torch.autocast(inputs.device.type, enabled=False):
            x, into, out_of = self._convolve(inputs.to(wide)).split([inner, size, size], dim=-1)
            step = F.softplus(step.to(wide) + self.dt_bias.to(wide)).clamp(*self.time_step_limit)
            decay = -step * self.A_log.to(wide).exp()
            y, memory = chunk_scan(x.unflatten(-1, (heads, -1)), step, decay, into, out_of, state[1])
            y = torch.addcmul(y.flatten(2), x, self.D.to(wide).repeat_interleave(self.head_dim))
            y = self.norm(y, gate).to(hidden_states.dtype)
        return self.out_proj(y), (inputs[:, inputs.shape[1] - past :], memory)

    def _convolve(self, inputs: torch.Tensor) -> torch.Tensor:
        """The causal depthwise convolution and SiLU, on frames after `conv_kernel_size - 1` earlier ones."""
        weight, bias = self.conv1d.weight.to(inputs.dtype), self.conv1d.bias
        bias = None if bias is None else bias.to(inputs.dtype)
        # (batch, channels, 1, frames) in channels-last memory, without a copy
        x = F.conv2d(inputs.transpose(1, 2).unsqueeze(2), weight.unsqueeze(2), bias, groups=len(weight))
        return F.silu(x).squeeze(2).transpose(1, 2)


def chunk_scan(
    x: torch.Tensor,
    step: torch.Tensor,
    decay: torch.Tensor,
    into: torch.Tensor,
    out_of: torch.Tensor,
    memory: torch.Tensor | None = None,
    chunk_frames: int = CHUNK_FRAMES,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The selective state space of Mamba-2 as matrix products over chunks of frames.

    For each head, with memory \(S_t\): \(S_t = e^{a_t} S_{t-1} + \Delta_t\, x_t B_t^\top\),
    \(y_t = S_t C_t\). Source: Dao and Gu, "Transformers are SSMs" (2024), equation 1 and section 6.

    Args:
        x: `(batch, frames, heads, width)`.
        step: Δ, `(batch, frames, heads)`.
        decay: a, the same shape, not positive.
        into, out_of: B and C, `(batch, frames, state)`, the same for all heads.
        memory: S before the first frame, `(batch, heads, width, state)`; None for zeros.

    Returns:
        y of the shape of `x`, and S after the last frame.
    """
    batch, frames, heads, width = x.shape
    state = into.shape[-1]
    chunk = min(chunk_frames, frames)
    padding = -frames % chunk
    x = x * step[..., None]
    if padding:  # neither input nor decay: the memory stays as it is
        x, decay = F.pad(x, (0, 0, 0, 0, 0, padding)), F.pad(decay, (0, 0, 0, padding))
        into, out_of = F.pad(into, (0, 0, 0, padding)), F.pad(out_of, (0, 0, 0, padding))
    x = x.unflatten(1, (-1, chunk))  # (B, chunks, L, heads, width)
    into, out_of = into.unflatten(1, (-1, chunk)), out_of.unflatten(1, (-1, chunk))  # (B, chunks, L, state)
    total = decay.unflatten(1, (-1, chunk)).cumsum(2)  # (B, chunks, L, heads): since the chunk began

    # within a chunk: frame s reaches frame l through C_l · B_s, weakened by what lies between
    heard = total.transpose(2, 3)  # (B, chunks, heads, L)
    future = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).triu(1)
    between = (heard[..., :, None] - heard[..., None, :]).masked_fill(future, -torch.inf).exp()
    weights = between * (out_of @ into.transpose(-1, -2)).unsqueeze(2)  # (B, chunks, heads, L, L)
    y = (weights @ x.transpose(2, 3)).transpose(2, 3)  # (B, chunks, L, heads, width)

    # between chunks: what each leaves in the memory, and what its frames read from those before it
    left = x * (total[:, :, -1:] - total).exp()[..., None]
    left = left.flatten(3).transpose(-1, -2) @ into  # (B, chunks, heads · width, state)
    kept = total[:, :, -1].exp().repeat_interleave(width, dim=-1)[..., None]  # (B, chunks, heads · width, 1)
    current = x.new_zeros(batch, heads * width, state) if memory is None else memory.flatten(1, 2)
    memories = []
    for chunk_left, chunk_kept in zip(left.unbind(1), kept.unbind(1), strict=True):
        memories.append(current)
        current = torch.addcmul(chunk_left, chunk_kept, current)
    read = out_of @ torch.stack(memories, dim=1).transpose(-1, -2)  # (B, chunks, L, heads · width)
    y = torch.addcmul(y, read.unflatten(-1, (heads, width)), total.exp()[..., None])
    return y.flatten(1, 2)[:, :frames], current.unflatten(1, (heads, width))
