"""The loop itself, on a line fitted to points: skipped steps, the best model, full disks, accumulation."""

import json
import math
import resource
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file, save_file
from torch import nn

from engine.checkpoints import CheckpointError
from engine.guard import FiniteGuard, TooManySkippedSteps
from engine.run_setup import TrainingArguments, make_accelerator, open_log
from engine.task import StepOutput, Task
from engine.trainer import Trainer
from star_hf.data import BadFiles

BALLAST = 50_000


class LineTask(Task):
    """y = 3x fitted by one weight; `spoil` gives the steps whose loss is not a number."""

    def __init__(self, spoil=(), values=()):
        self.modules = {"line": nn.Linear(1, 1, bias=False)}
        nn.init.zeros_(self.modules["line"].weight)
        self.modules["line"].register_buffer("ballast", torch.zeros(BALLAST))
        self.loss_weights = {"square": 1.0}
        self.bad_files = BadFiles(None)
        self.best_metric = "error"
        self.batch_size = 4
        self.spoil, self.values, self.exported = set(spoil), iter(values), []

    def batches(self, start, rank, world_size, position=None):
        while True:
            x = torch.randn(self.batch_size, 1, generator=torch.Generator().manual_seed(start + rank))
            yield {"x": x}
            start += self.batch_size * world_size

    def compute(self, modules, batch, step):
        loss = (modules["line"](batch["x"]) - 3 * batch["x"]).square().mean()
        return StepOutput({"square": loss * math.nan if step in self.spoil else loss}, audio_seconds=1.0)

    def validate(self, device):
        return {"error": next(self.values, 9.0)}

    def export(self, folder):
        save_file({"weight": self.modules["line"].weight.detach().clone()}, folder / "weight.safetensors")


@pytest.fixture
def train(tmp_path):
    """Run the trainer on a task, with options; returns the run's folder and the trainer."""

    def run(task, name="run", **options):
        settings = {"max_steps": 6, "log_every": 2, "save_every": 100, "report_to": [], "threads": 1}
        arguments = TrainingArguments(output_dir=str(tmp_path / name), **{**settings, **options})
        arguments.optimizer.learning_rate, arguments.optimizer.warmup_steps = 0.1, 0
        accelerator = make_accelerator(arguments)
        trainer = Trainer(arguments, task, accelerator, open_log(arguments, accelerator))
        trainer.run()
        return SimpleNamespace(folder=tmp_path / name, trainer=trainer)

    return run


def weight(run):
    return float(load_file(run.folder / "export" / "weight.safetensors")["weight"])


def test_a_step_that_is_not_finite_is_skipped_and_counted(train):
    spoiled = LineTask(spoil=[1, 4])
    run = train(spoiled)
    assert math.isfinite(weight(run)) and weight(run) > 0
    assert run.trainer.guard.total == 2
    assert run.trainer.players["line"].updates == 4
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped_steps"] for line in lines if "skipped_steps" in line] == [1, 1, 2]
    assert all(math.isfinite(line["loss/square"]) for line in lines if "loss/square" in line)


def test_a_gradient_that_is_not_finite_is_skipped_too(train):
    task = LineTask()
    compute = task.compute

    def explode(modules, batch, step):
        output = compute(modules, batch, step)
        if step == 2:
            output.losses["square"].register_hook(lambda gradient: gradient * math.inf)
        return output

    task.compute = explode
    run = train(task)
    assert math.isfinite(weight(run)) and run.trainer.guard.total == 1


def test_too_many_skipped_steps_in_a_row_stop_the_run_with_advice(train):
    with pytest.raises(FloatingPointError, match="3 steps in a row .* the last one step 4 .*learning rate"):
        train(LineTask(spoil=[0, 2, 3, 4]), max_skipped_steps=3)


@pytest.mark.parametrize(
    ("values", "named", "weights"),
    [
        (
            {"loss": math.nan, "stft": 1.0, "kl": math.inf, "grad_norm": 1.0},
            "(--optimizer",
            " of kl in `losses`",
        ),
        ({"loss": math.nan, "discriminator": math.nan}, "(--adversarial.optimizer.learning_rate)", None),
    ],
)
def test_the_advice_names_what_can_be_changed(values, named, weights):
    with pytest.raises(TooManySkippedSteps) as error:
        FiniteGuard(1).skipped(3, values)
    assert named in str(error.value)
    assert ("a smaller weight" in str(error.value)) == (weights is not None)
    assert weights is None or str(error.value).endswith(weights)


def test_the_smallest_validation_value_is_kept(train):
    task = LineTask(values=[5.0, 2.0, 4.0])
    run = train(task, validate_every=2, max_steps=6)
    assert run.trainer.evaluator.best == 2.0
    best = float(load_file(run.folder / "best" / "weight.safetensors")["weight"])
    assert 0 < best < weight(run)


def test_a_value_that_is_not_finite_is_never_the_best(train):
    run = train(LineTask(values=[math.nan, 7.0]), validate_every=3, max_steps=6)
    assert run.trainer.evaluator.best == 7.0


def test_two_batches_weigh_as_much_as_they_hold(train):
    # a gradient over batches of 4 and 12 samples is the gradient over all 16
    x = torch.randn(16, 1, generator=torch.Generator().manual_seed(0))

    class Uneven(LineTask):
        def batches(self, start, rank, world_size, position=None):
            yield {"x": x[:4]}
            yield {"x": x[4:]}

        def weight(self, batch):
            return len(batch["x"])

    class Whole(LineTask):
        def batches(self, start, rank, world_size, position=None):
            yield {"x": x}

    norms = []
    for task, accumulation in ((Uneven(), 2), (Whole(), 1)):
        run = train(task, f"run{accumulation}", max_steps=1, log_every=1, gradient_accumulation=accumulation)
        reset_accelerate()
        line = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0])
        norms.append((line["grad_norm"], line["loss"]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def reset_accelerate():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def test_a_full_disk_loses_nothing_and_the_run_goes_on(train, tmp_path):
    class Filling(LineTask):
        """In steps 3 and 4 there is room for the log, but not for a checkpoint."""

        def compute(self, modules, batch, step):
            if step in (3, 5):
                resource.setrlimit(resource.RLIMIT_FSIZE, (BALLAST if step == 3 else limit[0], limit[1]))
            return super().compute(modules, batch, step)

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        run = train(Filling(), max_steps=6, save_every=2, keep_last=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    names = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert names == ["step_00000002", "step_00000006"]
    assert "warning: cannot write checkpoint" in (run.folder / "train.log").read_text()


def test_at_the_end_a_full_disk_is_an_error_that_keeps_what_was_there(train, tmp_path):
    class Filling(LineTask):
        def compute(self, modules, batch, step):
            if step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (BALLAST, limit[1]))
            return super().compute(modules, batch, step)

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CheckpointError, match="step_00000004"):
            train(Filling(), max_steps=4, save_every=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    folder = tmp_path / "run"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_00000002"]
    assert (folder / "export" / "weight.safetensors").stat().st_size > 0
