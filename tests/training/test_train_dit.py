"""train_dit.py: Stable Audio's transformer on latents, from training to diffusers' own pipeline."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableAudioPipeline
from transformers import T5Config, T5EncoderModel


@pytest.fixture(scope="module")
def latents(exported_autoencoder, recordings, tmp_path_factory):
    import encode_latents

    folder = tmp_path_factory.mktemp("latents") / "latents"
    options = {"vae": exported_autoencoder, "source": recordings, "output_dir": folder}
    encode_latents.main([text for key, value in options.items() for text in (f"--{key}", str(value))])
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A tiny T5 encoder with a tokenizer that pads on the right, as T5's does."""
    from star_hf.generation.tokenizer import train_tokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = train_tokenizer(["a low tone", "a high tone", "white noise"], 280)
    tokenizer.padding_side = "right"
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    T5EncoderModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


TINY = "{num_layers: 1, attention_head_dim: 8, num_attention_heads: 2, num_key_value_attention_heads: 2, "
TINY += "cross_attention_dim: 8, time_proj_dim: 8}"


@pytest.fixture
def options(exported_autoencoder, latents, t5, tmp_path):
    """Command line of a three-step run; later options win."""

    def make(*more):
        own = {
            "output_dir": tmp_path / "dit",
            "vae": exported_autoencoder,
            "data.source": latents,
            "data.batch_size": 4,
            "data.validation_fraction": 0.2,
            "text_encoder": t5,
            "max_text_tokens": 6,
            "conditioning_dim": 8,
            "transformer": TINY,
            "max_steps": 3,
            "log_every": 1,
            "validate_every": 2,
            "save_every": 2,
            "threads": 1,
            "report_to": "[]",
            "report.num_inference_steps": 2,
        }
        return [text for key, value in own.items() for text in (f"--{key}", str(value))] + list(more)

    return make


@pytest.fixture
def make_task(options):
    def make(*more):
        import train_dit
        from engine.arguments import parse_arguments

        torch.manual_seed(0)
        arguments = parse_arguments(train_dit.DiTArguments, options(*more))
        arguments.check()
        return train_dit.DiTTask(arguments, SimpleNamespace(say=lambda line: None))

    return make


@pytest.fixture(params=["rectified_flow", "v"])
def objective(request):
    from star_hf.generation.dit import OBJECTIVES

    return OBJECTIVES[request.param]


def test_the_target_is_what_leads_back_to_the_latents(objective):
    """With the target in place of a prediction every scheduler step must land on the path, and end at z."""
    torch.manual_seed(1)
    latents = torch.randn(1, 2, 50, dtype=torch.float64)
    scheduler = objective.scheduler()
    scheduler.set_timesteps(60)
    sample = torch.randn(latents.shape, dtype=torch.float64) * scheduler.init_noise_sigma
    grid = torch.linspace(1e-4, 1 - 1e-4, 20001, dtype=torch.float64)
    for timestep in scheduler.timesteps:
        t = grid[(objective.timestep(grid) - timestep).abs().argmin()][None]
        seen = scheduler.scale_model_input(sample, timestep)
        # the noise that this point on the path would have been made of
        zero, one = torch.zeros_like(latents), torch.ones_like(latents)
        of_latents, of_noise = objective.point(zero, one, t), objective.point(one, zero, t)
        noise = (seen - of_latents * latents) / of_noise
        torch.testing.assert_close(objective.point(noise, latents, t), seen)
        sample = scheduler.step(objective.target(noise, latents, t), timestep, sample).prev_sample
    assert (sample - latents).abs().max() < 0.01


def test_the_target_is_the_derivative_of_the_path(objective):
    noise, latents = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    step = 1e-6
    towards_noise = objective.point(noise, latents, t - step) - objective.point(noise, latents, t + step)
    speed = {"RectifiedFlow": 1.0, "VPrediction": torch.pi / 2}[type(objective).__name__]
    expected = objective.target(noise, latents, t) * speed
    torch.testing.assert_close(towards_noise / (2 * step), expected, atol=1e-8, rtol=0)


