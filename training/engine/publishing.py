"""--push_to_hub: what a run makes goes to the Hugging Face Hub when it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.arguments import option
from star_hf.hub import check_name, check_push, push_folder
from star_hf.hub.kinds import Kind

AUTOENCODER = Kind("autoencoder", "AutoencoderStar")
LAFA = Kind("lafa", "AutoencoderLafa")
GENERATOR = Kind("pipeline", "StarGenPipeline")
DIT = Kind("pipeline", "StableAudioPipeline")
LATENTS = Kind("latents", "LatentDataset")


@dataclass
class PublishingArguments:
    push_to_hub: str | None = option(None, "user/name on the Hugging Face Hub: push what the run makes there")
    hub_private: bool = option(False, "make a new repository private")
    hub_revision: str | None = option(None, "branch to push to, made if it is not there; default: main")
    hub_license: str | None = option(None, "licence of what is pushed, such as cc-by-4.0")

    def check_publishing(self) -> None:
        """Raise `ValueError` for a name that cannot be one of the Hub, and for options without a name."""
        if self.push_to_hub is not None:
            check_name(self.push_to_hub)
            return
        for name in ("hub_private", "hub_revision", "hub_license"):
            if getattr(self, name):
                raise ValueError(f"{name} is given, but not push_to_hub, the name to push to")


def check_hub(arguments: PublishingArguments, kind: Kind) -> None:
    """Whether a push of `kind` could be made now: not after days of training is the time to hear of a token.

    Raises `OSError` that says what the Hub refuses. Does nothing without `push_to_hub`.
    """
    if arguments.push_to_hub is not None:
        check_push(
            arguments.push_to_hub, kind, private=arguments.hub_private, revision=arguments.hub_revision
        )


def publish(arguments: PublishingArguments, folder: Path, say: Callable[[str], None] = print) -> None:
    """Push `folder`. Raises `OSError` that says how to send it later: the run itself is complete.

    Does nothing without `push_to_hub`.
    """
    if arguments.push_to_hub is None:
        return
    try:
        result = push_folder(
            folder,
            arguments.push_to_hub,
            private=arguments.hub_private,
            revision=arguments.hub_revision,
            license=arguments.hub_license,
            say=say,
        )
    except (ValueError, OSError) as error:
        raise OSError(
            f"{error}\n{folder} is complete; to send it: star-hf push {folder} {arguments.push_to_hub}"
        ) from error
    say(f"pushed to {result.url}")
