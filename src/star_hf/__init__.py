"""Continuous audio latents for the Hugging Face ecosystem: STAR autoencoders and text-to-audio generation."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that defines it. Each is imported at first use, so that importing the package costs
# nothing (PEP 562).
_EXPORTS = {
    "AudioError": "star_hf.audio",
    "AudioInfo": "star_hf.audio",
    "audio_info": "star_hf.audio",
    "check_writable": "star_hf.audio",
    "convert_channels": "star_hf.audio",
    "read_audio": "star_hf.audio",
    "resample": "star_hf.audio",
    "write_audio": "star_hf.audio",
    "AutoencoderStar": "star_hf.autoencoder",
    "StarGenConfig": "star_hf.generation",
    "StarGenModel": "star_hf.generation",
    "StarGenPipeline": "star_hf.generation",
    "load_adapter_folder": "star_hf.generation",
    "embedded_checkpoint": "star_hf.hub",
    "plan_upload": "star_hf.hub",
    "push_folder": "star_hf.hub",
    "resolve_model": "star_hf.hub",
    "AutoencoderLafa": "star_hf.lafa",
    "CaptionEncoder": "star_hf.losses",
    "ContrastiveCritic": "star_hf.losses",
    "KWeighting": "star_hf.losses",
    "MultiResolutionSTFTLoss": "star_hf.losses",
    "MultiScaleSTFTDiscriminator": "star_hf.losses",
    "PhaseLoss": "star_hf.losses",
    "SemanticAlignment": "star_hf.losses",
    "SemanticTeacher": "star_hf.losses",
    "SignalRegressors": "star_hf.losses",
    "balance_gradients": "star_hf.losses",
    "gradient_norm_weight": "star_hf.losses",
    "stereo_correlation_loss": "star_hf.losses",
    "FlowProbe": "star_hf.regularizers",
    "LatentNoise": "star_hf.regularizers",
    "SoftNormalization": "star_hf.regularizers",
    "channel_kl": "star_hf.regularizers",
    "channel_rates": "star_hf.regularizers",
    "growth_curve": "star_hf.regularizers",
    "isotropic_kl": "star_hf.regularizers",
    "kl_divergence": "star_hf.regularizers",
    "mean_energy": "star_hf.regularizers",
    "moment_loss": "star_hf.regularizers",
    "rate_kbps": "star_hf.regularizers",
    "sigma_noise": "star_hf.regularizers",
    "star_loss": "star_hf.regularizers",
    "target_kl_loss": "star_hf.regularizers",
    "target_star_loss": "star_hf.regularizers",
}

# Diffusers asks a component's package for the base class that tells it how the component is loaded.
_LOADABLE_CLASSES = {"ModelMixin": "diffusers", "PreTrainedModel": "transformers"}

__all__ = ["__version__", *sorted(_EXPORTS)]

if TYPE_CHECKING:
    from star_hf.audio import (
        AudioError as AudioError,
        AudioInfo as AudioInfo,
        audio_info as audio_info,
        check_writable as check_writable,
        convert_channels as convert_channels,
        read_audio as read_audio,
        resample as resample,
        write_audio as write_audio,
    )
    from star_hf.autoencoder import AutoencoderStar as AutoencoderStar
    from star_hf.generation import (
        StarGenConfig as StarGenConfig,
        StarGenModel as StarGenModel,
        StarGenPipeline as StarGenPipeline,
        load_adapter_folder as load_adapter_folder,
    )
    from star_hf.hub import (
        embedded_checkpoint as embedded_checkpoint,
        plan_upload as plan_upload,
        push_folder as push_folder,
        resolve_model as resolve_model,
    )
    from star_hf.lafa import AutoencoderLafa as AutoencoderLafa
    from star_hf.losses import (
        CaptionEncoder as CaptionEncoder,
        ContrastiveCritic as ContrastiveCritic,
        KWeighting as KWeighting,
        MultiResolutionSTFTLoss as MultiResolutionSTFTLoss,
        MultiScaleSTFTDiscriminator as MultiScaleSTFTDiscriminator,
        PhaseLoss as PhaseLoss,
        SemanticAlignment as SemanticAlignment,
        SemanticTeacher as SemanticTeacher,
        SignalRegressors as SignalRegressors,
        balance_gradients as balance_gradients,
        gradient_norm_weight as gradient_norm_weight,
        stereo_correlation_loss as stereo_correlation_loss,
    )
    from star_hf.regularizers import (
        FlowProbe as FlowProbe,
        LatentNoise as LatentNoise,
        SoftNormalization as SoftNormalization,
        channel_kl as channel_kl,
        channel_rates as channel_rates,
        growth_curve as growth_curve,
        isotropic_kl as isotropic_kl,
        kl_divergence as kl_divergence,
        mean_energy as mean_energy,
        moment_loss as moment_loss,
        rate_kbps as rate_kbps,
        sigma_noise as sigma_noise,
        star_loss as star_loss,
        target_kl_loss as target_kl_loss,
        target_star_loss as target_star_loss,
    )


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name) or _LOADABLE_CLASSES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
