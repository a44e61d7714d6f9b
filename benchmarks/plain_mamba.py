"""The context stack's Mamba-2 as the recurrence that it is defined by, frame after frame, in float64."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from star_hf.autoencoder.context import ContextStack


@torch.no_grad()
def plain_context(stack: ContextStack, features: torch.Tensor) -> torch.Tensor:
    r"""What `stack` gives for features `(batch, channels, 1, frames)`, in float64 on the CPU.

    For each head, with state \(S_t\) (head width × state size): \(S_t = e^{\Delta_t A} S_{t-1} + \Delta_t\,
    x_t B_t^\top\), \(y_t = S_t C_t + D x_t\). Source: Dao and Gu, "Transformers are SSMs" (2024), equation 1.
    """
    weights = {name: tensor.detach().to("cpu", torch.float64) for name, tensor in stack.state_dict().items()}
    features = features.to("cpu", torch.float64)
    hidden = _linear(weights, "in_proj", features.squeeze(2).transpose(1, 2))
    for index, layer in enumerate(stack.layers):
        normed = _rms_norm(weights, f"layers.{index}.norm", hidden, layer.norm.eps)
        forward = _mixer(weights, f"layers.{index}.mixer", layer.mixer, normed)
        backward = _mixer(weights, f"layers.{index}.reverse_mixer", layer.reverse_mixer, normed.flip(1))
        hidden = hidden + forward + backward.flip(1)
    update = _linear(weights, "out_proj", _rms_norm(weights, "norm", hidden, stack.norm.eps))
    return features + update.transpose(1, 2).unsqueeze(2)


def _mixer(weights: dict[str, torch.Tensor], name: str, mixer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    inner, heads, state = mixer.intermediate_size, mixer.num_heads, mixer.ssm_state_size
    batch, frames, _ = x.shape
    gate, x, step = _linear(weights, f"{name}.in_proj", x).split([inner, inner + 2 * state, heads], dim=-1)

    kernel = weights[f"{name}.conv1d.weight"]
    padded = F.pad(x.transpose(1, 2), (kernel.shape[-1] - 1, 0))
    x = F.conv1d(padded, kernel, weights.get(f"{name}.conv1d.bias"), groups=kernel.shape[0])
    x, into, out_of = F.silu(x.transpose(1, 2)).split([inner, state, state], dim=-1)

    x = x.view(batch, frames, heads, -1)
    step = F.softplus(step + weights[f"{name}.dt_bias"])  # (B, F, heads)
    decay = torch.exp(-step * weights[f"{name}.A_log"].exp())
    memory = x.new_zeros(batch, heads, x.shape[-1], state)
    outputs = []
    for t in range(frames):
        added = (step[:, t, :, None] * x[:, t])[..., None] * into[:, t, None, None, :]
        memory = decay[:, t, :, None, None] * memory + added
        outputs.append(memory @ out_of[:, t, None, :, None])
    y = torch.stack(outputs, dim=1).squeeze(-1) + weights[f"{name}.D"][:, None] * x
    y = y.flatten(2) * F.silu(gate)
    y = _rms_norm(weights, f"{name}.norm", y, mixer.layer_norm_epsilon)
    return _linear(weights, f"{name}.out_proj", y)


def _linear(weights: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _rms_norm(weights: dict[str, torch.Tensor], name: str, x: torch.Tensor, epsilon: float) -> torch.Tensor:
    return F.rms_norm(x, x.shape[-1:], weights[f"{name}.weight"], epsilon)
