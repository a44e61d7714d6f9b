"""The tab that turns text into sound."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import gradio as gr

from . import wording
from .components import AT_ONCE, MODEL_QUEUE, ClipView
from .limits import NUM_SEEDS, SHORTEST_SECONDS, GenerationRequest
from .stopping import StopCounter
from .studio import Clip, Studio


def build_generate_tab(studio: Studio, examples: Sequence[str], last_clip: gr.State) -> None:
    """`examples` are prompts to click on; `last_clip` gets the path of the first clip, for the other tabs."""
    limits, longest = studio.limits, studio.longest_generation
    shortest = min(SHORTEST_SECONDS, longest)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            prompt = gr.Textbox(label="Prompt", placeholder="What do you want to hear?", lines=1)
            if examples:
                gr.Examples(
                    [[text] for text in examples],
                    [prompt],
                    examples_per_page=len(examples),
                    api_visibility="private",
                )
            negative = gr.Textbox(label="Negative prompt", placeholder="What should not be heard", lines=1)
            with gr.Row():
                generate = gr.Button("Generate", variant="primary", min_width=120)
                stop = gr.Button("Stop", min_width=80)
            status = gr.HTML(wording.note("Nothing generated yet."), elem_id="status")
            seconds = gr.Slider(shortest, longest, studio.default_seconds, step=0.1, label="Seconds")
            steps = gr.Slider(
                1, limits.max_steps, 24, step=1, label="Steps", info="More are slower, and finer."
            )
            guidance_info = "How closely the prompt is followed; 1 or less is no guidance."
            guidance = gr.Slider(0, limits.max_guidance, 3, step=0.1, label="Guidance", info=guidance_info)
            variations = gr.Slider(1, limits.max_variations, 1, step=1, label="Variations")
            with gr.Row():
                seed = gr.Number(0, label="Seed", precision=0, min_width=140)
                new_seed = gr.Checkbox(True, label="New seed each time", min_width=140)
        with gr.Column(scale=3, min_width=300):
            views = [ClipView.build(f"clip-{index + 1}", "Clip") for index in range(limits.max_variations)]

    stops = StopCounter()
    # The page sends it with each request, in the state of that moment.
    pressed = gr.Number(0, visible=False, precision=0)

    def run(
        prompt: str,
        negative: str,
        seconds: Any,
        steps: Any,
        guidance: Any,
        variations: Any,
        first_seed: Any,
        new: bool,
        sent_after: int,
        visitor: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        first_seed = secrets.randbelow(NUM_SEEDS) if new else first_seed
        request = GenerationRequest(
            prompt or "", negative or "", seconds, steps, guidance, first_seed, variations
        )
        try:
            with wording.errors_for_visitors():
                yield from show(request, lambda: stops.stopped(str(visitor.session_hash), sent_after))
        except gr.Error:
            yield {status: wording.note("Nothing was made.")}
            raise

    def show(request: GenerationRequest, stopped: Callable[[], bool]) -> Iterator[dict[Any, Any]]:
        start, clips = time.perf_counter(), []
        with closing(studio.generate(request)) as events:
            for event in events:
                if isinstance(event, Clip):
                    clips.append(event)
                    yield after_clip(request, clips)
                elif stopped():
                    yield {status: wording.note(f"Stopped at {wording.position(event)}.")}
                    return
                else:
                    yield {status: wording.step_bar(event)}
        yield {status: wording.done_note(request.prompt, clips, time.perf_counter() - start)}

    def after_clip(request: GenerationRequest, clips: list[Clip]) -> dict[Any, Any]:
        """Updates that show another clip; the first makes those of an earlier request go."""
        updates = views[len(clips) - 1].show(clips[-1], f"Seed {clips[-1].seed}")
        if len(clips) == 1:
            updates |= {last_clip: str(clips[0].files.wav), seed: request.seed}
            for view in views[1:]:
                updates |= view.hide()
        return updates

    gr.on(
        [generate.click, prompt.submit, negative.submit],
        run,
        [prompt, negative, seconds, steps, guidance, variations, seed, new_seed, pressed],
        [status, last_clip, seed, *(output for view in views for output in view.outputs)],
        show_progress="minimal",
        show_progress_on=status,
        **MODEL_QUEUE,
    )

    def press(visitor: gr.Request) -> int:
        return stops.press(str(visitor.session_hash))

    stop.click(press, None, pressed, **AT_ONCE)
