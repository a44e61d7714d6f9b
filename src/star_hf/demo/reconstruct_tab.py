"""The tab that lets one hear what the autoencoder keeps of a clip."""

from __future__ import annotations

from typing import Any

import gradio as gr

from . import wording
from .components import MODEL_QUEUE, ClipView, clip_input
from .pictures import loudest_power
from .studio import Studio


def build_reconstruct_tab(studio: Studio, last_clip: gr.State | None) -> None:
    """`last_clip` holds the path of a generated clip; None without a generator."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            clip = clip_input(studio, last_clip)
            reconstruct = gr.Button("Reconstruct", variant="primary")
            metrics = gr.HTML(elem_id="metrics")
        with gr.Column(scale=3, min_width=300):
            original = ClipView.build("original", "Original")
            decoded = ClipView.build("reconstruction", "Reconstruction")

    def run(path: str | None) -> dict[Any, Any]:
        with wording.errors_for_visitors():
            result = studio.reconstruct(path)
            powers = [loudest_power(clip) for clip in (result.original, result.decoded)]
            return {
                metrics: wording.metrics_table(result),
                **original.show(result.original, result.original.name, powers),
                **decoded.show(result.decoded, result.decoded.name, powers),
            }

    reconstruct.click(
        run,
        clip,
        [metrics, *original.outputs, *decoded.outputs],
        show_progress="minimal",
        show_progress_on=metrics,
        **MODEL_QUEUE,
    )
