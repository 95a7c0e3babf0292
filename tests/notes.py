"""A Reporter of a deployment that only remembers what it was told."""

from __future__ import annotations


class Notes:
    """Lines for the log, and warnings."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def mask(self, text: str) -> str:
        return text

    def line(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
