"""What goes wrong with the Hub, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
AGAIN = "what has arrived is kept, the same command goes on from there"


class HubError(OSError):
    """The Hub is out of reach, or refuses, or has something else than was sent."""


@contextmanager
def explained(doing: str, repo_id: str) -> Iterator[None]:
    """Raise what the client raises as `HubError("<doing>: <what to do>")`; errors in the arguments pass."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        message = _explanation(error, repo_id)
        if message is None:
            raise
        raise HubError(f"{doing}: {message}") from error


def _explanation(error: Exception, repo_id: str) -> str | None:
    """Of the first error in the chain of causes that says something; a thread's error has one behind it."""
    from huggingface_hub import constants, errors

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, errors.HfHubHTTPError):
            return _answer(cause, repo_id)
    for cause in causes:
        if isinstance(cause, errors.LocalTokenNotFoundError):
            return f"there is no token; {LOG_IN} to a token that may write"
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set and the files are not in the cache; unset it to reach the Hub"
        if isinstance(cause, errors.HFValidationError):
            return f"{repo_id!r} is not a name of the Hub (user/name, of letters, digits, '-', '_' and '.')"
        if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            return f"{constants.ENDPOINT} does not answer in time; {AGAIN}"
        # Transport errors are those of the HTTP library in use, which was renamed between versions.
        if isinstance(cause, ConnectionRefusedError) or type(cause).__name__ == "ConnectError":
            return f"{constants.ENDPOINT} cannot be reached ({_words(cause)}); is there a network?"
        if isinstance(cause, (errors.HTTPError, ConnectionError)):
            return f"the connection to {constants.ENDPOINT} broke off ({_words(cause)}); {AGAIN}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "not all of its files are in the cache, and fetching them is switched off"
    if isinstance(error, (OSError, RuntimeError)):
        return f"it broke off ({_words(error)}); {AGAIN}"
    return None


def _answer(error: Exception, repo_id: str) -> str:
    """An answer of the Hub other than success; how it says so is in `hf_raise_for_status`."""
    from huggingface_hub import constants, errors

    status, said = error.response.status_code, error.server_message or ""
    said = " ".join(said.split()) or f"status {status}"
    if isinstance(error, errors.GatedRepoError):
        return f"access to it is granted on request: ask on {constants.ENDPOINT}/{repo_id}, then {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo_id} has no such revision ({said})"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{repo_id} lacks a file ({said})"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{repo_id} does not exist, or it is private and not yours to see; if it is private, {LOG_IN}"
    if status == 401:
        return f"the Hub does not accept the token, it may have expired; {LOG_IN} ({said})"
    if status == 403:
        return (
            f"the token may not do this with {repo_id}: it must have the right to write there, and its "
            f"account must be {repo_id.partition('/')[0]} or a member of it ({said})"
        )
    if status == 409:
        return f"another operation on {repo_id} is going on; try again in a minute ({said})"
    if status == 412:
        return f"{repo_id} was changed by someone else during the upload; look at it, and {AGAIN}"
    if status == 429:
        return f"too many requests, the Hub asks to wait some minutes ({said}); {AGAIN}"
    if status >= 500:
        return f"the Hub is out of order at the moment ({said}); {AGAIN}"
    return f"the Hub refuses ({status}: {said})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
