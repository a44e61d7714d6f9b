"""The columns of the tables: the comparison's metrics, and what only this study has; names of methods."""

from dataclasses import replace

from comparison.metrics import METRICS as COMPARED, Metric
from tables.paper import Method

BACKBONE_NAMES = {"cnn": "CNN", "transformer": "CNN-Transformer", "mamba": "CNN-Mamba"}
REGULARIZER_NAMES = {
    None: "Phase I",
    "isotropic": "isotropic KL",
    "star": "STAR",
    "star_step": "step",
    "star_linear": "linear (γ 1)",
    "star_gamma_0.5": "γ 0.5 (concave)",
    "star_gamma_1.5": "γ 1.5",
    "star_gamma_3": "γ 3",
    "lafa": "LAFA",
}
GENERATOR_NAMES = {"star_gen": "STAR-Gen", "dit": "Stable Audio DiT"}
RATE_PREFIX = "target_kl_"

METRICS: dict[str, Metric] = {
    **{
        key: COMPARED[key]
        for key in (
            "stft_distance",
            "mel_distance",
            "si_sdr",
            "stft_distance_noise_0.1",
            "stft_distance_noise_0.3",
            "rate_kbps",
            "kl_head_tail_ratio",
            "spectral_decay",
        )
    },
    # the papers want it low
    "latent_correlation": replace(COMPARED["latent_correlation"], better="less"),
    "local_predictability": replace(COMPARED["local_predictability"], better="more"),
    "fad": Metric(
        "fad",
        "FAD",
        "Fréchet distance between the embeddings of all reconstructions and of all originals",
        better="less",
    ),
    "probe_accuracy": Metric(
        "probe_accuracy",
        "linear probe",
        "share of clips whose class a linear classifier, fitted on other clips, reads off mean and deviation "
        "of each latent channel",
        unit="%",
        better="more",
        floor=1.0,
        absolute=True,
    ),
    "effective_dimensions": Metric(
        "effective_dimensions", "effective dimensions", "principal components that hold 95% of the variance"
    ),
}


#: What the JSON has as a share, and the page shows in percent.
SHARES = ("probe_accuracy", "accuracy", "silent_share")


def regularizer_name(regularizer: str | None) -> str:
    if regularizer is not None and regularizer.startswith(RATE_PREFIX):
        return f"Target-KL, {target_rate(regularizer):g} kbit/s"
    return REGULARIZER_NAMES.get(regularizer, str(regularizer))


def growth_name(regularizer: str | None) -> str:
    """Among growth functions, STAR is the one of γ 2."""
    return "γ 2" if regularizer == "star" else regularizer_name(regularizer)


def method_name(method: Method, between: str = ", ") -> str:
    backbone, regularizer = method
    return f"{BACKBONE_NAMES.get(backbone, backbone)}{between}{regularizer_name(regularizer)}"


def target_rate(regularizer: str) -> float:
    """kbit/s of `target_kl_RATE`."""
    return float(regularizer.removeprefix(RATE_PREFIX))


def is_lafa(method: Method) -> bool:
    return method[1] == "lafa"


def is_rate(method: Method) -> bool:
    return method[1] is not None and method[1].startswith(RATE_PREFIX)
