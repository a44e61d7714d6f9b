"""The generators that are trained on every latent space, behind one interface: velocities under a text."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..generation import StarGenConfig, StarGenModel, TextPrefix, tokenize_prompts
from ..generation.dit import OBJECTIVES, make_dit
from ..generation.tokenizer import train_tokenizer
from .clips import ProbeClips
from .settings import ProbeSettings

MAX_TEXT_TOKENS = 64
MLP_RATIO = 8 / 3
#: Layers of the DiT for one of STAR-Gen's: it has attention to the text besides, and a wider gated MLP.
DIT_LAYERS = 0.6
#: Up to this length plain attention is faster than PyTorch's fused one on a CPU, by a fifth at 108 and at 215
#: frames; at 860 it is slower.
EAGER_FRAMES = 256
RECTIFIED_FLOW = OBJECTIVES["rectified_flow"]


class Captions:
    """The small tokenizer of a data set, and its captions as rows of equal width.

    The vocabulary is learned from the training captions. The empty caption is there always.
    """

    def __init__(self, clips: ProbeClips, vocab_size: int) -> None:
        parts = (clips.training, clips.held_out)
        training, held_out = ([text for texts in part.captions for text in texts] for part in parts)
        self.tokenizer: PreTrainedTokenizerBase = train_tokenizer(training, vocab_size)
        self.texts = {text: row for row, text in enumerate(dict.fromkeys(["", *training, *held_out]))}
        self.input_ids, self.attention_mask = tokenize_prompts(
            self.tokenizer, list(self.texts), MAX_TEXT_TOKENS
        )

    def rows(self, texts: list[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """`input_ids` and `attention_mask` `(texts, tokens)`."""
        chosen = torch.tensor([self.texts[text] for text in texts])
        return self.input_ids[chosen].to(device), self.attention_mask[chosen].to(device)


Text = tuple[torch.Tensor, torch.Tensor]


class StarGenNetwork(nn.Module):
    """A `StarGenModel` around a small new Qwen3."""

    #: Clips may have any length.
    window: int | None = None

    def __init__(self, channels: int, vocabulary: int, settings: ProbeSettings, longest: int) -> None:
        super().__init__()
        width, heads = settings.hidden_size, settings.num_heads
        text_config = {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": 32 * round(MLP_RATIO * width / 32),
            "num_hidden_layers": settings.num_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": width // heads,
        }
        self.model = StarGenModel(StarGenConfig(text_config=text_config, latent_channels=channels))
        if longest <= EAGER_FRAMES:
            self.model.set_attn_implementation("eager")

    def encode_text(self, text: Text) -> TextPrefix:
        """What sampling computes once."""
        return self.model.encode_text(*text)

    def forward(
        self,
        latents: torch.Tensor,
        t: torch.Tensor,
        text: Text | TextPrefix,
        frames: torch.Tensor,
    ) -> torch.Tensor:
        """Velocity of `latents` `(batch, frames, channels)` at times t; each row has `frames` real ones."""
        mask = torch.arange(latents.shape[1], device=latents.device) < frames[:, None]
        mask = None if bool(mask.all()) else mask
        if isinstance(text, TextPrefix):
            return self.model(latents, t, audio_mask=mask, prefix=text).velocity
        return self.model(latents, t, *text, audio_mask=mask).velocity


class DiTNetwork(nn.Module):
    """diffusers' Stable Audio transformer for rectified flow, its text an embedding that is trained along."""

    def __init__(self, channels: int, vocabulary: int, settings: ProbeSettings, window: int, rate: float):
        super().__init__()
        width, heads = settings.hidden_size, settings.num_heads
        self.window: int | None = window
        self.frame_rate = rate
        self.embedding = nn.Embedding(vocabulary, width)
        shape = {
            "num_layers": max(1, round(DIT_LAYERS * settings.num_layers)),
            "attention_head_dim": width // heads,
            "num_attention_heads": heads,
            "num_key_value_attention_heads": heads,
            "cross_attention_dim": width,
        }
        self.dit = make_dit(channels, window, rate, width, width, "rectified_flow", shape)

    def encode_text(self, text: Text) -> Text:
        return text

    def forward(
        self, latents: torch.Tensor, t: torch.Tensor, text: Text, frames: torch.Tensor
    ) -> torch.Tensor:
        """As STAR-Gen's, of latents that fill the window; what follows `frames` is silence."""
        input_ids, attention_mask = text
        prediction = self.dit(
            latents.mT,
            RECTIFIED_FLOW.timestep(t),
            self.embedding(input_ids),
            attention_mask,
            frames / self.frame_rate,
            # the empty caption is its end token alone
            attention_mask.sum(dim=1) > 1,
        )
        # diffusers' velocity leads to the noise
        return -prediction.mT


def make_network(
    name: str, channels: int, vocabulary: int, settings: ProbeSettings, window: int, rate: float, seed: int
) -> nn.Module:
    """A new generator. Weights whose shape does not depend on the autoencoder are the same for all of them.

    Args:
        name: "star_gen" or "dit".
        channels: of the latents.
        vocabulary: tokens.
        window, rate: frames of the longest clip, and frames per second.
    """

    def make(width: int) -> nn.Module:
        torch.manual_seed(seed)
        if name == "star_gen":
            return StarGenNetwork(width, vocabulary, settings, window)
        return DiTNetwork(width, vocabulary, settings, window, rate)

    with torch.random.fork_rng(devices=[]):
        network, common = make(channels), make(1).state_dict()
    weights: dict[str, Any] = network.state_dict()
    shared = {key: value for key, value in common.items() if value.shape == weights[key].shape}
    network.load_state_dict({**weights, **shared})
    return network


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
