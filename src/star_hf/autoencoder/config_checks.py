"""Configurations that no `AutoencoderStar` can have are refused by name."""

from .bottleneck import check_bottleneck


def check_config(config) -> None:
    """Raise a ValueError that names the first argument of `AutoencoderStar` that no model can have."""
    ratios, multiples = config.downsampling_ratios, config.channel_multiples
    if not ratios or len(ratios) != len(multiples):
        raise ValueError(
            "`downsampling_ratios` and `channel_multiples` must have one entry for each stage, not "
            f"{len(ratios)} and {len(multiples)}."
        )
    if min(ratios) < 2:
        raise ValueError(f"`downsampling_ratios` must be at least 2, not {list(ratios)}.")
    for name in ("latents_mean", "latents_std"):
        values = config[name]
        if values is not None and len(values) != config.decoder_input_channels:
            raise ValueError(
                f"`{name}` must have one number for each of {config.decoder_input_channels} latent channels, "
                f"not {len(values)}."
            )
    check_bottleneck(config.bottleneck, config.sigma, config.latent_noise, config.regularizer)
