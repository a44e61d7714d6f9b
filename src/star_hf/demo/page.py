"""The page: tabs to generate, to reconstruct, and to look into the latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from .generate_tab import build_generate_tab
from .latent_tab import build_latent_tab
from .reconstruct_tab import build_reconstruct_tab
from .studio import Studio

CSS = Path(__file__).with_name("page.css")
#: Fonts of the visitor's system: nothing is fetched from elsewhere.
FONTS = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
TITLE = "star_hf"
CLEANING = (600, 3600)  # every so many seconds, files older than so many


def build_page(studio: Studio, examples: Sequence[str] = ()) -> gr.Blocks:
    """The page of a studio; `examples` are prompts to click on. A model without pipeline has no first tab."""
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=CLEANING) as page:
        gr.Markdown(f"# {TITLE}\n{_introduction(studio)}")
        last_clip = None
        if studio.pipeline is not None:
            last_clip = gr.State(None)
            with gr.Tab("Generate"):
                build_generate_tab(studio, examples, last_clip)
        with gr.Tab("Reconstruct"):
            build_reconstruct_tab(studio, last_clip)
        with gr.Tab("Latents"):
            build_latent_tab(studio, last_clip)
    page.queue(max_size=studio.limits.max_waiting, default_concurrency_limit=1, api_open=False)
    return page


def page_theme() -> gr.themes.Base:
    """Gradio's own, with more contrast where it has little."""
    return gr.themes.Default(primary_hue="blue", **FONTS).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )


def _introduction(studio: Studio) -> str:
    codec = studio.codec
    channels = {1: "mono", 2: "stereo"}.get(codec.audio_channels, f"{codec.audio_channels} channels")
    return (
        f"{studio.name}: {codec.sampling_rate / 1000:g} kHz, {channels}, {codec.latent_channels} latent "
        f"channels at {codec.frame_rate:.1f} frames per second."
    )
