"""What is compared: each metric with its name, its unit, which way is better, and when a change counts."""

from dataclasses import dataclass
from typing import Literal

from study.measure import NOISE_SCALES


@dataclass(frozen=True)
class Metric:
    """One column of the table.

    A change against the control is measurable when it exceeds both the spread of the control over its seeds
    and a floor: `floor` times the control's value, or `floor` itself with `absolute`.
    """

    key: str
    title: str
    definition: str
    unit: str = ""
    better: Literal["less", "more"] | None = None
    digits: int = 3
    floor: float = 0.01
    absolute: bool = False

    def threshold(self, control: float, spread: float) -> float:
        return max(spread, self.floor if self.absolute else self.floor * abs(control))

    @property
    def label(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title


METRICS = {
    metric.key: metric
    for metric in (
        Metric(
            "stft_distance",
            "STFT distance",
            "multi-resolution spectral distance with auraloss' default settings, from the posterior's mean",
            better="less",
        ),
        Metric(
            "mel_distance",
            "mel distance",
            "the same on 128 mel bands",
            better="less",
        ),
        Metric(
            "si_sdr",
            "SI-SDR",
            "scale-invariant signal-to-distortion ratio",
            unit="dB",
            better="more",
            floor=0.1,
            absolute=True,
        ),
        *(
            Metric(
                f"stft_distance_noise_{scale:g}",
                f"STFT distance, noise {scale:g}",
                f"the STFT distance when Gaussian noise of {scale:g} of each latent channel's standard "
                "deviation is added before decoding: what a generator's error costs",
                better="less",
            )
            for scale in NOISE_SCALES
        ),
        Metric(
            "rate_kbps",
            "rate",
            "mean KL of the Gaussian posterior from N(0, 1) over all frames, in bits, times the frame rate; "
            "empty for posteriors that have no KL",
            unit="kbit/s",
        ),
        Metric(
            "capacity_kbps",
            "capacity",
            "for posteriors without KL only: Σ ½ log₂(1 + variance / σ²) over the channels, times the frame "
            "rate, at the noise σ that the decoder was trained under; this is no rate and not to be compared "
            "with one",
            unit="kbit/s",
        ),
        Metric(
            "kl_head_tail_ratio",
            "KL head/tail",
            "mean KL of the first eighth of the channels over that of the last; empty without KL",
        ),
        Metric(
            "variance_head_tail_ratio",
            "variance head/tail",
            "the same ratio of the variances of the posterior's means, which every method has",
        ),
        Metric(
            "latent_correlation",
            "latent correlation",
            "LC: mean absolute Pearson correlation of all pairs of different channels over all frames",
        ),
        Metric(
            "spectral_decay",
            "spectral slope α",
            "the radially averaged power of square (time × channel) maps falls as f^(−α): 0 is white noise, "
            "mel spectrograms have about 2",
            floor=0.01,
            absolute=True,
        ),
        Metric(
            "local_predictability",
            "LPI",
            "local predictability index: mean R² of each channel from its ±⌈0.06 C⌉ neighbours by ridge "
            "regression (penalty 1e-3 of the variance)",
        ),
    )
}
