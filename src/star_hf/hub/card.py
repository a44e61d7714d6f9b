"""The README.md of a repository: its text, its metadata, and the files that it shows."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from .checks import check_text
from .contents import CARD
from .kinds import Kind

#: What the Hub sorts by: metadata that a card is given where it does not have them.
_WANTED = ("license", "library_name", "pipeline_tag", "tags")
_WANTED_OF = {
    "adapter": (*_WANTED, "base_model", "base_model_relation"),
    "latents": ("license", "task_categories", "size_categories", "configs", "tags"),
}
_CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_UNFILLED = re.compile(r"\{\{-?\s+[^{}]+\}\}|\{%-?\s+[^{}]+%\}")
_LINK = re.compile(
    r"""\]\(\s*<?([^)\s>]+)|<(?:img|audio|source|a)\b[^>]*?\b(?:src|href)\s*=\s*["']([^"']+)["']"""
)
_RESOLVE = re.compile(r"/(?:datasets/)?(?P<repo_id>[^/]+/[^/]+)/(?:resolve|blob|raw)/[^/]+/(?P<path>.+)")


class _Link(NamedTuple):
    """A file at `path`, in the repository `repo_id`, or beside the card where that is None."""

    path: str
    repo_id: str | None


@dataclass(frozen=True)
class PlannedCard:
    """A README.md as it is sent: `text`, its `metadata`, whether it was `written` for want of one, and the
    metadata that was `added` to it."""

    text: str
    metadata: dict[str, Any]
    written: bool
    added: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Whether it is sent as it lies in the folder."""
        return not self.written and not self.added

    def shown_files(self, repo_id: str | None) -> set[str]:
        """The files of the repository that it shows or links to, by their paths there."""
        return {link.path for link in self._links() if link.repo_id in (None, repo_id)}

    def foreign_files(self, repo_id: str) -> dict[str, str]:
        """The files of other repositories that it shows or links to, and whose they are."""
        return {link.path: link.repo_id for link in self._links() if link.repo_id not in (None, repo_id)}

    def _links(self) -> list[_Link]:
        widgets = [entry for entry in self.metadata.get("widget") or [] if isinstance(entry, dict)]
        outputs = [entry["output"] for entry in widgets if isinstance(entry.get("output"), dict)]
        addresses = [output["url"] for output in outputs if "url" in output]
        addresses += [first or second for first, second in _LINK.findall(_CODE.sub("", self.text))]
        return [link for address in addresses if (link := _parse_link(address))]


def plan_card(
    folder: Path,
    kind: Kind,
    repo_id: str | None,
    stated: Mapping[str, Any],
    secrets: Collection[str] = (),
) -> PlannedCard:
    """The card in `folder`, or one of what the configuration says; what its metadata lack is added.

    `stated` are metadata, such as `license` and `base_model`, that take effect where the card says nothing.

    Raises `ValueError` for metadata that the Hub cannot read, and for a text that was not filled in.
    """
    file = folder / CARD
    if not file.is_file():
        written = _default(folder, kind, repo_id, stated)
        return PlannedCard(str(written), written.data.to_dict(), True, ())
    text = check_text(file.read_bytes(), CARD, secrets).removeprefix("\ufeff")
    if unfilled := _UNFILLED.search(_CODE.sub("", text)):
        raise ValueError(f"{file}: {unfilled[0]!r} was not filled in.")
    card = _parsed(text, kind, file)
    absent = [key for key in _WANTED_OF.get(kind.name, _WANTED) if card.data.get(key) in (None, [], "")]
    found = {key: value for key, value in stated.items() if value is not None}
    if set(absent) - set(found) - {"license"}:  # which nobody but a person knows
        found = _default(folder, kind, repo_id, stated).data.to_dict()
    added = [key for key in absent if found.get(key) is not None]
    for key in added:
        card.data[key] = found[key]
    metadata = card.data.to_dict()
    _check_results(metadata, file)
    return PlannedCard(str(card) if added else text, metadata, False, tuple(added))


def _default(folder: Path, kind: Kind, repo_id: str | None, stated: Mapping[str, Any]) -> Any:
    """A card that says what the configuration says."""
    from star_hf.cards import minimal_card

    card = minimal_card(folder, kind.name, repo_id=repo_id, license=stated.get("license"))
    if kind.name == "adapter" and stated.get("base_model") and not card.data.get("base_model"):
        card.data["base_model"] = stated["base_model"]
        card.data["base_model_relation"] = "adapter"
    return card


def _parsed(text: str, kind: Kind, file: Path) -> Any:
    import yaml
    from huggingface_hub import DatasetCard, ModelCard

    card_class = DatasetCard if kind.repo_type == "dataset" else ModelCard
    try:
        return card_class(text if text.lstrip().startswith("---") else f"---\n{{}}\n---\n\n{text}")
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: its metadata cannot be read ({' '.join(str(error).split())}).") from error


def _check_results(metadata: Mapping[str, Any], file: Path) -> None:
    """Every result in the model index must be there and finite."""
    for model in metadata.get("model-index") or []:
        for result in model.get("results") or []:
            for metric in result.get("metrics") or []:
                value = metric.get("value")
                if value is None or (isinstance(value, float) and not math.isfinite(value)):
                    name = metric.get("name") or metric.get("type")
                    raise ValueError(f"{file}: the result {name!r} has no number, but {value}.")


def _parse_link(address: str) -> _Link | None:
    """The file that an address means, if it is one beside the card or in a repository of the Hub."""
    parts = urlsplit(address)
    if not parts.scheme and not parts.netloc:
        path = unquote(parts.path).removeprefix("./")
        return None if not path or path.startswith(("/", "..")) else _Link(path, None)
    match = _RESOLVE.fullmatch(parts.path)
    if match is None or parts.netloc not in ("huggingface.co", "hf.co"):
        return None
    return _Link(unquote(match["path"]), match["repo_id"])
