"""Encode a dataset into latents: Parquet shards of posteriors with captions, and statistics per channel.

python training/encode_latents.py --vae runs/esc10_autoencoder_star --source recordings --output_dir latents
accelerate launch --multi_gpu --num_processes 8 training/encode_latents.py …    (or torchrun, also on CPUs)

Whatever ends it, the same command goes on with what is missing, with any number of processes. All of them
write to `output_dir.incomplete`, which becomes `output_dir`: several machines need a folder that they share.
"""

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Features
from diffusers.models.modeling_utils import ModelMixin

from encoding.arguments import EncodeArguments
from encoding.encoder import PosteriorEncoder
from encoding.processes import (
    Heartbeat,
    ProcessLost,
    ProcessWatch,
    from_main,
    join_processes,
)
from encoding.report import describe, progress_line
from encoding.source import StreamSource, TableSource, column_features, dataset_fingerprint, open_source
from encoding.work import WorkFolder, total_statistics, write_file
from encoding.worker import Worker
from engine.arguments import parse_arguments
from engine.publishing import LATENTS, check_hub, publish
from engine.run_log import fail, quiet_libraries
from star_hf.data import LatentInfo, TooManyBadFiles, vae_fingerprint
from star_hf.generation.vae_interface import latent_layout, posterior_kind
from tasks.vae_loading import load_vae, resolve_export

CONTINUE = "the same command goes on with what is missing"


@dataclass
class Inputs:
    """What every process opens for itself."""

    source: TableSource | StreamSource
    columns: Features
    vae: ModelMixin

    @classmethod
    def open(cls, arguments: EncodeArguments) -> "Inputs":
        source = open_source(arguments)
        return cls(source, column_features(source.dataset, arguments), load_vae(arguments.vae))


def encode(arguments: EncodeArguments) -> LatentInfo | None:
    """Write the latent dataset to `output_dir`, complete or not at all; what it is, on the main process."""
    arguments.check()
    quiet_libraries()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    state = join_processes()
    work = WorkFolder(Path(arguments.output_dir))
    opened: list[Inputs] = []

    def prepare() -> bool:
        statistics_target(arguments)
        opened.append(Inputs.open(arguments))
        plan = make_plan(arguments, opened[0])
        if arguments.dry_run:
            describe(arguments, opened[0].source, opened[0].vae, plan, work)
            return False
        check_hub(arguments, LATENTS)
        if work.settle(plan, arguments.overwrite):
            print(f"output_dir {str(work.output)!r} is complete already", flush=True)
            return False
        work.begin(plan)
        return True

    if from_main(state, prepare):
        encode_share(arguments, work, state, opened)
    if arguments.dry_run or not state.is_main_process:
        return None
    info = LatentInfo.load(work.output)
    print(f"{info.num_rows} rows, {info.num_frames} frames in {work.output}", flush=True)
    if arguments.write_statistics_to_vae:
        write_statistics(statistics_target(arguments), info)
    publish(arguments, work.output)
    return info


def make_plan(arguments: EncodeArguments, inputs: Inputs) -> dict[str, Any]:
    """What the latents follow from."""
    return {
        "vae_class": type(inputs.vae).__name__,
        "vae_fingerprint": vae_fingerprint(inputs.vae),
        "dataset_fingerprint": dataset_fingerprint(inputs.source.dataset, arguments),
        "settings": {**arguments.settings(), "rows_per_shard": inputs.source.rows_per_shard},
    }


