"""A dry run counts parameters and memory rightly, shows the data, and leaves nothing behind."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

SAMPLES = 512


def make_task(**attributes):
    """Channels 1 → 8 → 1, and a discriminator that plays every other step late in the run."""
    from engine.task import StepOutput, Task
    from star_hf.data import BadFile, BadFiles

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = nn.Sequential(nn.Linear(SAMPLES, 8), nn.ReLU(), nn.Linear(8, SAMPLES))

        def forward(self, waveform):
            return self.vae(waveform)

    class TinyTask(Task):
        batch_size = 4

        def __init__(self):
            torch.manual_seed(0)
            self.modules = {"autoencoder": Wrapper(), "discriminator": nn.Linear(SAMPLES, 3)}
            self.modules["autoencoder"].vae[0].bias.requires_grad_(False)
            self.loss_weights = {"waveform": 1.0, "discriminator": 1.0}
            self.bad_files = BadFiles(8)
            self.teacher = nn.Linear(5, 5).requires_grad_(False)
            self.steps = []

        def player(self, step):
            return "discriminator" if step > 10 and step % 2 else "autoencoder"

        def batches(self, start, rank, world_size, position=None):
            assert (start, rank, world_size, position) == (0, 0, 1, None)
            waveform = torch.zeros(4, 1, SAMPLES)
            waveform[0] = 1.0
            waveform[1] = 0.5
            yield {
                "waveform": waveform,
                "noise_seed": torch.arange(4),
                "text": ["a dog barks"] * 4,
                "failures": [BadFile("broken.wav", "is empty")],
                "position": {"row": 4},
            }

        def compute(self, modules, batch, step):
            self.steps.append((step, len(batch["waveform"]), len(batch["text"])))
            name = self.player(step)
            output = modules[name](batch["waveform"])
            return StepOutput({name: output.square().mean()}, len(output) * SAMPLES / 1024)

    task = TinyTask()
    for name, value in attributes.items():
        setattr(task, name, value)
    return task


def arguments(folder, **changes):
    from engine.run_setup import TrainingArguments

    return TrainingArguments(**{"output_dir": str(folder), "max_steps": 100, **changes})


def described(task, folder, **changes):
    from engine.dry_run import describe

    Accelerator(cpu=True)
    lines = []
    describe(arguments(folder, **changes), task, lines.append)
    return lines


def words(lines, beginning):
    (line,) = [line for line in lines if line.strip().startswith(beginning)]
    return line.split()


def peak_bytes(step):
    """The most that tensors took at a time while `step` ran, beyond what they took before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def test_it_tells_parameters_data_and_schedule(tmp_path):
    lines = described(make_task(), tmp_path / "run", gradient_accumulation=2)
    assert words(lines, "autoencoder")[1:3] == [f"{2 * 8 * SAMPLES + SAMPLES:,}", "8"]
    assert words(lines, "vae.0")[1:3] == [f"{8 * SAMPLES:,}", "8"]
    assert words(lines, "vae.2")[1:3] == [f"{8 * SAMPLES + SAMPLES:,}", "0"]
    assert words(lines, "discriminator")[1:3] == [f"{3 * SAMPLES + 3:,}", "0"]
    assert words(lines, "teacher")[1:3] == ["0", "30"]
    text = "\n".join(lines)
    assert "(4, 1, 512) float32" in text
    assert "peaks -inf to 0.0 dBFS, RMS -inf to 0.0 dBFS" in text
    assert text.count("'a dog barks'") == 3
    assert "broken.wav: is empty" in text
    assert "a step takes 8 samples, 4 s of audio" in text
    assert "100 steps, 7 min of audio, 100 epochs of 8 clips" in text
    assert not (tmp_path / "run").exists()


def test_every_player_is_measured_late_in_the_run(tmp_path):
    task = make_task()
    lines = described(task, tmp_path)
    assert sorted(task.steps) == [(98, 2, 2), (98, 3, 3), (99, 2, 2), (99, 3, 3)]
    assert [line.strip() for line in lines if "a step of" in line] == [
        "a step of autoencoder",
        "a step of discriminator",
    ]


