"""Runs of two processes for the tests: how they are started, and what happens inside them."""

import json
import math
import multiprocessing
import os
import resource
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "training"))

from engine.arguments import option  # noqa: E402
from engine.run_setup import TrainingArguments  # noqa: E402
from engine.script import run_script  # noqa: E402
from engine.task import StepOutput, Task  # noqa: E402
from star_hf.data import BadFile, BadFiles  # noqa: E402

#: A server has the scripts imported and forks off the processes, which so cost no import of their own.
FORKS = multiprocessing.get_context("forkserver")
PRELOADED = [
    "distributed_runs",
    "train_autoencoder",
    "train_generator",
    "torch.distributed.checkpoint.state_dict",
]
MODULES = [str(ROOT / "training"), str(ROOT / "src"), str(Path(__file__).parent)]
#: Of every process of a run: on the CPU, through the loopback, with one thread.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "GLOO_SOCKET_IFNAME": "lo",
    "MASTER_ADDR": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
}


class Run:
    """`count` processes that form one run; each calls `target(*arguments)`."""

    def __init__(self, folder, count, target, *arguments):
        folder.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        self.outputs = [folder / f"output_{rank}.txt" for rank in range(count)]
        self.processes = [
            FORKS.Process(target=_member, args=(rank, count, port, output, target, arguments))
            for rank, output in enumerate(self.outputs)
        ]
        for process in self.processes:
            process.start()

    def wait(self, timeout=60):
        """The exit codes; whoever is late has hung."""
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        late = [rank for rank, process in enumerate(self.processes) if process.exitcode is None]
        for process in self.processes:
            process.kill()
            process.join()
        assert not late, f"processes {late} hang:\n{self.text()}"
        return [process.exitcode for process in self.processes]

    def text(self):
        return "\n".join(output.read_text() for output in self.outputs if output.exists())

    def succeed(self):
        assert self.wait() == [0] * len(self.processes), self.text()


def _free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _member(rank, count, port, output, target, arguments):
    os.environ.update(ENVIRONMENT)
    multiprocessing.set_start_method("fork", force=True)  # for those that read audio, as in a script
    os.setsid()  # as a launcher starts it, and tells it
    if count > 1:
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ.update({name: str(value) for name, value in {**own, "MASTER_PORT": port}.items()})
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    target(*arguments)


def script(name, argv):
    """Run a training script."""
    __import__(name).main(argv)


def sharded_script(environment, name, argv):
    """Run a training script under FSDP2, told so by a launcher's `environment`."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    os.environ.update(environment)
    # accelerate knows FSDP for GPUs alone
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    script(name, argv)


def watched_script(folder, name, argv):
    """Run a training script, and note what this process reads and writes."""
    from star_hf.data import crops

    reads, writes = [], []
    read_span = crops.read_span

    def read(clip, *arguments):
        reads.append(Path(clip).name if isinstance(clip, str) else str(hash(clip)))
        return read_span(clip, *arguments)

    def audit(event, arguments):
        written = event in ("os.mkdir", "os.rename", "os.remove")
        written &= event != "os.mkdir" or not os.path.exists(arguments[0])
        written |= event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if written and str(arguments[0]).startswith(f"{folder}{os.sep}"):
            writes.append(Path(str(arguments[0])).name)

    crops.read_span = read
    sys.addaudithook(audit)
    script(name, argv)
    rank = os.environ.get("RANK", 0)
    for what, names in (("reads", list(reads)), ("writes", list(writes))):
        (folder / f"{what}_{rank}.json").write_text(json.dumps(names))


@dataclass
class PointsArguments(TrainingArguments):
    fault: str = option("", "what goes wrong, and where")
    num_points: int = option(4, "points in a batch of one process")


class PointsTask(Task):
    """y = 3x fitted by one weight, while a fault happens on one of the processes at step 3."""

    best_metric = "error"

    def __init__(self, arguments, log):
        self.batch_size = arguments.num_points
        self.modules = {"line": nn.Linear(1, 1, bias=False)}
        nn.init.zeros_(self.modules["line"].weight)
        self.loss_weights = {"square": 1.0}
        self.bad_files = BadFiles(100, 0.05, report=log.say)
        self.rank, self.fault = int(os.environ.get("RANK", 0)), arguments.fault
        if self.fault == "fast clock on 1" and self.rank == 1:
            from engine import trainer

            clock = time.monotonic
            trainer.time.monotonic = lambda: 5 * clock()

    def happens(self, fault, step, rank=1):
        return (fault, rank, 3) == (self.fault, self.rank, step)

    def batches(self, start, rank, world_size, position=None):
        step = start // (self.batch_size * world_size)
        while True:
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(self.batch_size * world_size, 1, generator=generator)
            if self.fault == "uneven" and world_size == 2:
                x = x[:2] if rank == 0 else x[2:]
            else:
                x = x[rank::world_size]
            bad = {"a bad file on 1": 1, "many bad files on 1": 6}.get(self.fault, 0)
            bad = bad if rank == 1 and step == 3 else 0
            yield {"x": x, "failures": [BadFile(f"{number}.wav", "broken") for number in range(bad)]}
            step += 1

    def weight(self, batch):
        return len(batch["x"])

    def compute(self, modules, batch, step):
        if self.happens("an error on 1", step):
            raise ArithmeticError("only here")
        if self.happens("a full disk on 0", step, rank=0):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        if self.fault == "a full disk on 0" and step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if self.fault in ("slow", "fast clock on 1"):
            time.sleep(0.02)
        loss = (modules["line"](batch["x"]) - 3 * batch["x"]).square().mean()
        loss = loss * math.nan if self.happens("nan on 1", step) else loss
        return StepOutput({"square": loss}, audio_seconds=1.0)

    def validate(self, device):
        return {"error": 1.0}

    def export(self, folder):
        save_file({"weight": self.modules["line"].weight.detach().clone()}, folder / "weight.safetensors")


def points(argv):
    """Run the points' training script."""
    run_script(PointsArguments, PointsTask, argv)
