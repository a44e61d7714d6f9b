"""Which files belong to what is published; everything else stays, with the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from .kinds import CONFIG, HEADS_FILE, LATENTS_FILE, MODEL_INDEX, PEFT_CONFIG, Kind

CARD = "README.md"
#: Beside the card, at the top of every repository.
DOCUMENTS = ("LICENSE*", "LICENCE*", "NOTICE*", "CITATION.cff", "ATTRIBUTION*.csv", "ATTRIBUTION*.md")
#: `model.safetensors`, `diffusion_pytorch_model.fp16.safetensors`, `model-00001-of-00002.safetensors`, …
WEIGHTS = re.compile(
    r"(model|diffusion_pytorch_model)(\.\w+)?(-\d{5}-of-\d{5})?(\.\w+)?\.safetensors"
    r"(\.index(\.\w+)?\.json)?"
)
#: Configurations and tokenizers, as diffusers and transformers write them.
SETTINGS = (
    CONFIG,
    "generation_config.json",
    "scheduler_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
)
ADAPTER_FILES = (CONFIG, HEADS_FILE, PEFT_CONFIG, "adapter_model.safetensors")
LATENT_SHARDS = "latents-*.parquet"
PIPELINE_CODE = "pipeline.py"
ADAPTER_FOLDER = "adapter"
#: What the card may show or link to.
AUDIO, PICTURES = (".flac", ".wav", ".mp3", ".ogg"), (".png", ".jpg", ".jpeg", ".svg", ".webp", ".gif")
TEXTS = (".md", ".txt", ".csv", ".json", ".jsonl", ".yaml", ".yml", ".cff", ".bib")

HIDDEN = re.compile(r"(^|/)\.")
#: Reasons to leave a file out, the first whose pattern is in its path; `{kind}` is what is published.
REASONS = (
    (HIDDEN, "hidden"),
    (
        re.compile(
            r"(^|/)checkpoints/|(^|/)((optimizer|random_states|scaler|sampler|run_state|trainer_state)[^/]*"
            r"|scheduler\.bin|training_args\.bin)$"
        ),
        "training state",
    ),
    (re.compile(r"\.(bin|pt|pth|ckpt|pkl|pickle|joblib)$"), "pickled; only safetensors are sent"),
    (re.compile(r"\.(safetensors|h5|msgpack|onnx|npz|npy|gguf)$"), "weights that are not part of {kind}"),
    (re.compile(r"\.log$|(^|/)metrics\.jsonl$|tfevents"), "a log"),
    (re.compile(r"^failures\.json$"), "names of files that could not be read"),
    (re.compile(r"\.(py|sh|ipynb|so)$"), "code"),
    (re.compile(r"\.(flac|wav|mp3|ogg|png|jpe?g|svg|webp|gif)$"), "the card does not show it"),
)


class Contents:
    """What belongs to a repository of one kind.

    Args:
        kind: what is published.
        index: the content of `model_index.json`, for a pipeline; its entries are the folders of components.
    """

    def __init__(self, kind: Kind, index: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self.components = components(index or {})

    def is_payload(self, path: str) -> bool:
        """Whether the model or dataset is loaded from this file: an older one of these is replaced."""
        folder, _, name = path.rpartition("/")
        if self.kind.name == "latents":
            return not folder and (name == LATENTS_FILE or fnmatchcase(name, LATENT_SHARDS))
        if self.kind.name == "adapter":
            return not folder and name in ADAPTER_FILES
        if self.kind.name == "pipeline":
            if not folder:
                return name in (MODEL_INDEX, PIPELINE_CODE)
            if folder == ADAPTER_FOLDER:
                return name in ADAPTER_FILES
            return folder in self.components and is_model_file(name)
        return not folder and is_model_file(name)

    def reason_against(self, path: str) -> str:
        """Why a file that is neither stays where it is."""
        reason = next((reason for pattern, reason in REASONS if pattern.search(path)), "not part of {kind}")
        return reason.format(kind=self.kind)


def is_document(path: str) -> bool:
    """Whether it is the card or belongs beside it, whatever is published."""
    return path == CARD or ("/" not in path and any(fnmatchcase(path, pattern) for pattern in DOCUMENTS))


def is_hidden(path: str) -> bool:
    return HIDDEN.search(path) is not None


def components(index: Mapping[str, Any]) -> dict[str, str]:
    """The components that `model_index.json` names, and their classes; not those that are switched off."""
    return {
        name: str(entry[1])
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and entry[1] is not None
    }


def is_model_file(name: str) -> bool:
    return name in SETTINGS or WEIGHTS.fullmatch(name) is not None
