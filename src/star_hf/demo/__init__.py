"""The page to play with: generate, reconstruct, and look into the latents. `star-hf demo` serves it.

It needs the library's extra `demo`. `Studio` is what it does, without the page.
"""

from .limits import GenerationRequest, Limits
from .server import serve
from .studio import Studio

__all__ = ["GenerationRequest", "Limits", "Studio", "serve"]
