"""What some methods need beside Phase I, made here without any download: a teacher and a caption encoder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, AutoTokenizer

from engine.checkpoints import atomic_folder
from star_hf import StarGenModel, embedded_checkpoint
from star_hf.audio import read_audio
from star_hf.data import audio_source
from star_hf.evaluation.classifier import JudgeReport

TEACHER, CAPTIONS = "teacher", "captions"
FACTS_NAME = "facts.json"
SAMPLING_RATE = 16000
SILENCE = 1e-3  # RMS below which a crop tells nothing of its class
ATTEMPTS = 10


@dataclass(frozen=True)
class TeacherSettings:
    """A small audio spectrogram transformer, and how long it trains."""

    steps: int = 800
    batch_size: int = 16
    crop_seconds: float = 0.75
    mel_bands: int = 64
    frames: int = 80
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    learning_rate: float = 5e-4
    crops_per_clip: int = 8  # of held-out clips, whose logits are averaged
    seed: int = 0


def make_captions(folder: Path) -> dict[str, Any]:
    """The embedded checkpoint's text backbone and tokenizer as a transformers folder; returns what it is."""
    facts = read_facts(folder)
    if facts is None:
        checkpoint = Path(embedded_checkpoint())
        backbone = StarGenModel.from_pretrained(checkpoint / "model").backbone
        tokenizer = AutoTokenizer.from_pretrained(checkpoint / "tokenizer")
        facts = {
            "class": type(backbone).__name__,
            "parameters": backbone.num_parameters(),
            "hidden_size": backbone.config.hidden_size,
            "layers": backbone.config.num_hidden_layers,
        }
        with atomic_folder(folder) as temporary:
            backbone.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            _write_facts(temporary, facts)
    return facts


def make_teacher(
    folder: Path,
    training: Dataset,
    held_out: Dataset,
    audio_column: str,
    label_column: str,
    settings: TeacherSettings,
) -> dict[str, Any]:
    """Train the classifier on crops of `training` and save it with its feature extractor; returns its facts.

    Raises `ValueError` when the dataset has no column of labels.
    """
    facts = read_facts(folder)
    if facts is not None and facts["settings"] != asdict(settings):
        raise ValueError(
            f"{str(folder)!r} holds a teacher of other settings ({facts['settings']}): remove it, or use "
            "another output_dir"
        )
    if facts is None:
        if label_column not in training.column_names:
            raise ValueError(
                f"label_column {label_column!r} is not in the dataset, so that no teacher can be trained; it "
                f"has {', '.join(training.column_names)}"
            )
        labels = sorted({str(label) for label in training[label_column]})
        crops = Crops(training, audio_column, label_column, labels, settings)
        extractor = _fit_extractor(crops, settings)
        model = _train(crops, extractor, labels, settings)
        report = _judge(
            model, extractor, Crops(held_out, audio_column, label_column, labels, settings), settings
        )
        facts = {
            "class": type(model).__name__,
            "parameters": model.num_parameters(),
            "training_clips": len(training),
            "held_out_clips": report.num_clips,
            "held_out_accuracy": report.accuracy,
            "settings": asdict(settings),
        }
        with atomic_folder(folder) as temporary:
            model.save_pretrained(temporary)
            extractor.save_pretrained(temporary)
            _write_facts(temporary, facts)
    return facts


class Crops:
    """All clips of a dataset in memory, mono at 16 kHz, and random crops of them."""

    def __init__(
        self,
        dataset: Dataset,
        audio_column: str,
        label_column: str,
        labels: Sequence[str],
        settings: TeacherSettings,
    ) -> None:
        self.length = round(settings.crop_seconds * SAMPLING_RATE)
        self.waveforms = []
        for row in dataset:
            samples = read_audio(audio_source(row[audio_column]), SAMPLING_RATE, 1)[0][0].numpy()
            self.waveforms.append(np.pad(samples, (0, max(0, self.length - len(samples)))))
        self.targets = [labels.index(str(label)) for label in dataset[label_column]]

    def crop(self, clip: int, random: np.random.Generator) -> np.ndarray:
        """A crop that is not silent, if one is found in a few attempts."""
        samples = self.waveforms[clip]
        for _ in range(ATTEMPTS):
            start = random.integers(0, len(samples) - self.length + 1)
            crop = samples[start : start + self.length]
            if np.sqrt(np.mean(crop**2)) > SILENCE:
                break
        return crop

    def batch(self, random: np.random.Generator, size: int) -> tuple[list[np.ndarray], torch.Tensor]:
        """Crops of random clips, and their classes `(size,)`."""
        clips = random.integers(0, len(self.waveforms), size)
        return [self.crop(clip, random) for clip in clips], torch.tensor([self.targets[c] for c in clips])


def _fit_extractor(crops: Crops, settings: TeacherSettings) -> ASTFeatureExtractor:
    """The feature extractor with mean and deviation of these recordings' log mel values."""
    geometry = {"num_mel_bins": settings.mel_bands, "max_length": settings.frames}
    waveforms, _ = crops.batch(np.random.default_rng(settings.seed), 8 * settings.batch_size)
    raw = ASTFeatureExtractor(**geometry, do_normalize=False)
    values = raw(waveforms, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_values
    return ASTFeatureExtractor(**geometry, mean=values.mean().item(), std=values.std().item())


def _train(
    crops: Crops, extractor: ASTFeatureExtractor, labels: list[str], settings: TeacherSettings
) -> ASTForAudioClassification:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = ASTForAudioClassification(
            ASTConfig(
                hidden_size=settings.hidden_size,
                num_hidden_layers=settings.layers,
                num_attention_heads=settings.heads,
                intermediate_size=3 * settings.hidden_size,
                time_stride=8,
                frequency_stride=16,
                max_length=settings.frames,
                num_mel_bins=settings.mel_bands,
                id2label=dict(enumerate(labels)),
                label2id={label: index for index, label in enumerate(labels)},
            )
        ).train()
        optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
        )
        random = np.random.default_rng(settings.seed)
        for step in range(1, settings.steps + 1):
            waveforms, targets = crops.batch(random, settings.batch_size)
            inputs = extractor(waveforms, sampling_rate=SAMPLING_RATE, return_tensors="pt")
            loss = model(**inputs, labels=targets).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if step % 100 == 0:
                print(f"teacher: step {step}/{settings.steps}, loss {loss.item():.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def _judge(
    model: ASTForAudioClassification,
    extractor: ASTFeatureExtractor,
    crops: Crops,
    settings: TeacherSettings,
) -> JudgeReport:
    """The class of each clip by the mean of its crops' logits."""
    random = np.random.default_rng(settings.seed)
    assigned = []
    for clip in range(len(crops.waveforms)):
        waveforms = [crops.crop(clip, random) for _ in range(settings.crops_per_clip)]
        inputs = extractor(waveforms, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        assigned.append(str(model(**inputs).logits.mean(dim=0).argmax().item()))
    return JudgeReport.of([str(target) for target in crops.targets], assigned)


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    (folder / FACTS_NAME).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def read_facts(folder: Path) -> dict[str, Any] | None:
    """What was made in the folder, if anything was."""
    file = folder / FACTS_NAME
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
