"""The experiment trackers that accelerate drives: where they write, and how sounds and pictures get there."""

import importlib
import io
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import soundfile
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

PROJECT = "star_hf"
#: Trackers that take media as objects of their own module, made from a file.
MEDIA_MODULES = ("trackio", "wandb")


def start_trackers(
    accelerator: Accelerator, folder: Path, config: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Open the trackers of `accelerator` as run `folder.name`, and tell how to look at them.

    All write below `folder`; trackio elsewhere if the environment variable TRACKIO_DIR names a folder.
    """
    name = folder.resolve().name
    names = [str(tracker) for tracker in accelerator.log_with]
    if "trackio" in names:  # which reads the variable when it is first imported
        os.environ.setdefault("TRACKIO_DIR", str(folder.resolve() / "trackio"))
    settings = {
        "trackio": {"name": name, "resume": "allow", "embed": False},
        "wandb": {"name": name, "dir": str(folder)},
    }
    with redirect_stdout(io.StringIO()):
        accelerator.init_trackers(PROJECT, config=config, init_kwargs=settings)
    if "tensorboard" in names:
        say(f"to watch: tensorboard --logdir {folder}")
    if "trackio" in names:
        place = importlib.import_module("trackio.utils").TRACKIO_DIR
        say(f"to watch: TRACKIO_DIR={place} trackio show --project {PROJECT}")


def send_media(
    tracker: GeneralTracker, step: int, sounds: dict[str, Path], pictures: dict[str, Path]
) -> None:
    """Hand WAV and PNG files to a tracker under their names; a tracker without media gets nothing."""
    if tracker.name == "tensorboard":
        _write_to_tensorboard(tracker.writer, step, sounds, pictures)
    elif tracker.name in MEDIA_MODULES:
        media = importlib.import_module(tracker.name)
        items = {f"audio/{name}": media.Audio(str(path)) for name, path in sounds.items()}
        items |= {f"figures/{name}": media.Image(str(path)) for name, path in pictures.items()}
        if items:
            tracker.log(items, step=step)


def forget_later_steps(tracker: GeneralTracker, step: int) -> None:
    """Let TensorBoard hide what was logged after `step` by a run that now continues from there."""
    if tracker.name == "tensorboard":
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        start = SessionLog(status=SessionLog.START)
        tracker.writer.file_writer.add_event(Event(step=step + 1, session_log=start), step=step + 1)


def finish(tracker: GeneralTracker) -> None:
    """Write what is left, and close the tracker."""
    with redirect_stdout(io.StringIO()):
        if tracker.name == "trackio":
            importlib.import_module(
                "trackio"
            ).finish()  # the tracker's own leaves it to be finished again at exit
        else:
            tracker.finish()


def _write_to_tensorboard(writer: Any, step: int, sounds: dict[str, Path], pictures: dict[str, Path]) -> None:
    """The files as they are: `add_audio` would mix to one channel, `add_figure` draw everything again."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = []
    for name, path in sounds.items():
        info = soundfile.info(path)
        audio = Summary.Audio(
            sample_rate=info.samplerate,
            num_channels=info.channels,
            length_frames=info.frames,
            encoded_audio_string=path.read_bytes(),
            content_type="audio/wav",
        )
        values.append(Summary.Value(tag=f"audio/{name}", audio=audio))
    for name, path in pictures.items():
        with Image.open(path) as image:
            width, height = image.size
        picture = Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=path.read_bytes()
        )
        values.append(Summary.Value(tag=f"figures/{name}", image=picture))
    if values:
        writer.file_writer.add_summary(Summary(value=values), step)
        writer.flush()
