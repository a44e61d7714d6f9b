"""Text to latents to audio: STAR-Gen and its pipeline."""

from .configuration_star_gen import StarGenConfig
from .modeling_star_gen import StarGenModel, StarGenOutput
from .pipeline_star_gen import StarGenPipeline
from .prefix_cache import TextPrefix
from .text import tokenize_prompts

__all__ = [
    "StarGenConfig",
    "StarGenModel",
    "StarGenOutput",
    "StarGenPipeline",
    "TextPrefix",
    "tokenize_prompts",
]
