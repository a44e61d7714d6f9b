"""The tab that decodes with the first latent channels only."""

from __future__ import annotations

from typing import Any

import gradio as gr

from . import wording
from .components import MODEL_QUEUE, ClipView, clip_input
from .pictures import profile_bars
from .studio import LatentClip, Studio

SESSION_SECONDS = 3600  # that an encoded clip is kept after its visitor has gone


def build_latent_tab(studio: Studio, last_clip: gr.State | None) -> None:
    """`last_clip` holds the path of a generated clip; None without a generator."""
    channels = studio.codec.latent_channels
    encoded = gr.State(None, time_to_live=SESSION_SECONDS)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            clip = clip_input(studio, last_clip)
            encode = gr.Button("Encode", variant="primary")
            note = gr.HTML(wording.note(wording.LATENTS), elem_id="share")
        with gr.Column(scale=3, min_width=300, visible=False, elem_id="latents") as panel:
            count = gr.Slider(
                1,
                channels,
                max(1, channels // 8),
                step=1,
                label="Channels decoded",
                info="Move it to hear what the first channels hold, and what the later ones add.",
            )
            profile = gr.HTML(elem_id="profile")
            part = ClipView.build("part", "Decoded", autoplay=True)

    def decode(latents: LatentClip | None, count: int) -> dict[Any, Any]:
        with wording.errors_for_visitors():
            if latents is None:
                raise ValueError("The encoded clip is no longer kept: encode it again.")
            decoded = studio.decode_first_channels(latents, count)
            return {
                note: wording.share_note(latents, count),
                profile: profile_bars(latents.profile, count),
                **part.show(decoded, decoded.name, [latents.loudest]),
            }

    def run(path: str | None, count: int) -> dict[Any, Any]:
        with wording.errors_for_visitors():
            latents = studio.latents(path)
        return {encoded: latents, panel: gr.update(visible=True), **decode(latents, count)}

    outputs = [note, profile, *part.outputs]
    busy = {"show_progress": "minimal", "show_progress_on": note, **MODEL_QUEUE}
    encode.click(run, [clip, count], [encoded, panel, *outputs], **busy)
    # By pointer or keyboard. While one decode runs, only the last of the values that follow is decoded.
    count.input(decode, [encoded, count], outputs, trigger_mode="always_last", **busy)
