"""What FSDP2 and DeepSpeed are told so that they train as DDP does: float32 weights, autocast, clipping."""

import copy

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, convert_outputs_to_fp32
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

AUTOCAST = {"no": None, "bf16": torch.bfloat16}


class Backend:
    """Prepares modules for the back end that accelerate was launched with.

    FSDP2 and DeepSpeed train a copy of a module, since its weights cannot be evaluated where they are
    (`separate`). Both would cast weights and waveforms to bfloat16 by themselves; here the weights and what
    is exchanged stay float32 and the forward pass runs under autocast, so that a recipe gives the same model
    whatever it is launched with.

    Args:
        accelerator: of this run.
        num_modules: how many modules are trained.
        batch_size: samples in a batch of one process.
        max_grad_norm: gradients are clipped to this norm; 0 for no clipping.
    """

    def __init__(
        self, accelerator: Accelerator, num_modules: int, batch_size: int, max_grad_norm: float
    ) -> None:
        self.accelerator = accelerator
        self.deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        self.separate = self.deepspeed or accelerator.distributed_type == DistributedType.FSDP
        if not self.separate:
            return
        if accelerator.mixed_precision not in AUTOCAST:
            raise ValueError(
                f"mixed_precision {accelerator.mixed_precision!r} works on one GPU or under DDP; FSDP2 and "
                f"DeepSpeed take {' or '.join(AUTOCAST)}"
            )
        self.autocast = AUTOCAST[accelerator.mixed_precision]
        if self.deepspeed:
            plugin = accelerator.state.deepspeed_plugin
            _check_deepspeed(plugin.zero_stage, num_modules)
            plugin.deepspeed_config |= {
                "bf16": {"enabled": False},
                "gradient_clipping": max_grad_norm,
                "train_micro_batch_size_per_gpu": batch_size,
            }
        elif not accelerator.is_fsdp2:
            raise ValueError("fsdp_version must be 2, as in training/accelerate/fsdp2.yaml")

    def to_train(self, module: nn.Module) -> nn.Module:
        """What accelerate is to prepare next: `module` itself, or a copy that the back end may take apart."""
        if not self.separate:
            return module
        module = copy.deepcopy(module)
        if self.autocast is not None:
            autocast = torch.autocast(self.accelerator.device.type, self.autocast)
            module.forward = convert_outputs_to_fp32(autocast(module.forward))
        if not self.deepspeed:
            self._shard_by_block(module)
        return module

    def _shard_by_block(self, module: nn.Module) -> None:
        """Have weights gathered block by block; which modules are blocks, the models inside `module` know."""
        children = list(module.modules())
        blocks = {name for child in children for name in getattr(child, "_no_split_modules", None) or ()}
        plugin = self.accelerator.state.fsdp_plugin
        plugin.auto_wrap_policy = transformer_auto_wrap_policy
        plugin.transformer_cls_names_to_wrap = sorted(blocks & {type(child).__name__ for child in children})
        plugin.mixed_precision_policy = MixedPrecisionPolicy()


def _check_deepspeed(stage: int, num_modules: int) -> None:
    if num_modules > 1:
        raise ValueError("DeepSpeed trains one module: train with a discriminator under DDP or FSDP2")
    if stage > 2:
        raise ValueError(
            f"zero_stage must be at most 2, got {stage}: to shard the weights, use "
            "training/accelerate/fsdp2.yaml"
        )
