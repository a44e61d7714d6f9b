"""Datasets → crops for the autoencoder, latents for the generator."""

from .bad_files import BadFile, BadFiles, TooManyBadFiles
from .crops import AudioCrops, CropReader, CropSettings, StreamedAudioCrops
from .latent_format import LatentInfo, LatentStatistics, LatentWriter, open_latents, vae_fingerprint
from .latents import LatentCollator, LatentDataset, row_captions
from .sampling import EndlessShuffle
from .sources import audio_name, audio_source, load_audio_dataset
from .splits import split_for_validation

__all__ = [
    "AudioCrops",
    "BadFile",
    "BadFiles",
    "CropReader",
    "CropSettings",
    "EndlessShuffle",
    "LatentCollator",
    "LatentDataset",
    "LatentInfo",
    "LatentStatistics",
    "LatentWriter",
    "StreamedAudioCrops",
    "TooManyBadFiles",
    "audio_name",
    "audio_source",
    "load_audio_dataset",
    "open_latents",
    "row_captions",
    "split_for_validation",
    "vae_fingerprint",
]
