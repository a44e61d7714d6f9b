"""The configuration files of `accelerate launch`, and what the back ends are told."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from torch import nn

from engine.backends import Backend
from star_hf.losses import MultiScaleSTFTDiscriminator

CONFIGS = Path(__file__).parents[2] / "training" / "accelerate"
LAUNCHERS = {
    "ddp.yaml": "multi_gpu",
    "cpu_gloo.yaml": "multi_gpu",
    "fsdp2.yaml": "use_fsdp",
    "deepspeed_zero2.yaml": "use_deepspeed",
}


def parse(name, *more):
    command = ["--config_file", str(CONFIGS / name), *more, "script.py"]
    return _validate_launch_command(launch_command_parser().parse_args(command))[0]


def environment(name, *more):
    """What the launcher tells the processes."""
    arguments = parse(name, "--num_processes", "8", "--main_process_port", "0", *more)
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ""
        return arguments, prepare_deepspeed_cmd_env(arguments)[1]
    return arguments, prepare_multi_gpu_env(arguments)


def test_every_file_is_tested():
    assert {path.name for path in CONFIGS.iterdir()} == set(LAUNCHERS)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_accelerate_launch_takes_the_file(name):
    load_config_from_file(str(CONFIGS / name))
    arguments = parse(name, "--num_processes", "8")
    chosen = [kind for kind in ("multi_gpu", "use_fsdp", "use_deepspeed") if getattr(arguments, kind)]
    assert chosen == [LAUNCHERS[name]] and not arguments.cpu
    assert arguments.num_processes == 8
    assert arguments.mixed_precision == ("no" if name == "cpu_gloo.yaml" else "bf16")
    with pytest.raises(ValueError, match="num_processes"):
        parse(name)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_eight_machines_of_eight(name):
    several = ["--num_machines", "8", "--machine_rank", "3", "--main_process_ip", "first", "--num_processes"]
    arguments, _ = environment(name, *several, "64", "--main_process_port", "29501")
    assert (arguments.nproc_per_node, arguments.nnodes, str(arguments.node_rank)) == ("8", "8", "3")
    assert arguments.rdzv_endpoint == "first:29501"


def test_fsdp2_is_configured_as_the_file_says(monkeypatch):
    for key, value in environment("fsdp2.yaml")[1].items():
        if key.startswith("FSDP"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "SHARDED_STATE_DICT"
    # else the processes but the first would have no weights to copy, evaluate and export
    assert plugin.cpu_ram_efficient_loading is False


def accelerator(kind, plugin, precision="bf16", fsdp2=True):
    state = SimpleNamespace(fsdp_plugin=plugin, deepspeed_plugin=plugin)
    return SimpleNamespace(
        distributed_type=kind,
        mixed_precision=precision,
        state=state,
        is_fsdp2=fsdp2,
        device=torch.device("cpu"),
    )


def deepspeed_plugin(monkeypatch, *more):
    for key, value in environment("deepspeed_zero2.yaml", *more)[1].items():
        if key.startswith("ACCELERATE"):
            monkeypatch.setenv(key, value)
    return DeepSpeedPlugin()


def test_deepspeed_gets_the_settings_of_the_recipe(monkeypatch):
    plugin = deepspeed_plugin(monkeypatch)
    plugin.set_mixed_precision("bf16")
    Backend(accelerator(DistributedType.DEEPSPEED, plugin), 1, batch_size=16, max_grad_norm=0.5)
    config = plugin.deepspeed_config
    assert config["zero_optimization"]["stage"] == 2
    assert config["train_micro_batch_size_per_gpu"] == 16 and config["gradient_clipping"] == 0.5
    assert config["gradient_accumulation_steps"] == "auto"  # which accelerate replaces by the recipe's
    assert config["bf16"] == {"enabled": False}  # autocast instead: the weights stay float32


def test_what_a_back_end_cannot_train_is_refused(monkeypatch):
    plugin = deepspeed_plugin(monkeypatch)
    deepspeed = accelerator(DistributedType.DEEPSPEED, plugin)
    with pytest.raises(ValueError, match="DeepSpeed trains one module"):
        Backend(deepspeed, 2, 16, 1.0)
    third = SimpleNamespace(zero_stage=3)
    with pytest.raises(ValueError, match="zero_stage must be at most 2, got 3"):
        Backend(accelerator(DistributedType.DEEPSPEED, third), 1, 16, 1.0)
    with pytest.raises(ValueError, match="mixed_precision 'fp16' works on one GPU or under DDP"):
        Backend(accelerator(DistributedType.FSDP, None, "fp16"), 1, 16, 1.0)
    with pytest.raises(ValueError, match="fsdp_version must be 2"):
        Backend(accelerator(DistributedType.FSDP, None, fsdp2=False), 1, 16, 1.0)


def test_weights_are_gathered_by_the_blocks_that_the_models_name(tiny_autoencoder, tiny_generator):
    plugin = SimpleNamespace()
    backend = Backend(accelerator(DistributedType.FSDP, plugin), 2, 16, 1.0)
    discriminator = MultiScaleSTFTDiscriminator(fft_sizes=[64], filters=2)
    for module, blocks in (
        (nn.ModuleDict({"vae": tiny_autoencoder}), ["OobleckDecoderBlock", "OobleckEncoderBlock"]),
        (discriminator, []),
        (tiny_generator, ["Qwen3DecoderLayer"]),
    ):
        copied = backend.to_train(module)
        assert plugin.transformer_cls_names_to_wrap == blocks
        assert plugin.mixed_precision_policy.param_dtype is None  # float32 as under DDP
        assert copied is not module
        assert all(a is not b for a, b in zip(copied.parameters(), module.parameters(), strict=True))


def test_a_sharded_module_runs_under_autocast_and_returns_float32():
    backend = Backend(accelerator(DistributedType.FSDP, SimpleNamespace()), 1, 16, 1.0)

    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            self.seen = self.linear(x)
            return self.seen

    module = backend.to_train(Probe())
    output = module(torch.randn(2, 4))
    assert module.seen.dtype == torch.bfloat16 and output.dtype == torch.float32
    assert module.linear.weight.dtype == torch.float32


def test_without_sharding_the_module_itself_is_trained():
    module = nn.Linear(2, 2)
    assert Backend(accelerator(DistributedType.MULTI_GPU, None), 1, 16, 1.0).to_train(module) is module
