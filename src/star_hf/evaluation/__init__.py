"""Measuring: reconstruction, distributions, latent spaces, classes of sound, copies, plots.

The metrics take `(prediction, reference)`, in this order; `prepare_pair` brings two clips to one rate, layout
and length where asked. Loudness and true peak need scipy, as `classifier`, `plots` and the `evaluate` modules
in `metrics/` need the library's extra `eval`; PESQ and STOI need the packages of their names.
"""

from .distribution import (
    FewSamplesWarning,
    FrechetExtrapolation,
    frechet_distance,
    frechet_distance_of_gaussians,
    frechet_infinity,
)
from .distribution_kernel import kernel_audio_distance, median_distance, polynomial_kernel_distance
from .distribution_pairs import tag_divergence, text_audio_similarity
from .latent_capacity import CapacityProfile, channel_capacity
from .latent_covariance import LatentCovariance, LatentMoments
from .latent_spectrum import LatentSpectrum, RadialSpectrum
from .latents import ChannelKL, LatentProfile
from .loudness import integrated_loudness, loudness_difference, true_peak, true_peak_difference
from .metric_paths import metric_names, metric_path
from .reconstruction import mel_distance, multi_resolution_mel_distance, si_sdr, stft_distance
from .reconstruction_bands import BandErrors, band_errors
from .reconstruction_stereo import stereo_correlation_error
from .reconstruction_suite import PAIR_METRICS, PairScores, measure_pair, pair_folders
from .speech import pesq, stoi
from .waveform_checks import PreparedPair, prepare_pair

__all__ = [
    "PAIR_METRICS",
    "BandErrors",
    "CapacityProfile",
    "ChannelKL",
    "FewSamplesWarning",
    "FrechetExtrapolation",
    "LatentCovariance",
    "LatentMoments",
    "LatentProfile",
    "LatentSpectrum",
    "PairScores",
    "PreparedPair",
    "RadialSpectrum",
    "band_errors",
    "channel_capacity",
    "frechet_distance",
    "frechet_distance_of_gaussians",
    "frechet_infinity",
    "integrated_loudness",
    "kernel_audio_distance",
    "loudness_difference",
    "measure_pair",
    "median_distance",
    "mel_distance",
    "metric_names",
    "metric_path",
    "multi_resolution_mel_distance",
    "pair_folders",
    "pesq",
    "polynomial_kernel_distance",
    "prepare_pair",
    "si_sdr",
    "stereo_correlation_error",
    "stft_distance",
    "stoi",
    "tag_divergence",
    "text_audio_similarity",
    "true_peak",
    "true_peak_difference",
]
