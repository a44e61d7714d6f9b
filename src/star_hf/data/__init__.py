"""Datasets → crops for the autoencoder, captioned clips or latents for the generator."""

from .bad_files import BadFile, BadFiles, TooManyBadFiles
from .captions import CaptionTemplates
from .channels import CHANNEL_POLICIES, ChannelPolicy
from .clip_dataset import ClipDataset, MixedClips
from .clips import CaptionedClipReader, collate_clips
from .crops import CropReader, CropSettings, collate_crops
from .items import UnwantedClip, clip_info, noise_seed, read_span, source_seed
from .latent_format import LatentInfo, LatentShard, LatentStatistics, open_latents, vae_fingerprint
from .latents import LatentCollator, LatentDataset, frame_mask, row_captions
from .loading import make_loader, stream_batches
from .mixing import MixtureShuffle, SourceDraws
from .sampling import BucketedShuffle, EndlessShuffle
from .sources import audio_name, audio_source, load_audio_dataset
from .splits import HeldOutRows, split_for_validation
from .streams import ClipStream, MixedStream, ShuffledRows, split_by_node
from .training_source import TrainingSource
from .undecoded import UndecodedAudio, load_undecoded

__all__ = [
    "CHANNEL_POLICIES",
    "BadFile",
    "BadFiles",
    "BucketedShuffle",
    "CaptionTemplates",
    "CaptionedClipReader",
    "ChannelPolicy",
    "ClipDataset",
    "ClipStream",
    "CropReader",
    "CropSettings",
    "EndlessShuffle",
    "HeldOutRows",
    "LatentCollator",
    "LatentDataset",
    "LatentInfo",
    "LatentShard",
    "LatentStatistics",
    "MixedClips",
    "MixedStream",
    "MixtureShuffle",
    "ShuffledRows",
    "SourceDraws",
    "TooManyBadFiles",
    "TrainingSource",
    "UndecodedAudio",
    "UnwantedClip",
    "audio_name",
    "audio_source",
    "clip_info",
    "collate_clips",
    "collate_crops",
    "frame_mask",
    "load_audio_dataset",
    "load_undecoded",
    "make_loader",
    "noise_seed",
    "open_latents",
    "read_span",
    "row_captions",
    "source_seed",
    "split_by_node",
    "split_for_validation",
    "stream_batches",
    "vae_fingerprint",
]
