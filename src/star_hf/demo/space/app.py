"""The demo as a Hugging Face Space: the page of the embedded checkpoint, or of the model in STAR_HF_MODEL."""

from __future__ import annotations

import os

from star_hf.cli.demo import demo

if __name__ == "__main__":
    # A Space listens on all addresses of its container, and sits behind the Hub's own front.
    demo(
        model=os.environ.get("STAR_HF_MODEL"),
        host="0.0.0.0",
        port=int(os.environ.get("PORT", "7860")),
        max_seconds=float(os.environ.get("STAR_HF_MAX_SECONDS", "30")),
        max_megabytes=20.0,
    )
