"""The training scripts' own modules, and the same ten short clips in every form that a dataset can have."""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))

RATE = 8000
CLIPS = 10


def level(index: int) -> float:
    """The value of every sample of clip `index`: a crop of it tells where it is from."""
    return (index + 1) / 32


def encoded(index: int, suffix: str = "flac") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(400, level(index)), RATE, format=suffix.upper())
    return file.getvalue()


def write_tar(path: Path, indices, suffix: str = "flac") -> None:
    with tarfile.open(path, "w") as tar:
        for index in indices:
            parts = {
                suffix: encoded(index, suffix),
                "txt": f"text {index}".encode(),
                "json": json.dumps({"title": f"title {index}", "tags": ["a", f"b{index}"]}).encode(),
            }
            for name, content in parts.items():
                member = tarfile.TarInfo(f"clip{index}.{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="session")
def clip_sources(tmp_path_factory):
    """Folders with the ten clips: `files` with metadata.csv; `tars` of 3, 3 and 4 clips; `parquet` alike."""
    root = tmp_path_factory.mktemp("clips")
    for name in ("files", "tars", "parquet"):
        (root / name).mkdir()
    metadata = ["file_name,text"]
    for index in range(CLIPS):
        (root / "files" / f"clip{index}.flac").write_bytes(encoded(index))
        metadata.append(f"clip{index}.flac,text {index}")
    (root / "files" / "metadata.csv").write_text("\n".join(metadata) + "\n")
    for shard, indices in enumerate((range(3), range(3, 6), range(6, CLIPS))):
        write_tar(root / "tars" / f"train-{shard}.tar", indices)
        rows = [
            {"audio": {"bytes": encoded(index), "path": f"clip{index}.flac"}, "text": f"text {index}"}
            for index in indices
        ]
        dataset = Dataset.from_list(rows).cast_column("audio", Audio(decode=False))
        dataset.to_parquet(str(root / "parquet" / f"train-{shard}.parquet"), batch_size=2)
    return {path.name: path for path in root.iterdir()}
