"""What is said and written shows no secret, and gives no orders to a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote


class Mask:
    """Replaces secrets before anything is written anywhere.

    That is each value of at least 8 characters, each such line of it (a key has many), the password inside of an
    address (DATABASE_URL), and whatever stands where a password stands in any address.
    """

    # TOKEN: what our own remedies put there for a person to replace
    _IN_ADDRESS = re.compile(r"(://[^/\s:@]*:)(?!TOKEN@)[^/\s@]+(?=@)")

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        found = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= 8}
        found |= {password for secret in secrets for password in _passwords(secret)}
        self._secrets = sorted(found, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "****")
        return self._IN_ADDRESS.sub(r"\1****", text)


def _passwords(text: str) -> Iterator[str]:
    """The password of an address, as it is written there and as programs see it; short ones hide too little else."""
    match = re.search(r"://[^/\s:@]*:([^/\s@]+)@", text)
    if match:
        yield from (word for word in (match[1], unquote(match[1])) if len(word) >= 4)


# control characters but tab and newline, overrides of the direction of writing, halves of a pair
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """For a terminal: what would move its cursor, colour it or reorder its words is shown as an escape (\\x1b).

    A page of the site, a remote's words and a commit's subject may hold that.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
