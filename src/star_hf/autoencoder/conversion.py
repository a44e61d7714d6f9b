"""Weights taken over: from diffusers' Oobleck autoencoder, and from one bottleneck to another."""

import copy
import os
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderOobleck
from torch import nn

from star_hf.regularizers.soft_normalization import SoftNormalization

from .bottleneck import INITIAL_SCALE, check_bottleneck, projection_channels
from .layers import Conv1d, _WeightNormConvolution
from .loading import load_exactly

if TYPE_CHECKING:
    from .autoencoder_star import AutoencoderStar


class ConversionMixin:
    """To be put before diffusers' `ModelMixin` among the bases of `AutoencoderStar`."""

    @classmethod
    def from_oobleck(
        cls,
        pretrained: str | os.PathLike | AutoencoderOobleck,
        context_type: str = "none",
        *,
        subfolder=None,
        bottleneck: str = "gaussian",
        sigma: float | None = None,
        **config,
    ) -> "AutoencoderStar":
        """Take over the weights of diffusers' `AutoencoderOobleck`, such as Stable Audio Open's autoencoder.

        Args:
            pretrained: a folder, a Hub id, or the model itself.
            context_type: context stack to add; it starts as the identity, so the outputs stay equal.
            subfolder: folder of the autoencoder inside a pipeline, usually `"vae"`.
            bottleneck, sigma: see `with_bottleneck`; the means stay equal.
            config: further arguments of `AutoencoderStar`, such as `num_context_layers`.

        Raises:
            OSError: if there is no checkpoint.
            ValueError: if it is of another class, or has missing, unexpected or misshapen keys, all named.
        """
        check_bottleneck(bottleneck, sigma)
        if not isinstance(pretrained, AutoencoderOobleck):
            load = AutoencoderOobleck.from_pretrained
            pretrained, _ = load_exactly(AutoencoderOobleck, load, pretrained, subfolder=subfolder)
        shared = {name: value for name, value in pretrained.config.items() if not name.startswith("_")}
        model = cls(**shared, context_type=context_type, **config)
        context = {name: tensor for name, tensor in model.state_dict().items() if ".context." in name}
        model.load_state_dict({**context, **pretrained.state_dict()})
        if bottleneck != "gaussian":
            model = model.with_bottleneck(bottleneck, sigma=sigma)
        model = model.to(pretrained.device).eval()
        # diffusers warns at every cast.
        return model if model.dtype == pretrained.dtype else model.to(pretrained.dtype)

    def with_bottleneck(self, bottleneck: str, **settings: Any) -> "AutoencoderStar":
        """A copy of the model with another bottleneck; its means and what it decodes stay as they are.

        Scales that the encoder has not given before start at softplus(-3) for every input. Soft normalization
        starts as the identity; when it is left, it is moved into the layers on either side of it.
        `latents_mean` and `latents_std` are dropped where the noise on the latents becomes another; so are
        weights that `fold_weight_norm` computed.

        Args:
            bottleneck: `"gaussian"`, `"sigma"` or `"soft_normalization"`.
            settings: of the new model's configuration: `sigma`, `latent_noise`, `regularizer`; the last two
                stay as they are if they are not given.

        Raises:
            TypeError: for any other setting.
            ValueError: for values that no model can have.
        """
        unknown = sorted(settings.keys() - {"sigma", "latent_noise", "regularizer"})
        if unknown:
            raise TypeError(
                f"`settings` may be sigma, latent_noise and regularizer, not {', '.join(unknown)}."
            )
        before = self.config
        changes = {
            "bottleneck": bottleneck,
            "sigma": before.sigma if bottleneck == before.bottleneck else None,
            "latent_noise": before.latent_noise,
            "regularizer": before.regularizer,
            **settings,
        }
        check_bottleneck(**changes)
        if (before.bottleneck, before.sigma) != (bottleneck, changes["sigma"]):
            changes |= {"latents_mean": None, "latents_std": None}
        model = copy.deepcopy(self)
        model.register_to_config(**changes)
        for module in model.modules():
            if isinstance(module, _WeightNormConvolution):
                module.unfold()
        if bottleneck != before.bottleneck:
            _change_bottleneck(model, bottleneck)
        return model


@torch.no_grad()
def _change_bottleneck(model: nn.Module, bottleneck: str) -> None:
    channels = model.config.decoder_input_channels
    if model.normalization is not None:
        _fold_normalization(model)
        model.normalization = None
    if bottleneck == "soft_normalization":
        reference = model.encoder.conv2.weight_v
        normalization = SoftNormalization(channels).to(reference.device, reference.dtype)
        model.normalization = normalization.train(model.training)
    _resize_projection(model.encoder.conv2, channels, projection_channels(bottleneck, channels))


def _fold_normalization(model: nn.Module) -> None:
    """Move soft normalization into the layers on either side of it; the latents stay as they are."""
    deviation = model.normalization.running_std
    gain = model.normalization.scale.reshape(-1, 1, 1) / deviation
    projection = model.encoder.conv2
    projection.weight_g.mul_(gain)
    projection.bias.mul_(gain.flatten()).add_(model.normalization.bias.flatten() / deviation)
    model.decoder.conv1.weight_g.mul_(deviation)
    if model.shortcut is not None:
        model.shortcut.to_latents.weight.mul_(gain)
        model.shortcut.to_latents.bias.mul_(gain.flatten())
        model.shortcut.from_latents.weight.mul_(deviation)


def _resize_projection(projection: Conv1d, latent_channels: int, out_channels: int) -> None:
    """Keep the rows of the means; drop those of the scales, or add them."""
    added = out_channels - latent_channels
    # A weight of zero is a norm of zero beside a direction, here that of the means' rows.
    rows = {
        "weight_v": projection.weight_v[:added],
        "weight_g": torch.zeros_like(projection.weight_g[:added]),
        "bias": torch.full_like(projection.bias[:added], INITIAL_SCALE),
    }
    for name, new in rows.items():
        old = getattr(projection, name)
        values = torch.cat([old[:latent_channels], new])
        setattr(projection, name, nn.Parameter(values, requires_grad=old.requires_grad))
