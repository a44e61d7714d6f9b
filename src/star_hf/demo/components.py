"""What the tabs share: a clip that is shown, a clip that is brought, and the queue in front of the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch

from . import wording
from .pictures import spectrogram
from .studio import Clip, Studio

#: Of events that need the model: they wait in one queue, whatever tab they come from.
MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
#: Of events that do not wait.
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class ClipView:
    """Player and spectrogram side by side, and both downloads; hidden until there is a clip."""

    group: gr.Column
    player: gr.Audio
    picture: gr.HTML
    wav: gr.DownloadButton
    flac: gr.DownloadButton

    @classmethod
    def build(cls, name: str, label: str, autoplay: bool = False) -> ClipView:
        with gr.Column(visible=False, elem_id=name) as group:
            with gr.Row(equal_height=False):
                with gr.Column(min_width=240):
                    player = gr.Audio(
                        type="filepath", label=label, interactive=False, autoplay=autoplay, buttons=[]
                    )
                    with gr.Row():
                        wav = gr.DownloadButton("Download WAV", size="sm", min_width=100)
                        flac = gr.DownloadButton("Download FLAC", size="sm", min_width=100)
                with gr.Column(min_width=240):
                    picture = gr.HTML()
        return cls(group, player, picture, wav, flac)

    @property
    def outputs(self) -> list[Any]:
        return [self.group, self.player, self.picture, self.wav, self.flac]

    def show(self, clip: Clip, label: str, compared_with: Iterable[torch.Tensor] = ()) -> dict[Any, Any]:
        """Updates that show a clip; `compared_with` is that of its `spectrogram`."""
        wav, flac = str(clip.files.wav), str(clip.files.flac)
        return {
            self.group: gr.update(visible=True),
            self.player: gr.update(value=wav, label=label),
            self.picture: spectrogram(clip, compared_with),
            self.wav: wav,
            self.flac: flac,
        }

    def hide(self) -> dict[Any, Any]:
        return {self.group: gr.update(visible=False), self.player: None}


def clip_input(studio: Studio, last_clip: gr.State | None) -> gr.Audio:
    """Upload or record; `last_clip`, where there is one, holds the path of the clip generated last."""
    limits = studio.limits
    clip = gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label=f"Your clip, up to {limits.max_seconds:g} s and {limits.max_megabytes:g} MB",
        buttons=[],
    )
    if last_clip is not None:
        use = gr.Button("Use the generated clip", size="sm")

        def take(path: str | None) -> str:
            with wording.errors_for_visitors():
                if path is None:
                    raise ValueError("Nothing has been generated yet: the first tab does that.")
            return path

        use.click(take, last_clip, clip, **AT_ONCE)
    return clip
