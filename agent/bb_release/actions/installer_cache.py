"""The installers' cache after a power cut: files of zero bytes, which uv reports as a wrong wheel, for ever.

Installers do not flush what they keep. So a note lies beside it from before they write until all is flushed. A note
of another boot means that the host went down in between: then the cache is emptied, which costs only downloads.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bb_release.model import durable
from bb_release.model.app import App
from bb_release.model.step import Reporter
from bb_release.tools import host

NOTE = "unflushed-"
KEPT = ("uv", "pip", "virtualenv")


def open_cache(app: App, reporter: Reporter) -> None:
    """Note that the cache is written to from now on; empty one that a host went down on. Raises OSError."""
    folder, boot = app.cache_folder, host.boot_id()
    notes = list(folder.glob(f"{NOTE}*"))  # of each app that shares the cache
    if any(_is_stale(note, boot) for note in notes):
        reporter.say("the host went down while installers wrote: their cache is emptied")
        for name in KEPT:
            shutil.rmtree(folder / name, ignore_errors=True)
        for note in notes:
            note.unlink(missing_ok=True)
    durable.put(folder / f"{NOTE}{app.name}", boot.encode(), mode=0o644)


def _is_stale(note: Path, boot: str) -> bool:
    try:
        return note.read_text() != boot
    except FileNotFoundError:  # another app has just flushed it
        return False


def close_cache(app: App) -> None:
    """The cache was flushed: the note can go. Raises OSError."""
    (app.cache_folder / f"{NOTE}{app.name}").unlink(missing_ok=True)
