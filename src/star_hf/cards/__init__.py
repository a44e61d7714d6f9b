"""Cards of models and latent datasets for the Hub, rendered from measured JSON and configurations alone.

`star-hf card` writes one from a folder of measurements; `minimal_card` is for a model of which nothing was
measured.
"""

from .card import CardRequest, RenderedCard, check_card, minimal_card, render_card, write_card
from .documents import MissingMeasurement
from .kinds import KINDS, kind_of

__all__ = [
    "KINDS",
    "CardRequest",
    "MissingMeasurement",
    "RenderedCard",
    "check_card",
    "kind_of",
    "minimal_card",
    "render_card",
    "write_card",
]
