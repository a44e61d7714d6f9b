"""`StarGenModel`: a Qwen3 decoder that predicts flow-matching velocities of audio latents."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    DynamicCache,
    PreTrainedModel,
    Qwen3Config,
    Qwen3Model,
    initialization as init,
)
from transformers.utils import ModelOutput

from . import masks
from .check_inputs import check_forward, check_text
from .configuration_star_gen import StarGenConfig
from .layers import AudioTokenEmbedding
from .loading import raise_for_keys, require_safetensors
from .prefix_cache import TextPrefix


@dataclass
class StarGenOutput(ModelOutput):
    """`velocity`: predicted dz_t/dt of normalized latents, `(batch, frames, latent_channels)`."""

    velocity: torch.FloatTensor | None = None


class StarGenModel(PreTrainedModel):
    r"""STAR-Gen: a causal language model repurposed as a conditional velocity estimator v(z_t, t | text).

    Normalized latents pass through one linear layer, get the embedding of t added and follow the text tokens
    in a Qwen3 decoder. Text attends causally and never to audio, audio attends to everything, and a linear
    flow head turns the audio positions into velocities. The text depends neither on the audio nor on t: its
    keys and values are computed once by [`~StarGenModel.encode_text`] and given to every step as `prefix`.
    Source: Liu et al., "Structured Topology-Aware Regularization for Audio Reconstruction and Generation"
    (arXiv 2606.23064), figure 2 and equation 7.

    The decoder, `backbone`, is a [`~transformers.Qwen3Model`] as it comes: attention implementations
    (`"sdpa"`, `"eager"`, flash attention), PEFT, quantization and device maps work as they do for Qwen3.
    """

    config_class = StarGenConfig
    base_model_prefix = "backbone"
    main_input_name = "latents"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Qwen3DecoderLayer"]
    _skip_keys_device_placement = ["past_key_values", "prefix"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: StarGenConfig, backbone: Qwen3Model | None = None):
        super().__init__(config)
        hidden_size = config.text_config.hidden_size
        self.audio_embedding = AudioTokenEmbedding(
            config.latent_channels, hidden_size, config.time_embedding_dim, config.time_embedding_scale
        )
        self.backbone = Qwen3Model(config.text_config) if backbone is None else backbone
        self.flow_head = nn.Linear(hidden_size, config.latent_channels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.backbone.set_input_embeddings(value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As Qwen3 does, and audio tokens of the size of its text tokens.

        Tokens of unit variance, next to which the first layers add little, and a flow head of zeros were both
        tried and train much more slowly.
        """
        super()._init_weights(module)
        if module is self.audio_embedding.latent_projection:
            std = self.config.text_config.initializer_range * module.in_features**-0.5
            init.normal_(module.weight, mean=0.0, std=std)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        prefix: TextPrefix | None = None,
        return_dict: bool | None = None,
    ) -> StarGenOutput | tuple[torch.Tensor]:
        """Velocity of the latents at time t, given the text.

        Args:
            latents: z_t, normalized, `(batch, frames, latent_channels)`.
            timestep: t in [0, 1], 1 being data, `(batch,)`.
            input_ids: text tokens, `(batch, tokens)`, padded on the left.
            attention_mask: true for real text tokens, `(batch, tokens)`; all of them by default.
            audio_mask: true for real frames, `(batch, frames)`, padded on the right; all of them by default.
            prefix: what `encode_text` returned, instead of `input_ids` and `attention_mask`.

        Returns:
            [`StarGenOutput`]: velocities of padding frames are finite and mean nothing.

        Raises:
            ValueError: a shape does not fit, or not exactly one of `input_ids` and `prefix` is given.
        """
        check_forward(
            self.config.latent_channels, latents, timestep, input_ids, attention_mask, audio_mask, prefix
        )
        audio_mask = None if audio_mask is None else audio_mask.bool()
        # The backbone may be in another precision than the layers around it, which are always trained.
        audio = self.audio_embedding(latents, timestep, self.dtype)
        audio = audio.to(self.get_input_embeddings().weight.dtype)
        if prefix is None:
            attention_mask = _as_mask(attention_mask, input_ids)
            if masks.uses_flash_attention(self.backbone.config):
                # Flash kernels know causal and full attention, nothing between: one pass over each part.
                prefix = self.encode_text(input_ids, attention_mask)
        if prefix is None:
            hidden_states = self._attend_jointly(audio, audio_mask, input_ids, attention_mask)
        else:
            hidden_states = self._attend_to_prefix(audio, audio_mask, prefix)
        velocity = self.flow_head(hidden_states.to(self.flow_head.weight.dtype))
        if return_dict is False or (return_dict is None and not self.config.return_dict):
            return (velocity,)
        return StarGenOutput(velocity=velocity)

    @apply_forward_hook
    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> TextPrefix:
        """Keys and values of the text in every layer, for the `prefix` argument of `forward`.

        Args:
            input_ids: `(batch, tokens)`, padded on the left. A row may be all padding (an empty prompt).
            attention_mask: true for real tokens, `(batch, tokens)`; all of them by default.
        """
        check_text(input_ids, attention_mask)
        self._require_usable_cache()
        attention_mask = _as_mask(attention_mask, input_ids)
        embeds = self.get_input_embeddings()(input_ids)
        if masks.uses_flash_attention(self.backbone.config):
            mask = attention_mask
        else:
            mask = self._for_backend(masks.text_attention(attention_mask), embeds)
        cache = DynamicCache()
        self.backbone(
            inputs_embeds=embeds,
            attention_mask={"full_attention": mask},
            position_ids=masks.text_positions(attention_mask),
            past_key_values=cache,
            use_cache=True,
        )
        return TextPrefix.from_cache(cache, attention_mask)

    def _attend_jointly(
        self,
        audio: torch.Tensor,
        audio_mask: torch.Tensor | None,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Text and audio in one pass, as in training: `(batch, frames, hidden_size)`."""
        num_frames = audio.shape[1]
        text = self.get_input_embeddings()(input_ids)
        embeds = torch.cat([text, audio.to(text.device)], dim=1)
        positions = [masks.text_positions(attention_mask), masks.audio_positions(attention_mask, num_frames)]
        mask = self._for_backend(masks.joint_attention(attention_mask, audio_mask, num_frames), embeds)
        output = self.backbone(
            inputs_embeds=embeds,
            attention_mask={"full_attention": mask},
            position_ids=torch.cat(positions, dim=1),
            use_cache=False,
        )
        return output.last_hidden_state[:, -num_frames:]

    def _attend_to_prefix(
        self, audio: torch.Tensor, audio_mask: torch.Tensor | None, prefix: TextPrefix
    ) -> torch.Tensor:
        """Audio alone, in front of it the cached text: `(batch, frames, hidden_size)`."""
        self._require_usable_cache()
        num_frames = audio.shape[1]
        if audio_mask is None and not prefix.is_padded:
            mask = None
        elif masks.uses_flash_attention(self.backbone.config):
            mask = masks.key_padding(prefix.attention_mask, audio_mask, num_frames)
        else:
            mask = masks.audio_attention(prefix.attention_mask, audio_mask, num_frames)
            mask = self._for_backend(mask, audio)
        output = self.backbone(
            inputs_embeds=audio,
            attention_mask={"full_attention": mask},
            position_ids=masks.audio_positions(prefix.attention_mask, num_frames),
            past_key_values=prefix.as_cache(),
            use_cache=False,
            is_causal=False,
        )
        return output.last_hidden_state

    def _for_backend(self, mask: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        return masks.for_backend(mask, self.backbone.config._attn_implementation, embeds.dtype)

    def _require_usable_cache(self) -> None:
        # Layers under gradient checkpointing drop their cache with a mere warning: the text would be gone.
        if self.training and any(layer.gradient_checkpointing for layer in self.backbone.layers):
            raise ValueError(
                "a text prefix cannot be used in training with gradient checkpointing: call `eval()`, or "
                "give `input_ids` with the attention implementation 'sdpa' or 'eager'"
            )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args,
        output_loading_info: bool = False,
        use_safetensors: bool | None = True,
        **kwargs,
    ) -> StarGenModel:
        """Load from a folder or a Hub id, as transformers does, and refuse a checkpoint that does not fit.

        Raises:
            ValueError: the checkpoint is of another class, or keys are missing, unexpected or of another
                shape; the message names them.
        """
        require_safetensors(use_safetensors)
        model, info = super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            output_loading_info=True,
            use_safetensors=True,
            **{**kwargs, "ignore_mismatched_sizes": True},
        )
        raise_for_keys(cls.__name__, pretrained_model_name_or_path, info)
        return (model, info) if output_loading_info else model

    @classmethod
    def from_backbone(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        latent_channels: int = 64,
        config_kwargs: dict | None = None,
        **kwargs,
    ) -> StarGenModel:
        """A model whose decoder has the pretrained weights of a Qwen3, with new layers around it.

        Args:
            pretrained_model_name_or_path: folder or Hub id of a `Qwen3Model` or `Qwen3ForCausalLM`, such as
                `"Qwen/Qwen3-0.6B"`. The language model's head is left out.
            latent_channels: channels of the latents.
            config_kwargs: further arguments of [`StarGenConfig`].
            kwargs: arguments of `Qwen3Model.from_pretrained`: `dtype`, `revision`, `attn_implementation`, ...

        Raises:
            ValueError: the checkpoint is not a Qwen3, or its keys do not fit; the message names them.
        """
        require_safetensors(kwargs.pop("use_safetensors", None))
        hub_names = ("cache_dir", "local_files_only", "revision", "subfolder", "token")
        hub_kwargs = {name: kwargs[name] for name in hub_names if name in kwargs}
        text_config = AutoConfig.from_pretrained(pretrained_model_name_or_path, **hub_kwargs)
        if not isinstance(text_config, Qwen3Config):
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a checkpoint of type {text_config.model_type!r}, "
                "not 'qwen3'"
            )
        config = cls.config_class(
            text_config=text_config, latent_channels=latent_channels, **(config_kwargs or {})
        )
        backbone, info = Qwen3Model.from_pretrained(
            pretrained_model_name_or_path,
            config=config.text_config,
            output_loading_info=True,
            use_safetensors=True,
            **{**kwargs, "ignore_mismatched_sizes": True},
        )
        raise_for_keys("Qwen3Model", pretrained_model_name_or_path, info, ignore={"lm_head.weight"})
        config.text_config = backbone.config
        model = cls(config, backbone=backbone).eval()
        # Not the whole model: a quantized backbone may not be cast.
        for module in (model.audio_embedding, model.flow_head):
            module.to(device=backbone.device, dtype=backbone.dtype)
        return model


def _as_mask(attention_mask: torch.Tensor | None, input_ids: torch.Tensor) -> torch.Tensor:
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    return attention_mask.bool()


AutoModel.register(StarGenConfig, StarGenModel)
