"""`star-hf info`: what a checkpoint is, read from its configuration and the headers of its weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from star_hf.cli.console import Reporter
from star_hf.cli.models import model_class, read_json
from star_hf.hub import EMBEDDED_NAME, resolve_model


@dataclass(frozen=True)
class Component:
    """A part of a checkpoint; `parameters` and `size_in_bytes` count its safetensors."""

    name: str
    class_name: str
    parameters: int
    size_in_bytes: int
    dtypes: tuple[str, ...]
    config: dict[str, Any]


def info(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Folder or Hub id.", show_default="embedded checkpoint"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the parameters, rates and components of a model."""
    summary = describe(resolve_model(model))
    reporter = Reporter(as_json)
    reporter.document({"model": model or EMBEDDED_NAME, **summary})
    reporter.result(_as_text(summary))


def describe(folder: Path) -> dict[str, Any]:
    """Facts about a pipeline, generator or autoencoder folder; what it does not say is None."""
    index = folder / "model_index.json"
    if index.is_file():
        entries = read_json(index)
        class_name = str(entries.get("_class_name"))
        components = [
            _component(folder / name, name, entry[1])
            for name, entry in entries.items()
            if isinstance(entry, list) and entry[1] is not None
        ]
    else:
        class_name = model_class(folder)
        components = [_component(folder, folder.name, class_name)]

    return {
        "class": class_name,
        "folder": str(folder),
        **_rates(components),
        "parameters": sum(component.parameters for component in components),
        "size_in_bytes": sum(component.size_in_bytes for component in components),
        "components": [
            {name: value for name, value in asdict(component).items() if name != "config"}
            for component in components
        ],
    }


def _component(folder: Path, name: str, class_name: str) -> Component:
    weights = [_read_header(file) for file in _weight_files(folder)]
    config = folder / "config.json"
    return Component(
        name=name,
        class_name=class_name,
        parameters=sum(parameters for parameters, _, _ in weights),
        size_in_bytes=sum(size for _, size, _ in weights),
        dtypes=tuple(sorted(set().union(*(dtypes for _, _, dtypes in weights)))),
        config=read_json(config) if config.is_file() else {},
    )


def _weight_files(folder: Path) -> list[Path]:
    """The files that make up one set of weights; a folder may hold variants such as `*.fp16.safetensors`."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        shards = read_json(index).get("weight_map", {}).values()
        return [folder / shard for shard in sorted(set(shards))]
    for name in ("diffusion_pytorch_model.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return [folder / name]
    return sorted(folder.glob("*.safetensors"))[:1]


def _read_header(file: Path) -> tuple[int, int, set[str]]:
    """Number of elements, bytes and data types of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            slices = [tensors.get_slice(key) for key in tensors.keys()]
            elements = sum(math.prod(tensor.get_shape()) for tensor in slices)
            return elements, file.stat().st_size, {tensor.get_dtype() for tensor in slices}
    except SafetensorError as error:
        raise ValueError(f"{file}: is not a safetensors file ({error}).") from error


def _rates(components: list[Component]) -> dict[str, Any]:
    """What the autoencoder says of itself; for a generator alone, what it was trained on."""
    configs = {component.class_name: component.config for component in components}
    generator = next((config for config in configs.values() if config.get("model_type") == "star_gen"), {})
    autoencoder = next((config for config in configs.values() if "downsampling_ratios" in config), {})
    hop = frame_rate = None
    sampling_rate = autoencoder.get("sampling_rate", generator.get("sampling_rate"))
    if autoencoder:
        hop = autoencoder.get("filterbank_bands", 1) * math.prod(autoencoder["downsampling_ratios"])
        frame_rate = sampling_rate / hop if sampling_rate else None
    return {
        "sampling_rate": sampling_rate,
        "audio_channels": autoencoder.get("audio_channels"),
        "hop_length": hop,
        "frame_rate": frame_rate or generator.get("frame_rate"),
        "latent_channels": autoencoder.get("decoder_input_channels", generator.get("latent_channels")),
        "context_type": autoencoder.get("context_type"),
        "num_context_layers": autoencoder.get("num_context_layers"),
        # Configurations that do not name one are those of Gaussian autoencoders.
        "bottleneck": autoencoder.get("bottleneck", "gaussian") if autoencoder else None,
        "sigma": autoencoder.get("sigma"),
        "latent_noise": autoencoder.get("latent_noise"),
        "regularizer": autoencoder.get("regularizer"),
    }


def _as_text(summary: dict[str, Any]) -> str:
    rows = [("class", summary["class"]), ("folder", summary["folder"])]
    for key, label, unit in (
        ("sampling_rate", "sampling rate", "Hz"),
        ("audio_channels", "audio channels", ""),
        ("hop_length", "hop", "samples"),
        ("frame_rate", "frame rate", "frames/s"),
        ("latent_channels", "latent channels", ""),
        ("context_type", "context", ""),
    ):
        if summary[key] is not None:
            value = f"{summary[key]:.2f}" if isinstance(summary[key], float) else summary[key]
            rows.append((label, f"{value} {unit}".rstrip()))
    if summary["bottleneck"] is not None:
        sigma = "" if summary["sigma"] is None else f" {summary['sigma']:g}"
        noise = f", decoded with noise of {summary['latent_noise']:g} std" if summary["latent_noise"] else ""
        rows.append(("bottleneck", f"{summary['bottleneck']}{sigma}{noise}"))
    if summary["regularizer"]:
        rows.append(("regularizer", _record_as_text(summary["regularizer"])))
    for component in summary["components"]:
        rows.append((component["name"], f"{component['class_name']}{_weights_as_text(component)}"))
    rows.append(("total", _weights_as_text(summary).lstrip(", ") or "no safetensors"))
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)


def _record_as_text(record: dict[str, Any]) -> str:
    """`name` first, then the other entries as `key value`; what is nested stands in brackets."""
    parts = [str(record["name"])] if "name" in record else []
    for key, value in record.items():
        if key != "name":
            parts.append(f"{key} ({_record_as_text(value)})" if isinstance(value, dict) else f"{key} {value}")
    return ", ".join(parts)


def _weights_as_text(part: dict[str, Any]) -> str:
    if not part["size_in_bytes"]:
        return ""
    dtypes = f", {'/'.join(part['dtypes'])}" if "dtypes" in part else ""
    return f", {part['parameters'] / 1e6:.2f} M parameters{dtypes}, {part['size_in_bytes'] / 1e6:.1f} MB"