def test_timesteps_are_finite_at_both_ends(objective):
    timesteps = objective.timestep(torch.tensor([0.0, 0.5, 1.0]))
    assert torch.isfinite(timesteps).all() and bool((timesteps.diff() < 0).all())


@pytest.mark.parametrize(("objective", "spread"), [("rectified_flow", 1000.0), ("v", 1.0)])
def test_the_transformer_hears_times_of_its_own_range(make_task, objective, spread):
    """Its random frequencies must neither alias over the scheduler's timesteps nor see all of them as one."""
    task = make_task(
        "--objective", objective, "--transformer", TINY.replace("time_proj_dim: 8", "time_proj_dim: 512")
    )
    weight = task.modules["dit"].transformer.time_proj.weight
    assert float(weight.std()) * spread == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("prompt", ["a low tone", ""])
def test_training_asks_the_transformer_as_the_pipeline_does(make_task, prompt):
    task = make_task()
    pipeline = task._pipeline(torch.device("cpu"))
    seen = {}

    def record(name):
        def hook(module, args, kwargs):
            seen[name] = {"latents": args[0], "timestep": args[1], **kwargs}

        return hook

    model = task.modules["dit"].eval()
    handle = model.transformer.register_forward_pre_hook(record("pipeline"), with_kwargs=True)
    seconds = 0.3
    # guidance_scale above 1: the first row is the unconditional branch
    pipeline("a low tone", audio_end_in_s=seconds, num_inference_steps=1, guidance_scale=2.0)
    handle.remove()
    handle = model.transformer.register_forward_pre_hook(record("training"), with_kwargs=True)
    row = 1 if prompt else 0
    batch = {"latents": seen["pipeline"]["latents"][row : row + 1], "timestep": seen["pipeline"]["timestep"]}
    input_ids, attention_mask = task.tokenize([prompt])
    with torch.no_grad():
        text = task.text_encoder(input_ids, attention_mask).last_hidden_state
        model(
            batch["latents"],
            batch["timestep"],
            text,
            attention_mask,
            torch.tensor([seconds]),
            torch.tensor([bool(prompt)]),
        )
    handle.remove()
    for name in ("encoder_hidden_states", "global_hidden_states"):
        torch.testing.assert_close(seen["training"][name][0], seen["pipeline"][name][row])
    for own, other in zip(
        seen["training"]["rotary_embedding"], seen["pipeline"]["rotary_embedding"], strict=True
    ):
        torch.testing.assert_close(own, other)


def test_clips_are_followed_by_silence(make_task, exported_autoencoder):
    task = make_task()
    batch = next(iter(task.batches(0, 0, 1)))
    short = {
        **batch,
        "latents": batch["latents"][:, :60].clone(),
        "audio_mask": batch["audio_mask"][:, :60].clone(),
    }
    short["audio_mask"][1, 40:] = False
    windows = task.windows(short)
    assert windows.shape == (4, 100, 8) and task.sample_size == 100
    assert torch.equal(windows[0, :60], short["latents"][0]) and torch.equal(
        windows[0, 60:], task.silence[60:]
    )
    assert torch.equal(windows[1, :40], short["latents"][1, :40])
    assert torch.equal(windows[1, 40:], task.silence[40:])
    with torch.no_grad():
        zeros = task.vae.encode(torch.zeros(1, 2, 3200)).latent_dist.mean[0].T
    torch.testing.assert_close(task.silence, zeros)


def test_latents_are_learned_as_they_are(make_task):
    task = make_task("--data.caption_dropout", "0")
    item = task.data.training[3, 1]
    row = task.data.training.rows[1]
    mean, std = (
        torch.frombuffer(bytearray(row[name]), dtype=torch.float16).reshape(8, -1).T
        for name in ("mean", "std")
    )
    assert float(((item["latents"] - mean) / std).abs().max()) < 6


