"""Text to latents to audio: STAR-Gen and its pipeline."""

from .adapters import add_lora, has_lora, load_adapter_folder, merge_lora, save_adapter_folder
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
    "add_lora",
    "has_lora",
    "load_adapter_folder",
    "merge_lora",
    "save_adapter_folder",
    "tokenize_prompts",
]
