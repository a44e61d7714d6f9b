"""`StarGenPipeline`: text to audio with STAR-Gen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AudioPipelineOutput, FlowMatchEulerDiscreteScheduler
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedTokenizerBase

from ..flow import classifier_free_guidance
from . import check_inputs as checks
from .modeling_star_gen import StarGenModel
from .pipeline_loading import StarPipeline
from .prefix_cache import TextPrefix
from .text import tokenize_prompts
from .vae_interface import check_vae_fits, latent_layout, latent_statistics


class StarGenPipeline(StarPipeline):
    r"""Text-to-audio generation with flow matching over continuous audio latents.

    Args:
        vae: an [`AutoencoderStar`], or any audio VAE of diffusers with `encode().latent_dist` and
            `decode().sample` over latents `(batch, channels, frames)`.
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
        """Whether the remaining steps are skipped; a callback asks for it by `pipe._interrupt = True`."""
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
            generator: source of the noise. A list has one generator per waveform; then the same seed gives
                the same waveform whatever else is in the batch.
            latents: the noise itself, `(waveforms, channels, frames)`, instead of drawing it.
            output_type: `"pt"` for a float32 tensor `(waveforms, audio_channels, samples)`, `"np"` for the
                array, `"latent"` for latents `(waveforms, channels, frames)` as `vae.decode` takes them.
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
        if callback_on_step_end_tensor_inputs is None:
            callback_on_step_end_tensor_inputs = ["latents"]

        # 1. Check inputs
        self.check_inputs(
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

        # 2. Encode prompts
        prefix = self.encode_prompt(
            prompt, negative_prompt, num_waveforms_per_prompt, self.do_classifier_free_guidance, device
        )

        # 3. Prepare latents
        seconds = self._resolve_audio_length(audio_length_in_s, latents)
        latents = self.prepare_latents(batch_size, seconds, device, generator, latents)

        # 4. Integrate from noise to latents
        sigmas = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
        self.scheduler.set_timesteps(sigmas=sigmas, device=device)
        self._num_timesteps = len(self.scheduler.timesteps)
        with self.progress_bar(total=self._num_timesteps) as progress_bar:
            for i, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                velocity = self.predict_velocity(latents, t, prefix)
                # The scheduler's sigma is 1 - t: its velocity is noise - data, the negative of the model's.
                latents = self.scheduler.step(-velocity, t, latents).prev_sample
                if callback_on_step_end is not None:
                    tensors = dict.fromkeys(callback_on_step_end_tensor_inputs, latents)
                    latents = (callback_on_step_end(self, i, t, tensors) or {}).pop("latents", latents)
                progress_bar.update()

        # 5. Decode
        mean, std = latent_statistics(self.model, self.vae, device)
        audio = latents * std + mean
        if output_type != "latent":
            audio = self.decode_latents(audio, generator)[..., : latent_layout(self.vae).num_samples(seconds)]
        if output_type == "np":
            audio = audio.cpu().numpy()
        self.maybe_free_model_hooks()
        return AudioPipelineOutput(audios=audio) if return_dict else (audio,)

    def check_inputs(
        self,
        prompt,
        negative_prompt=None,
        audio_length_in_s=None,
        num_inference_steps=24,
        guidance_scale=3.0,
        num_waveforms_per_prompt=1,
        generator=None,
        latents=None,
        output_type="pt",
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs=("latents",),
    ) -> None:
        """Raise a TypeError or ValueError for a wrong argument, or for a VAE that does not fit the model."""
        layout, config = latent_layout(self.vae), self.model.config
        check_vae_fits(layout, config)
        checks.check_count("num_inference_steps", num_inference_steps)
        checks.check_count("num_waveforms_per_prompt", num_waveforms_per_prompt)
        checks.check_finite("guidance_scale", guidance_scale)
        batch_size = checks.check_prompts(prompt, negative_prompt) * num_waveforms_per_prompt
        checks.check_generator(generator, batch_size)
        if latents is not None:
            checks.check_latents(latents, batch_size, layout.latent_channels)
        seconds = self._resolve_audio_length(audio_length_in_s, latents)
        checks.check_audio_length(seconds, layout.sampling_rate, config.max_audio_length_in_s)
        if latents is not None and latents.shape[2] != layout.num_frames(seconds):
            raise ValueError(
                f"`latents` must have {layout.num_frames(seconds)} frames for "
                f"`audio_length_in_s`={seconds:g}, got {latents.shape[2]}"
            )
        checks.check_output_type(output_type)
        checks.check_callback(
            callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs
        )

    def _resolve_audio_length(self, audio_length_in_s: float | None, latents: torch.Tensor | None) -> float:
        if audio_length_in_s is not None:
            return audio_length_in_s
        if latents is not None:
            layout = latent_layout(self.vae)
            return latents.shape[2] * layout.hop_length / layout.sampling_rate
        return self.model.config.default_audio_length_in_s

    def encode_prompt(
        self,
        prompt: str | list[str],
        negative_prompt: str | list[str] | None = None,
        num_waveforms_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        device: torch.device | None = None,
    ) -> TextPrefix:
        """Keys and values of the prompts, a row per waveform; with guidance the negative prompts come first.

        Without a negative prompt the unconditional branch reads the empty one. Equal texts are computed once.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        texts = prompts
        if do_classifier_free_guidance:
            negatives = "" if negative_prompt is None else negative_prompt
            negatives = [negatives] * len(prompts) if isinstance(negatives, str) else list(negatives)
            texts = negatives + prompts
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
        audio_length_in_s: float,
        device: torch.device,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Noise `(batch, channels, frames)`, in float32 whatever the model's precision."""
        if latents is not None:
            return latents.to(device=device, dtype=torch.float32)
        layout = latent_layout(self.vae)
        shape = (batch_size, layout.latent_channels, layout.num_frames(audio_length_in_s))
        generator = list(generator) if isinstance(generator, tuple) else generator
        return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)

    def predict_velocity(
        self, latents: torch.Tensor, timestep: torch.Tensor, prefix: TextPrefix
    ) -> torch.Tensor:
        """Guided velocity, data - noise, of latents `(batch, channels, frames)` at a scheduler's timestep."""
        tokens = latents.transpose(1, 2)
        if self.do_classifier_free_guidance:
            tokens = torch.cat([tokens, tokens])
        t = 1 - timestep / self.scheduler.config.num_train_timesteps
        velocity = self.model(tokens, t.expand(len(tokens)), prefix=prefix).velocity.float()
        if self.do_classifier_free_guidance:
            velocity = classifier_free_guidance(*velocity.chunk(2), self.guidance_scale)
        return velocity.transpose(1, 2)

    def decode_latents(
        self, latents: torch.Tensor, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> torch.Tensor:
        """Waveform `(batch, audio_channels, samples)` in float32 from the VAE's latents.

        `generator` is of the noise that a VAE with `latent_noise` in its configuration adds.
        """
        noise = {"generator": generator} if self.vae.config.get("latent_noise") else {}
        return self.vae.decode(latents.to(self.vae.dtype), **noise).sample.float()

    def enable_vae_slicing(self) -> None:
        """Decode one waveform of the batch at a time."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Decode the batch at once."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Decode long audio in tiles, in bounded memory."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Decode the whole length at once."""
        self.vae.disable_tiling()
