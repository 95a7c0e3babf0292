"""The foot of a terminal: the step under way, its time, and the last line of its program. The only user of rich."""

from __future__ import annotations

import time
from typing import IO, TYPE_CHECKING, cast

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bb_release.tools.signals import undisturbed

if TYPE_CHECKING:
    from bb_release.terminal import Terminal


class Progress:
    """A line that changes while a step runs. What stays is printed by the log; so nothing is lost without it."""

    def __init__(self, terminal: Terminal) -> None:
        self._console = Console(file=cast("IO[str]", terminal), markup=False, highlight=False)
        self._spinner = Spinner("dots", style="cyan")
        self._live: Live | None = None
        self._step = self._line = ""
        self._began = 0.0

    def show(self, step: str) -> None:
        """A step has begun."""
        self.clear()
        self._step, self._line, self._began = step, "", time.monotonic()
        self._live = Live(
            get_renderable=self._render, console=self._console, transient=True, refresh_per_second=8,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        with undisturbed():
            self._live.start()

    def line(self, text: str) -> None:
        """What its program said last."""
        self._line = text

    def above(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def clear(self) -> None:
        """Leave the line empty, for what is printed next."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _render(self) -> Table:
        seconds = time.monotonic() - self._began
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        row.add_column(no_wrap=True, overflow="ellipsis")
        said = Text.assemble(f"{self._step:<22}{seconds:6.1f} s  ", (printable(self._line), "dim"))
        said.no_wrap, said.overflow = True, "ellipsis"
        row.add_row(self._spinner, said)
        return row


def printable(text: str) -> str:
    """Without what would move the cursor or colour the screen: it comes from a program."""
    return "".join(c if c.isprintable() else " " for c in text)
