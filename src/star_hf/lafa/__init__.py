"""LAFA: channel-span masking, a ViT encoder and a flow decoder around a frozen audio autoencoder."""

from .autoencoder_lafa import AutoencoderLafa
from .decoder import LafaDecoder
from .encoder import LafaEncoder
from .masking import channel_causal_mask, sample_channel_mask
from .objective import lafa_loss

__all__ = [
    "AutoencoderLafa",
    "LafaDecoder",
    "LafaEncoder",
    "channel_causal_mask",
    "lafa_loss",
    "sample_channel_mask",
]