def test_the_estimate_holds_what_a_training_step_takes(tmp_path):
    """Within a tenth of the peak that the profiler sees, for a batch whose activations are most of it."""
    from engine.dry_run import estimates
    from engine.memory import measure_activations

    batch_size = 64
    torch.manual_seed(0)
    layers = [nn.Conv1d(1, 16, 5, padding=2), nn.GELU(), nn.Conv1d(16, 32, 5, padding=2), nn.GELU()]
    module = nn.Sequential(*layers, nn.Conv1d(32, 1, 5, padding=2))
    task = make_task(modules={"autoencoder": module})
    waveform = torch.randn(batch_size, 1, SAMPLES)

    def loss(size):
        return module(waveform[:size].clone()).square().mean()

    activations = measure_activations(loss, batch_size, [module])
    (estimate,) = estimates(task, {"autoencoder": activations}).values()
    estimated = sum(estimate.values())

    def train():
        average = [parameter.detach().clone() for parameter in module.parameters()]
        optimizer = torch.optim.AdamW(module.parameters())
        for _ in range(2):
            loss(batch_size).backward()
            optimizer.step()
            optimizer.zero_grad()
        return average

    weights = sum(4 * parameter.numel() for parameter in module.parameters())
    measured = peak_bytes(train) + weights + sum(4 * p.numel() for p in task.teacher.parameters())
    assert 0.9 < estimated / measured < 1.1


def test_activations_have_their_closed_form():
    """A chain of linear layers keeps its inputs: one tensor between two layers, each once."""
    from engine.memory import measure_activations

    width, depth, batch_size = 32, 5, 7
    module = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])
    constant = torch.randn(1000)

    def forward(size):
        return module(torch.randn(size, width)).sum() + (torch.ones(1, requires_grad=True) * constant).sum()

    activations = measure_activations(forward, batch_size, [module])
    assert activations.kept - activations.fixed == batch_size * depth * width * 4
    assert activations.fixed == 4 * 1000
    assert activations.largest == 4 * 1000
    assert measure_activations(forward, 100, [module]).largest == max(4 * 1000, 100 * width * 4)


def test_checkpointed_layers_keep_only_their_inputs():
    from engine.memory import measure_activations

    width, depth = 16, 6
    layers = nn.ModuleList(
        [nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width)) for _ in range(depth)]
    )

    def forward(size):
        hidden = torch.randn(size, width, requires_grad=True)
        for layer in layers:
            hidden = checkpoint(layer, hidden, use_reentrant=False)
        return hidden.sum()

    assert measure_activations(forward, 3, [layers]).kept == 3 * depth * width * 4


def test_sixteen_bits_take_half_the_activations(tmp_path):
    from accelerate.state import AcceleratorState, GradientState

    from engine.dry_run import _measure

    kept = {}
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        Accelerator(cpu=True, mixed_precision=precision)
        layers = nn.Sequential(*[nn.Linear(SAMPLES, SAMPLES) for _ in range(8)])
        task = make_task(modules={"autoencoder": layers, "discriminator": nn.Linear(SAMPLES, 3)})
        batch = {"waveform": torch.randn(4, 1, SAMPLES), "text": ["x"] * 4}
        activations, seconds = _measure(arguments(tmp_path), task, batch)
        kept[precision] = activations["autoencoder"]
        assert seconds == 4 * SAMPLES / 1024
    per_sample = {name: (value.kept - value.fixed) / 4 for name, value in kept.items()}
    # the input of each layer, and the output in float32 for the loss
    assert per_sample["no"] == 9 * SAMPLES * 4
    assert per_sample["bf16"] == 8 * SAMPLES * 2 + SAMPLES * 4
    # weights rounded to bf16, but for those of the first layer, whose input needs no gradient
    assert kept["bf16"].fixed == 7 * SAMPLES * SAMPLES * 2
    assert kept["no"].fixed == 0


def test_an_autoencoder_run_is_described_and_leaves_no_files(autoencoder_options, tmp_path, capsys):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options("--dry_run", "true"))
    shown = capsys.readouterr().out
    assert "vae.encoder" in shown and "a step of autoencoder" in shown
    assert "(2, 2, 2048) float32" in shown
    assert "a step takes 2 samples, 0.512 s of audio" in shown
    assert not (tmp_path / "autoencoder").exists()


def test_a_generator_run_is_described_with_its_captions(encode_options, generator_options, tmp_path, capsys):
    import encode_latents
    import train_generator

    encode_latents.main(encode_options())
    train_generator.main(generator_options("--dry_run", "true"))
    shown = capsys.readouterr().out
    assert "a step of" in shown and "latents" in shown
    assert any(f"    {caption!r}" in shown for caption in ("a low tone", "a high tone", "white noise"))
    assert not (tmp_path / "generator").exists()
