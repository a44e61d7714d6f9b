"""What a STAR-Gen training run is told."""

from dataclasses import dataclass
from typing import Any

from transformers import Qwen3Config

from engine.arguments import check_keywords, group, option
from engine.run_setup import TrainingArguments, check_loss_weights
from loaders.generator_data import LatentDataArguments
from star_hf.generation import StarGenConfig
from star_hf.generation.adapters import LINEAR_LAYERS
from tasks.velocity_task import ReportArguments, TimeArguments

LOSS = "flow"
MODES = ("full", "lora", "frozen")
EXPORT_DTYPES = ("float32", "float16", "bfloat16")
BACKBONE_DTYPES = ("float32", "bfloat16")
#: What StarGenConfig takes from the latents.
FROM_LATENTS = ("latents_mean", "latents_std", "frame_rate", "sampling_rate")


@dataclass
class LoraArguments:
    rank: int = option(16, "of the update of each matrix")
    alpha: float = option(32.0, "the update counts alpha / rank")
    dropout: float = option(0.0, "of the update's input")
    target_modules: list[str] = option(list(LINEAR_LAYERS), "layers of Qwen3 that get an update")


@dataclass
class GeneratorArguments(TrainingArguments):
    vae: str = option("", "autoencoder of the latents: a run's folder, a model's folder, or a Hub name")
    backbone: str | None = option(None, "pretrained Qwen3: a folder or a Hub name; default: from scratch")
    init_from: str | None = option(None, "StarGenPipeline to go on from: a run's folder or a Hub name")
    mode: str = option(
        "full", "what trains: full; lora: adapters on the backbone, head and projections; frozen: only these"
    )
    lora: LoraArguments = group(LoraArguments)
    backbone_dtype: str = option("float32", f"lora, frozen: of the backbone; {', '.join(BACKBONE_DTYPES)}")
    text_config: dict[str, Any] = option({}, "from scratch: what differs from Qwen3Config's defaults")
    model: dict[str, Any] = option({}, "what differs from StarGenConfig's defaults")
    tokenizer: str | None = option(
        None, "folder or Hub name; default: the backbone's, or one trained on captions"
    )
    vocab_size: int = option(1024, "largest size of a tokenizer trained on the captions")
    data: LatentDataArguments = group(LatentDataArguments)
    losses: dict[str, float] = option({LOSS: 1.0}, "weights")
    times: TimeArguments = group(TimeArguments)
    report: ReportArguments = group(ReportArguments)
    export_dtype: str = option("float32", f"of the exported weights: {', '.join(EXPORT_DTYPES)}")

    def check(self) -> None:
        super().check()
        check_loss_weights(self.losses, (LOSS,))
        check_keywords("text_config", self.text_config, Qwen3Config)
        check_keywords("model", self.model, StarGenConfig, ("text_config", "latent_channels", *FROM_LATENTS))
        for part in (self.data, self.times, self.report):
            part.check()
        if not self.vae:
            raise ValueError("vae is missing: the autoencoder of the latents")
        for name, allowed in (
            ("mode", MODES),
            ("backbone_dtype", BACKBONE_DTYPES),
            ("export_dtype", EXPORT_DTYPES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.backbone is not None and self.text_config:
            raise ValueError("a pretrained backbone brings its own text_config: leave it empty")
        if self.init_from is not None:
            for name in ("backbone", "text_config", "model", "tokenizer"):
                if getattr(self, name):
                    raise ValueError(f"init_from brings its own {name}: leave it empty")
        if self.mode != "full" and self.backbone is None and self.init_from is None:
            raise ValueError(f"mode {self.mode} needs trained weights: give `backbone` or `init_from`")
        if self.mode == "full" and self.backbone_dtype != "float32":
            raise ValueError("mode full trains the backbone in float32; for less use mixed_precision bf16")
