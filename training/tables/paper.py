"""The papers' own numbers, as data: by table, by method, by data set, by metric.

Methods are (backbone, regularizer), and metrics are called what the study calls its own. Mel distance and
SI-SDR of STAR-VAE's Table 1 are from the authors' project page.
"""

from dataclasses import dataclass

STAR_VAE = "STAR-VAE (arXiv 2606.23064)"
LAFA = "LAFA (Listens Like Mel)"
TARGET_KL = "Target-KL (Taming Audio VAEs)"
AUDIOCAPS, SONG_DESCRIBER = "AudioCaps", "Song Describer"

Method = tuple[str, str | None]


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    `numbers[data set][method][metric]`; what the paper does not give is not there.
    """

    source: str
    numbers: dict[str, dict[Method, dict[str, float]]]

    def number(self, dataset: str, method: Method, metric: str) -> float | None:
        return self.numbers.get(dataset, {}).get(method, {}).get(metric)

    def methods(self) -> list[Method]:
        return list(dict.fromkeys(method for methods in self.numbers.values() for method in methods))

    def datasets(self, metric: str) -> list[str]:
        """The data sets that the paper gives the metric on."""
        return [
            dataset
            for dataset, methods in self.numbers.items()
            if any(metric in numbers for numbers in methods.values())
        ]


def _rows(metrics: tuple[str, ...], rows: dict[Method, tuple[float, ...]]) -> dict[Method, dict[str, float]]:
    return {method: dict(zip(metrics, numbers, strict=True)) for method, numbers in rows.items()}


_RECONSTRUCTION = ("stft_distance", "mel_distance", "si_sdr", "fad", "latent_correlation")

#: With and without STAR, with and without Mamba.
TABLE1 = PaperTable(
    f"{STAR_VAE}, Table 1",
    {
        AUDIOCAPS: _rows(
            _RECONSTRUCTION,
            {
                ("cnn", "isotropic"): (1.28, 0.89, -1.14, 3.36, 0.11),
                ("cnn", "star"): (1.22, 0.81, -0.35, 2.65, 0.09),
                ("mamba", "isotropic"): (1.35, 0.93, -1.43, 2.74, 0.10),
                ("mamba", "star"): (1.17, 0.75, -0.03, 2.31, 0.08),
            },
        ),
        SONG_DESCRIBER: _rows(
            _RECONSTRUCTION,
            {
                ("cnn", "isotropic"): (1.46, 0.86, 5.02, 0.45, 0.12),
                ("cnn", "star"): (1.40, 0.84, 5.58, 0.38, 0.08),
                ("mamba", "isotropic"): (1.57, 0.91, 4.20, 0.39, 0.10),
                ("mamba", "star"): (1.32, 0.80, 6.40, 0.25, 0.08),
            },
        ),
    },
)

#: Backbones, all with STAR; inference in seconds, of a length that the paper's table does not give.
TABLE3 = PaperTable(
    f"{STAR_VAE}, Table 3",
    {
        SONG_DESCRIBER: _rows(
            ("stft_distance", "fad", "inference_seconds"),
            {
                ("cnn", "star"): (1.40, 0.38, 0.68),
                ("transformer", "star"): (1.35, 0.30, 0.92),
                ("mamba", "star"): (1.32, 0.25, 0.85),
            },
        )
    },
)

#: Growth functions, on the hybrid of CNN and Mamba.
TABLE4 = PaperTable(
    f"{STAR_VAE}, Table 4",
    {
        AUDIOCAPS: _rows(
            ("stft_distance", "fad", "latent_correlation"),
            {
                ("mamba", "star_step"): (1.58, 3.15, 0.11),
                ("mamba", "star_linear"): (1.38, 2.65, 0.08),
                ("mamba", "star_gamma_0.5"): (1.42, 2.75, 0.07),
                ("mamba", "star_gamma_1.5"): (1.32, 2.45, 0.08),
                ("mamba", "star"): (1.17, 2.31, 0.08),
                ("mamba", "star_gamma_3"): (1.25, 2.52, 0.09),
            },
        )
    },
)

#: What a linear classifier reads off the latents, as a share; the poster names neither data nor backbones.
LINEAR_PROBE = {"star": 0.703, "isotropic": 0.650}

#: FD (OpenL3) on AudioCaps of STAR-VAE's Table 2, by generator and by what its latents were trained with. The
#: paper's isotropic autoencoder is Stable Audio Open's.
GENERATION = {"star_gen": {"star": 55.8, "isotropic": 67.4}, "dit": {"star": 72.5, "isotropic": 89.2}}
GENERATION_SOURCE = f"{STAR_VAE}, Table 2"

#: LAFA around Stable Audio Open's frozen autoencoder, here under the backbone of the study's own.
LAFA_TABLE = PaperTable(
    f"{LAFA}, Table 4",
    {
        AUDIOCAPS: _rows(
            ("mel_distance", "stft_distance"),
            {("mamba", None): (0.75, 0.86), ("mamba", "lafa"): (0.98, 1.37)},
        ),
        SONG_DESCRIBER: _rows(
            ("mel_distance", "stft_distance"),
            {("mamba", None): (0.77, 1.29), ("mamba", "lafa"): (0.82, 1.26)},
        ),
    },
)
#: Local predictability index of 64 channels over 200 clips, which the caption does not name.
LAFA_LOCALITY = {None: 0.10, "lafa": 0.30}
LAFA_LOCALITY_SOURCE = f"{LAFA}, Figure 3"
#: FD (OpenL3) on AudioCaps of LAFA's Table 1, DiT-SAO with rectified flow.
LAFA_GENERATION = {None: 94.35, "lafa": 83.08}
LAFA_GENERATION_SOURCE = f"{LAFA}, Table 1"


@dataclass(frozen=True)
class RatePoint:
    """A bitrate of Target-KL's sweep, with what a text-to-sound diffusion model on it reaches."""

    kbps: float
    text_audio_similarity: float | None = None
    kernel_audio_distance: float | None = None


#: Target-KL's sweep from its lowest rate to its highest, with the best in between (its Table 2).
RATES = (RatePoint(7.65), RatePoint(11.56, 70.67, 1.70), RatePoint(74.10, 66.84, 2.16))
RATES_SOURCE = f"{TARGET_KL}, Table 2"
