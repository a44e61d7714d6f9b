"""Tokens and keys in texts that are about to be published."""

from __future__ import annotations

import re
from collections.abc import Collection

#: How the keys of well-known services look. Long enough that no word of a vocabulary does.
PATTERNS = {
    "a Hugging Face token": re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{50,})\b"),
    "a GitLab token": re.compile(r"\bglpat-[\w-]{20,}"),
    "an OpenAI or Anthropic key": re.compile(r"\bsk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a Google key": re.compile(r"\bAIza[\w-]{35}\b"),
    "a Slack token": re.compile(r"\bxox[abposr]-[\w-]{10,}"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a password in an address": re.compile(
        r"\b[a-z][a-z0-9+.-]{1,9}://[^\s/:@\"']{1,64}:[^\s/:@\"']{3,128}@[\w-]"
    ),
}


def find_secret(text: str, known: Collection[str] = ()) -> str | None:
    """What kind of secret stands in `text`, and in which line, as "a Hugging Face token in line 3"; or None.

    `known` are secrets of this machine, which count however they look. The secret itself is not repeated.
    """
    places = [("a token of this machine", text.find(secret)) for secret in known if secret]
    for name, pattern in PATTERNS.items():
        match = pattern.search(text)
        places.append((name, match.start() if match else -1))
    found = [(position, name) for name, position in places if position >= 0]
    if not found:
        return None
    position, name = min(found)
    return f"{name} in line {text.count(chr(10), 0, position) + 1}"
