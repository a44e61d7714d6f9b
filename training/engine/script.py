"""From a command line to an exit code."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import gather_object

from engine.arguments import parse_arguments
from engine.checkpoints import EXPORT_NAME, CheckpointError
from engine.dry_run import describe
from engine.publishing import check_hub, publish
from engine.run_log import fail
from engine.run_setup import TrainingArguments, make_accelerator, open_log
from engine.task import Task
from engine.trainer import Trainer
from star_hf.data import TooManyBadFiles
from star_hf.hub.kinds import Kind

#: What the back ends of torch.distributed say when the other end of a connection is gone.
LOST_CONTACT = (
    "connection closed",
    "connection reset",
    "connection refused",
    "broken pipe",
    "timed out",
    "nccl",
)


def run_script(
    arguments_class: type[TrainingArguments],
    make_task: Callable[[Any, Any], Task],
    argv: list[str] | None = None,
    exports: Kind | None = None,
) -> None:
    """A training script, from command line to exit code; what a user can mend is one line, no traceback.

    `make_task` takes the arguments and an object with a method `say` for lines to the user. With `exports`,
    what the task exports, a run that is to push it asks the Hub before it begins.
    """
    try:
        arguments = parse_arguments(arguments_class, argv)
        accelerator = _join_processes(arguments)
        if arguments.dry_run:
            if accelerator.is_main_process:
                describe(arguments, make_task(arguments, SimpleNamespace(say=print)), print)
            return
        if exports is not None:
            _check_hub_on_main(arguments, exports, accelerator)
        log = open_log(arguments, accelerator)
        Trainer(arguments, make_task(arguments, log), accelerator, log).run()
        if accelerator.is_main_process:
            publish(arguments, Path(arguments.output_dir) / EXPORT_NAME)
    except (ValueError, OSError, TooManyBadFiles, FloatingPointError, CheckpointError) as error:
        _fail(str(error))
    except RuntimeError as error:
        sign = _lost_contact(error)
        if sign is None:
            raise
        _fail(
            f"another process of this run has ended or does not answer ({sign}); its own message or the "
            "launcher's report tells why. The same command continues from the last complete checkpoint"
        )


def _join_processes(arguments: TrainingArguments) -> Accelerator:
    """An accelerator that knows all the processes that were started for this run."""
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started > 1 and not torch.accelerator.is_available():
        # without it accelerate takes each of them for a run of its own
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    accelerator = make_accelerator(arguments)
    if accelerator.num_processes != started:
        raise ValueError(
            f"{started} processes were started, but accelerate has joined {accelerator.num_processes}: "
            "there is no GPU for them, or ACCELERATE_USE_CPU is set to false"
        )
    return accelerator


def _check_hub_on_main(arguments: TrainingArguments, exports: Kind, accelerator: Accelerator) -> None:
    """Ask the Hub once, and end all processes where it refuses."""
    refusal = None
    if accelerator.is_main_process:
        try:
            check_hub(arguments, exports)
        except OSError as error:
            refusal = str(error)
    if accelerator.num_processes > 1:
        refusal = gather_object([refusal])[0]
    if refusal is not None:
        raise OSError(refusal)


def _lost_contact(error: RuntimeError) -> str | None:
    """What in `error` says that another process is gone."""
    several = PartialState._shared_state != {} and PartialState().num_processes > 1
    text = str(error).lower()
    return next((sign for sign in LOST_CONTACT if sign in text), None) if several else None


def _fail(message: str) -> None:
    rank = int(os.environ.get("RANK", 0))
    fail(f"process {rank}: {message}" if rank > 0 else message)