def encode_share(
    arguments: EncodeArguments, work: WorkFolder, state: PartialState, opened: list[Inputs]
) -> None:
    """Encode with the other processes; the main one reports, waits for the rest and puts it together."""
    if not work.plan_path.is_file():
        raise ValueError(
            f"process {state.process_index} does not see {str(work.folder)!r}: "
            "output_dir must lie on storage that all machines share"
        )
    clips_before = sum(record.clips for record in work.records())
    watch = ProcessWatch(work.processes, state.num_processes)
    last_line = time.monotonic()

    def report() -> None:
        nonlocal last_line
        if state.is_main_process and time.monotonic() - last_line > arguments.log_seconds:
            last_line = time.monotonic()
            print(progress_line(watch.look(), clips_before, inputs.source.num_rows), flush=True)

    with Heartbeat(work.processes, state.process_index) as heartbeat:
        inputs = opened[0] if opened else Inputs.open(arguments)
        if clips_before and state.is_main_process:
            print(
                f"going on: {work.finished_units()} of {inputs.source.num_units} units are there", flush=True
            )
        encoder = PosteriorEncoder(
            inputs.vae, state.device, arguments.mixed_precision, arguments.tile_seconds
        )
        worker = Worker(
            arguments, inputs.source, inputs.columns, encoder, work, heartbeat.begin_work(), after_clip=report
        )
        worker.run()
        if not state.is_main_process:
            return
        wait_for_others(work, inputs.source.num_units, watch, report)
        worker.judge_failures()
    print(progress_line(watch.look(), clips_before, inputs.source.num_rows), flush=True)
    complete(arguments, inputs, work)


def wait_for_others(
    work: WorkFolder, num_units: int, watch: ProcessWatch, report: Callable[[], None]
) -> None:
    """Until every unit is finished and every other process done; `ProcessLost` when that will not come."""
    idle_since = None
    while True:
        report()
        others_done = all(progress.state == "done" for progress in watch.look()[1:])
        missing = num_units - work.finished_units()
        if others_done and not missing:
            return
        if others_done:
            idle_since = idle_since or time.monotonic()
            if time.monotonic() - idle_since > watch.lost_after:
                raise ProcessLost(f"every process is done, but {missing} of {num_units} units are missing")
        time.sleep(0.2)


def complete(arguments: EncodeArguments, inputs: Inputs, work: WorkFolder) -> None:
    """Sum the parts' statistics, describe the dataset, and give it its name."""
    records, layout = list(work.records()), latent_layout(inputs.vae)
    statistics = total_statistics(records, layout.latent_channels)
    if not statistics.num_frames:
        raise ValueError(f"source {arguments.source!r} gave no clip to encode")
    local = Path(arguments.source).expanduser()
    info = LatentInfo(
        latent_channels=layout.latent_channels,
        frame_rate=layout.sampling_rate / layout.hop_length,
        sampling_rate=layout.sampling_rate,
        hop_length=layout.hop_length,
        latents_mean=statistics.mean().tolist(),
        latents_std=statistics.std().tolist(),
        num_rows=sum(record.num_rows for record in records),
        num_frames=statistics.num_frames,
        source=local.name if local.exists() else arguments.source,
        num_failures=sum(len(record.failures) for record in records),
        posterior=posterior_kind(inputs.vae),
        **work.plan(),
    )
    work.complete(info)


def statistics_target(arguments: EncodeArguments) -> Path | None:
    """The config.json that statistics are to be written to; `ValueError` when it cannot take them."""
    if not arguments.write_statistics_to_vae:
        return None
    path = Path(resolve_export(arguments.vae)) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "latents_mean" not in config:
        raise ValueError(
            f"write_statistics_to_vae needs a local folder of an AutoencoderStar, got vae {arguments.vae!r}"
        )
    return path


def write_statistics(path: Path, info: LatentInfo) -> None:
    """Add `latents_mean` and `latents_std` to the config.json of an AutoencoderStar."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(latents_mean=info.latents_mean, latents_std=info.latents_std)
    write_file(path, lambda temporary: temporary.write_text(json.dumps(config, indent=2) + "\n", "utf-8"))
    print(f"statistics written to {path}", flush=True)


def main(argv: list[str] | None = None) -> None:
    try:
        encode(parse_arguments(EncodeArguments, argv))
    except ValueError as error:
        fail(str(error))
    except (OSError, TooManyBadFiles, ProcessLost) as error:
        fail(f"{error}\n{CONTINUE}")
    except torch.OutOfMemoryError as error:
        fail(f"{str(error).splitlines()[0]}\nwith a smaller --batch_size or --tile_seconds, {CONTINUE}")


def stop(signal_number: int, frame: object) -> None:
    """End with a message; for signals."""
    raise SystemExit(f"error: ended by signal {signal_number}; {CONTINUE}")


if __name__ == "__main__":
    # what a launcher sends when another process is gone
    signal.signal(signal.SIGTERM, stop)
    main()
