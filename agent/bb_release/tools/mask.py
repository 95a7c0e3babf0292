"""What is said and written shows no secret, and gives no orders to a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from bb_release.errors import CUT

SHORTEST_PART = 4  # characters; less of a secret than that, beside a cut, could be anything


class Mask:
    """Replaces secrets before anything is written anywhere.

    That is each value of at least 8 characters, each such line of it (a key has many), the password inside of an
    address (DATABASE_URL), and whatever stands where a password stands in any address. Where a text was cut, the
    beginning of a secret before the cut and the end of one behind it are.
    """

    # TOKEN: what our own remedies put there for a person to replace
    _IN_ADDRESS = re.compile(rf"(://[^/\s:@]*:)(?!TOKEN@)[^/\s@{CUT}]+(?=[@{CUT}])")

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        found = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= 8}
        found |= {password for secret in secrets for password in _passwords(secret)}
        self._secrets = sorted(found, key=len, reverse=True)
        self._backwards = [secret[::-1] for secret in self._secrets]

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "****")
        if CUT in text:
            text = self._without_parts(text)
        return self._IN_ADDRESS.sub(r"\1****", text)

    def all_of(self, value: Any) -> Any:
        """A value as it is written as JSON, without a secret in any text of it."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self(str(name)): self.all_of(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.all_of(each) for each in value]
        return self(str(value))

    def _without_parts(self, text: str) -> str:
        first, *behind = text.split(CUT)
        pieces = [first, *(_without_beginning(piece[::-1], self._backwards)[::-1] for piece in behind)]
        *before, last = pieces
        return CUT.join([*(_without_beginning(piece, self._secrets) for piece in before), last])


def _without_beginning(text: str, secrets: Sequence[str]) -> str:
    """A text without the longest beginning of a secret that it ends in."""
    begins = len(text)
    for secret in secrets:
        at = text.find(secret[:SHORTEST_PART], max(0, len(text) - len(secret)))
        while -1 < at < begins:
            if secret.startswith(text[at:]):
                begins = at
            at = text.find(secret[:SHORTEST_PART], at + 1)
    return text if begins == len(text) else text[:begins] + "****"


def in_two(line: bytes) -> tuple[bytes, bytes]:
    """A line that is too long, cut between two letters (UTF-8), with the sign of a cut on both sides."""
    at = len(line) - 1
    while at > len(line) - 4 and line[at] & 0xC0 == 0x80:  # the second and later bytes of a letter
        at -= 1
    return line[:at] + CUT.encode(), CUT.encode() + line[at:]


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