def test_two_processes_have_the_loss_of_one(make_task):
    whole, halves = make_task("--data.batch_size", "4"), make_task("--data.batch_size", "2")
    batch = next(iter(whole.batches(4, 0, 1)))
    shares = [next(iter(halves.batches(4, rank, 2))) for rank in (0, 1)]
    with torch.no_grad():
        loss = whole.compute(whole.modules, batch, 0).losses["rectified_flow"]
        parts = [halves.compute(halves.modules, part, 0).losses["rectified_flow"] for part in shares]
    assert [whole.weight(batch), *map(halves.weight, shares)] == [400, 200, 200]
    torch.testing.assert_close(sum(parts) / 2, loss, rtol=1e-4, atol=0)


def test_gradient_checkpointing_changes_nothing(make_task):
    plain, checkpointed = make_task(), make_task("--gradient_checkpointing")
    assert checkpointed.modules["dit"].transformer.gradient_checkpointing
    batch = next(iter(plain.batches(0, 0, 1)))
    for task in (plain, checkpointed):
        task.compute(task.modules, batch, 0).losses["rectified_flow"].backward()
    for (name, first), (_, second) in zip(
        plain.modules["dit"].named_parameters(), checkpointed.modules["dit"].named_parameters(), strict=True
    ):
        assert (first.grad is None) == (second.grad is None) == (name == "transformer.time_proj.weight")
        if first.grad is not None:
            torch.testing.assert_close(second.grad, first.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("objective", ["rectified_flow", "v"])
def test_from_latents_to_diffusers_own_pipeline(options, tmp_path, objective):
    import train_dit

    train_dit.main(options("--objective", objective, "--report_every", "2", "--mixed_precision", "bf16"))
    metrics = [json.loads(line) for line in (tmp_path / "dit" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line[f"loss/{objective}"] < 10 for line in metrics if f"loss/{objective}" in line)
    assert any(f"validation/{objective}" in line for line in metrics)
    assert list((tmp_path / "dit" / "reports").rglob("*.wav"))

    export = tmp_path / "dit" / "export"
    assert str(tmp_path) not in "".join(path.read_text() for path in export.rglob("*.json"))
    pipeline = StableAudioPipeline.from_pretrained(export)
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.vae).__name__ == "AutoencoderStar"
    assert pipeline.tokenizer.model_max_length == 6

    def generate(**arguments):
        generator = torch.Generator().manual_seed(0)
        return pipeline("a low tone", num_inference_steps=3, generator=generator, **arguments).audios

    audio = generate()
    assert audio.shape == (1, 2, 3200) and torch.isfinite(audio).all() and audio.std() > 0
    assert generate(audio_end_in_s=0.1).shape == (1, 2, 800)


def test_straight_from_audio(options, recordings, tmp_path):
    import train_dit

    audio = ["--data.source", "", "--data.audio.source", str(recordings), "--data.audio.batch_size", "3"]
    train_dit.main(options(*audio, "--data.audio.max_seconds", "0.2", "--max_steps", "2"))
    pipeline = StableAudioPipeline.from_pretrained(tmp_path / "dit" / "export")
    assert pipeline.transformer.config.sample_size == 50


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--objective", "epsilon"], "objective must be one of rectified_flow, v, got 'epsilon'"),
        (["--transformer", "{layers: 2}"], "unknown key 'transformer.layers'"),
        (["--transformer", "{sample_size: 2}"], "unknown key 'transformer.sample_size'"),
        (["--data.source", "", "--data.audio.source", "somewhere"], "data.audio.max_seconds is missing"),
        (["--report.seconds", "2"], "report.seconds must be at most 0.4"),
    ],
)
def test_options_that_cannot_be_trained_with_are_refused(make_task, more, message):
    with pytest.raises(ValueError, match=message):
        make_task(*more)


@pytest.mark.parametrize("recipe", ["dit", "dit_v", "dit_small"])
def test_recipes_are_complete(recipe):
    import train_dit
    from engine.arguments import parse_arguments

    path = Path(train_dit.__file__).parent / "recipes" / f"{recipe}.yaml"
    parse_arguments(train_dit.DiTArguments, ["--config", str(path)]).check()
