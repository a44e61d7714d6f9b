"""Settings of what is asked of the latents beside the regularizer; each is switched on by its loss weight."""

from dataclasses import dataclass

from engine.arguments import option


@dataclass
class LatentNoiseArguments:
    scale: float = option(0.0, "noise on the latents in training, in units of their running std (SAME: 5e-2)")
    inference_scale: float = option(0.0, "noise that the exported model adds when decoding (SAME: 1e-3)")


@dataclass
class SemanticArguments:
    teacher: str | None = option(
        None, "a transformers audio encoder, folder or Hub name: WavLM, AST, CLAP, …"
    )
    layer: int = option(-1, "hidden layer of the teacher to align with")
    form: str = option("cosine", "cosine; l1 and mse for comparison")
    frame_weight: float = option(1.0, "weight of the frame-wise term")
    self_similarity_weight: float = option(1.0, "weight of the pairwise self-similarity term")
    gradient_fraction: float | None = option(
        0.5,
        "its gradient's norm at the latents, as a share of the reconstruction's; null: the loss weight alone",
    )


@dataclass
class RegressorArguments:
    chroma_octaves: list[float] = option(
        [1.0, 5.0, 9.0], "octaves at which the chroma filter banks are centred"
    )
    chroma_weights: list[float] = option([0.035, 0.05, 0.2], "weights of these")
    level_difference_weight: float = option(0.1, "weight of the interaural level difference; 0 for mono")


@dataclass
class ContrastiveArguments:
    text_encoder: str | None = option(
        None, "a transformers text encoder, folder or Hub name: T5, BERT, CLAP, …"
    )
    hidden_size: int = option(256, "width of the critic")


@dataclass
class FlowProbeArguments:
    hidden_size: int = option(256, "width of the probe")
    num_layers: int = option(4, "layers of the probe")
    num_heads: int = option(4, "attention heads of the probe")
    detach_steps: int = option(10_000, "its gradients reach the encoder after so many steps")
