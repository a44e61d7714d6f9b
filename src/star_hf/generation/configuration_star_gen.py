"""`StarGenConfig`: the configuration of STAR-Gen."""

import os
from typing import Any

from transformers import AutoConfig, PretrainedConfig, Qwen3Config


class StarGenConfig(PretrainedConfig):
    r"""Configuration of a [`StarGenModel`].

    Args:
        text_config: configuration of the Qwen3 decoder, as a [`~transformers.Qwen3Config`] or its dictionary.
        latent_channels: channels of the latents, those of the autoencoder.
        latents_mean, latents_std: statistics per channel that the latents were normalized with in training;
            `None` leaves them to the autoencoder's configuration.
        frame_rate: latent frames per second that the model was trained on; `None` if not tied to one.
        sampling_rate: of the audio behind the latents, in Hz; `None` if not tied to one.
        time_embedding_dim: number of sinusoids (sines and cosines together) that encode the time.
        time_embedding_scale: factor on t in [0, 1] before the sinusoids, of angular frequencies 1 to 1e-4.
        max_text_tokens: longer prompts are cut, with a warning.
        default_audio_length_in_s: length that the pipeline generates when none is asked for, in seconds.
        max_audio_length_in_s: longest length that the pipeline accepts, in seconds. Memory grows with it;
            where there is enough, raise this.

    Raises:
        ValueError: a value out of its range, or a checkpoint of another model type.
    """

    model_type = "star_gen"
    sub_configs = {"text_config": Qwen3Config}

    text_config: dict | PretrainedConfig | None = None
    latent_channels: int = 64
    latents_mean: list[float] | None = None
    latents_std: list[float] | None = None
    frame_rate: float | int | None = None
    sampling_rate: int | None = None
    time_embedding_dim: int = 256
    time_embedding_scale: float | int = 1000.0
    max_text_tokens: int = 256
    default_audio_length_in_s: float | int = 5.0
    max_audio_length_in_s: float | int = 60.0

    def __post_init__(self, **kwargs):
        if self.text_config is None:
            self.text_config = Qwen3Config()
        elif isinstance(self.text_config, dict):
            self.text_config = Qwen3Config(**self.text_config)
        super().__post_init__(**kwargs)
        self._check_values()

    def _check_values(self) -> None:
        if not isinstance(self.text_config, Qwen3Config):
            raise ValueError(f"`text_config` must be a Qwen3Config, got {type(self.text_config).__name__}")
        if set(self.text_config.layer_types) != {"full_attention"}:
            raise ValueError(
                "`text_config.use_sliding_window` must be False: audio tokens attend to the whole sequence"
            )
        for name in ("latent_channels", "max_text_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if self.time_embedding_dim < 2 or self.time_embedding_dim % 2:
            raise ValueError(f"`time_embedding_dim` must be even and positive, got {self.time_embedding_dim}")
        for name in ("default_audio_length_in_s", "max_audio_length_in_s", "time_embedding_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        for name in ("latents_mean", "latents_std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.latent_channels:
                raise ValueError(
                    f"`{name}` must have one number per channel, {self.latent_channels}, got {len(values)}"
                )
        if (self.latents_mean is None) != (self.latents_std is None):
            raise ValueError("`latents_mean` and `latents_std` must be given together")
        if self.latents_std is not None and not all(std > 0 for std in self.latents_std):
            raise ValueError(f"`latents_std` must be positive, got {min(self.latents_std)}")

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The saved dictionary, refused where it is of another model type: loading would only warn."""
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if not config_dict:
            raise OSError(f"{pretrained_model_name_or_path} has no config.json")
        model_type = config_dict.get("model_type")
        if model_type != cls.model_type:
            found = f"of type {model_type!r}" if model_type else "without a `model_type`"
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a checkpoint {found}, not a StarGenModel "
                f"({cls.model_type!r})"
            )
        return config_dict, kwargs


AutoConfig.register("star_gen", StarGenConfig)
