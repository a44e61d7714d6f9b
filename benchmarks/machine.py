"""What the numbers depend on: the machine, the versions, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch
from timing import seconds_of

PACKAGES = ("torch", "diffusers", "transformers", "numpy")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
# Products of these sizes are tried, the fastest counts; it is the best that a network could come to.
MATRIX_SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192)}
PRODUCTS = 4


def describe_machine() -> dict[str, object]:
    """The machine and the versions, without names of host or user."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "usable_cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "instructions": instructions(),
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def cpu_name() -> str:
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def instructions() -> list[str]:
    """Of `INSTRUCTIONS`, what the processor has; empty where Linux does not tell."""
    for line in _cpuinfo():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            return [name for name in INSTRUCTIONS if name in flags]
    return []


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bf16 products have instructions of their own; elsewhere they are emulated, and slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return any(name in FAST_BFLOAT16 for name in instructions())


@torch.no_grad()
def matrix_product_rate(device: torch.device, dtype: torch.dtype, sizes: tuple[int, ...] = ()) -> float:
    """Floating point operations per second of square matrix products, as PyTorch computes them here."""
    best = 0.0
    for size in sizes or MATRIX_SIZES[device.type]:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = left @ right
        for _ in range(PRODUCTS):
            seconds = seconds_of(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), device)
            best = max(best, 2 * size**3 / seconds)
    return best
