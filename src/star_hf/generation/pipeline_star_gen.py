"""`StarGenPipeline`: text to audio with STAR-Gen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AudioPipelineOutput, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from huggingface_hub import snapshot_download
from transformers import PreTrainedTokenizerBase

from ..flow import classifier_free_guidance
from . import check_inputs as checks
from .loading import require_safetensors
from .modeling_star_gen import StarGenModel
from .prefix_cache import TextPrefix
from .text import tokenize_prompts
from .vae_interface import LatentLayout, latent_layout, latent_statistics

_DOWNLOADED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
# Lets `DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)` find the class.
_PIPELINE_FILE = "from star_hf import StarGenPipeline as StarGenPipeline\n"


class StarGenPipeline(DiffusionPipeline):
    r"""Text-to-audio generation with flow matching over continuous audio latents.

    Args:
        vae: an [`AutoencoderStar`], or any audio VAE of diffusers with `encode().latent_dist` and `decode().sample`
            over latents `(batch, channels, frames)`.
        model: the [`StarGenModel`] that predicts velocities.
        tokenizer: of the model's text backbone.
        scheduler: a [`~diffusers.FlowMatchEulerDiscreteScheduler`].
    """

    model_cpu_offload_seq = "model->vae"
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        vae: ModelMixin,
        model: StarGenModel,
        tokenizer: PreTrainedTokenizerBase,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ):
        super().__init__()
        self.register_modules(vae=vae, model=model, tokenizer=tokenizer, scheduler=scheduler)
        self._guidance_scale = 1.0
        self._num_timesteps = 0
        self._interrupt = False

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set `pipe._interrupt = True` in a callback to skip the remaining steps."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        negative_prompt: str | list[str] | None = None,
        audio_length_in_s: float | None = None,
        num_inference_steps: int = 24,
        guidance_scale: float = 3.0,
        num_waveforms_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pt",
        return_dict: bool = True,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> AudioPipelineOutput | tuple:
        """Generate audio from text.

        Args:
            prompt: what to hear; a list makes one batch.
            negative_prompt: what to move away from, one for all prompts or one for each; empty by default.
            audio_length_in_s: duration in seconds, rounded to a sample. By default that of `latents`, else
                `model.config.default_audio_length_in_s`; at most `model.config.max_audio_length_in_s`.
            num_inference_steps: Euler steps from noise to latents.
            guidance_scale: s in `unconditional + s * (conditional - unconditional)`; at 1 or less only the
                conditional velocity is computed.
            num_waveforms_per_prompt: waveforms for each prompt, next to each other in the output.
            generator: source of the noise. A list has one generator per waveform, and then the same seed gives the
                same waveform whatever else is in the batch.
            latents: the noise itself, `(waveforms, channels, frames)`, instead of drawing it.
            output_type: `"pt"` for a float32 tensor `(waveforms, audio_channels, samples)`, `"np"` for an array of
                the same, `"latent"` for latents `(waveforms, channels, frames)` as `vae.decode` takes them.
            return_dict: whether to return an [`~diffusers.AudioPipelineOutput`] instead of a tuple.
            callback_on_step_end: called as `callback(pipe, step, timestep, tensors)` after each step; what it
                returns replaces the tensors.
            callback_on_step_end_tensor_inputs: names of these tensors, `["latents"]` by default.

        Returns:
            [`~diffusers.AudioPipelineOutput`] with `audios`.

        Raises:
            TypeError, ValueError: an argument is wrong; nothing has run yet.
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        callback_on_step_end_tensor_inputs = callback_on_step_end_tensor_inputs or ["latents"]

        # 1. Check inputs
        layout = self.check_inputs(
            prompt,
            negative_prompt,
            audio_length_in_s,
            num_inference_steps,
            guidance_scale,
            num_waveforms_per_prompt,
            generator,
            latents,
            output_type,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
        )
        self._guidance_scale = guidance_scale
        self._interrupt = False
        device = self._execution_device
        batch_size = (1 if isinstance(prompt, str) else len(prompt)) * num_waveforms_per_prompt
        if audio_length_in_s is None and latents is not None:
            num_samples = latents.shape[2] * layout.hop_length
        else:
            num_samples = layout.num_samples(audio_length_in_s or self.model.config.default_audio_length_in_s)

        # 2. Encode prompts
        prefix = self.encode_prompt(
            prompt, negative_prompt, num_waveforms_per_prompt, self.do_classifier_free_guidance, device
        )

        # 3. Prepare latents
        latents = self.prepare_latents(batch_size, layout, num_samples, generator, latents, device)

        # 4. Integrate from noise to latents
        self.scheduler.set_timesteps(
            sigmas=np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps), device=device
        )
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)
        with self.progress_bar(total=num_inference_steps) as progress_bar:
            for i, t in enumerate(timesteps):
                if self.interrupt:
                    continue
                velocity = self.predict_velocity(latents, t, prefix)
                # The scheduler's sigma is 1 - t, so that its velocity is noise - data: the negative of the model's.
                latents = self.scheduler.step(-velocity, t, latents).prev_sample
                if callback_on_step_end is not None:
                    tensors = {name: latents for name in callback_on_step_end_tensor_inputs}
                    latents = (callback_on_step_end(self, i, t, tensors) or {}).pop("latents", latents)
                progress_bar.update()

        # 5. Decode
        mean, std = latent_statistics(self.model, self.vae, device)
        audio = latents * std + mean
        if output_type != "latent":
            audio = self.decode_latents(audio)[..., :num_samples]
        if output_type == "np":
            audio = audio.cpu().numpy()
        self.maybe_free_model_hooks()
        return AudioPipelineOutput(audios=audio) if return_dict else (audio,)

    def check_inputs(
        self,
        prompt,
        negative_prompt,
        audio_length_in_s,
        num_inference_steps,
        guidance_scale,
        num_waveforms_per_prompt,
        generator,
        latents,
        output_type,
        callback_on_step_end,
        callback_on_step_end_tensor_inputs,
    ) -> LatentLayout:
        """Raise a TypeError or ValueError for a wrong argument or VAE; else return the layout of the latents."""
        layout = self._check_components()
        checks.check_count("num_inference_steps", num_inference_steps)
        checks.check_count("num_waveforms_per_prompt", num_waveforms_per_prompt)
        checks.check_finite("guidance_scale", guidance_scale)
        batch_size = checks.check_prompts(prompt, negative_prompt) * num_waveforms_per_prompt
        checks.check_generator(generator, batch_size)
        longest = self.model.config.max_audio_length_in_s
        if audio_length_in_s is not None:
            checks.check_audio_length(audio_length_in_s, longest)
        if latents is not None:
            frames = None if audio_length_in_s is None else layout.num_frames(audio_length_in_s)
            checks.check_latents(latents, batch_size, layout.latent_channels, frames)
            if audio_length_in_s is None:
                checks.check_audio_length(latents.shape[2] * layout.hop_length / layout.sampling_rate, longest)
        checks.check_output_type(output_type)
        checks.check_callback(
            callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs
        )
        return layout

    def _check_components(self) -> LatentLayout:
        layout, config = latent_layout(self.vae), self.model.config
        if layout.latent_channels != config.latent_channels:
            raise ValueError(
                f"`vae` has {layout.latent_channels} latent channels, `model` has {config.latent_channels}"
            )
        if config.sampling_rate is not None and layout.sampling_rate != config.sampling_rate:
            raise ValueError(f"`vae` works at {layout.sampling_rate} Hz, `model` at {config.sampling_rate} Hz")
        frame_rate = layout.sampling_rate / layout.hop_length
        if config.frame_rate is not None and abs(frame_rate / config.frame_rate - 1) > 1e-3:
            raise ValueError(
                f"`vae` has {frame_rate:.2f} frames per second, `model` has {config.frame_rate:.2f}"
            )
        return layout

    def encode_prompt(
        self,
        prompt: str | list[str],
        negative_prompt: str | list[str] | None = None,
        num_waveforms_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        device: torch.device | None = None,
    ) -> TextPrefix:
        """Keys and values of the prompts, one row per waveform; with guidance the negative prompts come first.

        The unconditional branch reads the empty prompt. Each different text is computed once.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        texts = prompts
        if do_classifier_free_guidance:
            negative_prompt = negative_prompt or ""
            negatives = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else negative_prompt
            texts = [*negatives, *prompts]
        different = list(dict.fromkeys(texts))
        max_tokens = self.model.config.max_text_tokens
        input_ids, attention_mask = tokenize_prompts(self.tokenizer, different, max_tokens)
        device = device if device is not None else self._execution_device
        prefix = self.model.encode_text(input_ids.to(device), attention_mask.to(device))
        rows = torch.tensor([different.index(text) for text in texts], device=device)
        return prefix.select(rows.repeat_interleave(num_waveforms_per_prompt))

    def prepare_latents(
        self,
        batch_size: int,
        layout: LatentLayout,
        num_samples: int,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        device: torch.device,
    ) -> torch.Tensor:
        """Noise `(batch, channels, frames)` in float32, whatever the model's precision."""
        if latents is not None:
            return latents.to(device=device, dtype=torch.float32)
        frames = -(-num_samples // layout.hop_length)
        generator = list(generator) if isinstance(generator, tuple) else generator
        return randn_tensor(
            (batch_size, layout.latent_channels, frames), generator=generator, device=device, dtype=torch.float32
        )

    def predict_velocity(self, latents: torch.Tensor, timestep: torch.Tensor, prefix: TextPrefix) -> torch.Tensor:
        """Guided velocity, data - noise, of latents `(batch, channels, frames)` at a timestep of the scheduler."""
        guided = self.do_classifier_free_guidance
        tokens = latents.transpose(1, 2)
        if guided:
            tokens = torch.cat([tokens, tokens])
        t = 1 - timestep / self.scheduler.config.num_train_timesteps
        velocity = self.model(tokens, t.expand(len(tokens)), prefix=prefix).velocity.float()
        if guided:
            velocity = classifier_free_guidance(*velocity.chunk(2), self.guidance_scale)
        return velocity.transpose(1, 2)

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Waveform `(batch, audio_channels, samples)` in float32 from the VAE's latents."""
        return self.vae.decode(latents.to(self.vae.dtype)).sample.float()

    def enable_vae_slicing(self) -> None:
        """Decode one waveform of the batch at a time."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Decode long audio in tiles, in bounded memory."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        self.vae.disable_tiling()

    def register_to_config(self, **kwargs: Any) -> None:
        """Record our classes as `["star_hf", name]` in `model_index.json`: module paths may move, names stay."""
        for name, value in kwargs.items():
            if isinstance(value, tuple) and isinstance(value[0], str) and value[0].startswith("star_hf."):
                kwargs[name] = ("star_hf", value[1])
        super().register_to_config(**kwargs)

    def save_pretrained(
        self, save_directory: str | os.PathLike, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Save every component, `model_index.json`, and a `pipeline.py` for [`~diffusers.DiffusionPipeline`]."""
        require_safetensors(safe_serialization)
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pipeline.py").write_text(_PIPELINE_FILE)
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        use_safetensors: bool | None = True,
        **kwargs: Any,
    ) -> StarGenPipeline:
        """Load a pipeline from a folder or a Hub id; further arguments are diffusers' own.

        Raises:
            ValueError: another pipeline's checkpoint, or pickled weights asked for.
            OSError: no checkpoint there.
        """
        require_safetensors(use_safetensors)
        return super().from_pretrained(pretrained_model_name_or_path, use_safetensors=True, **kwargs)

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any):
        loaded = super().load_config(pretrained_model_name_or_path, **kwargs)
        name = (loaded[0] if isinstance(loaded, tuple) else loaded).get("_class_name")
        if name not in {parent.__name__ for parent in cls.__mro__}:
            raise ValueError(f"{pretrained_model_name_or_path} holds a {name}, not a {cls.__name__}")
        return loaded

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> str:
        """Fetch a Hub repository into the cache, without pickles, code and components given in `kwargs`.

        diffusers' own method refuses components of libraries that it does not know.
        """
        components = [name for name in cls._get_signature_keys(cls)[0] if kwargs.get(name) is not None]
        hub = ("cache_dir", "force_download", "local_files_only", "token", "revision")
        return snapshot_download(
            pretrained_model_name,
            allow_patterns=_DOWNLOADED,
            ignore_patterns=[f"{name}/*" for name in components],
            **{name: kwargs[name] for name in hub if kwargs.get(name) is not None},
        )
