"""The errors by frequency band with STAR beside those with isotropic KL, by the rule of the claims."""

import math
from collections import Counter
from collections.abc import Iterator

from comparison.metrics import Metric
from tables.columns import BACKBONE_NAMES
from tables.documents import Documents
from tables.seeds import AGREES, CONTRADICTS, UNDECIDED, is_better

#: In dB, of two independent Gaussian noises of one spectrum: a bin's powers are distributed exponentially, so
#: that the logarithm of their ratio is logistic, and its mean magnitude 2 ln 2.
NOISE_DIFFERENCE = 20 * math.log10(2)
_ERROR = Metric("band_error", "error", "", unit="dB", better="less")


def compared_bands(documents: Documents) -> list[str]:
    """A sentence for each backbone that has both: in how many bands STAR's error is lower, and higher."""
    return [_sentence(documents, backbone) for backbone in BACKBONE_NAMES if _has_both(documents, backbone)]


def _has_both(documents: Documents, backbone: str) -> bool:
    return all(documents.band_errors((backbone, name)) for name in ("star", "isotropic"))


def _sentence(documents: Documents, backbone: str) -> str:
    found = Counter(_verdicts(documents, backbone))
    return (
        f"with a {BACKBONE_NAMES[backbone]}, STAR's error is lower in {found[AGREES]} of {found.total()} "
        f"bands, higher in {found[CONTRADICTS]}, not decided in {found[UNDECIDED]}"
    )


def _verdicts(documents: Documents, backbone: str) -> Iterator[str]:
    star, isotropic = (documents.band_errors((backbone, name)) for name in ("star", "isotropic"))
    for first, second in zip(star.values(), isotropic.values(), strict=True):
        yield is_better(first, second, _ERROR, "less").verdict
