"""What visitors write while a deploy migrates: the old code goes on writing, and no row that was promised is lost."""

from __future__ import annotations

import sqlite3
import subprocess
import time

from oracle import Oracle
from tiny_site import TinySite

import results
from example_site import unprivileged

SLOW = "__import__('time').sleep(0.5)"  # within the migration's transaction
WRITER = """
import django, itertools, sys, time
django.setup()
from notes.models import Note
for number in itertools.count():
    Note.objects.create(text=f"row {number}")
    print(number, flush=True)  # committed: this is what a visitor was told
    time.sleep(0.002)
"""


def write_with_the_live_code(site: TinySite) -> subprocess.Popen[bytes]:
    """A process of the live release that writes rows without end, and tells of each that it has written."""
    release = site.root / "releases" / site.current()
    told = (site.folder / "told").open("wb")
    return subprocess.Popen(
        [release / "venv/bin/python", "-c", WRITER], cwd=release / "app", stdin=subprocess.DEVNULL, stdout=told,
        env={"PATH": "/usr/bin:/bin", "DATABASE_PATH": str(site.database), "DJANGO_SETTINGS_MODULE": "tiny.settings"},
        **unprivileged(),
    )  # fmt: skip


def told(site: TinySite) -> int:
    """How many rows were promised by now."""
    return (site.folder / "told").read_bytes().count(b"\n")


def wait_for_more(site: TinySite, writer: subprocess.Popen[bytes]) -> int:
    before, deadline = told(site), time.monotonic() + 60
    while told(site) < before + 5:
        assert writer.poll() is None, "the old code cannot write any more"
        assert time.monotonic() < deadline, "the old code waits for ever"
        time.sleep(0.01)
    return told(site)


def test_the_old_code_writes_through_a_whole_deploy_and_no_row_is_lost(live_tiny: TinySite) -> None:
    old = live_tiny.current()
    writer = write_with_the_live_code(live_tiny)
    try:
        before = wait_for_more(live_tiny, writer)
        for body in ("", SLOW):
            live_tiny.add_column(body)
            live_tiny.ok("deploy")
        during = told(live_tiny)
        after = wait_for_more(live_tiny, writer)  # an old process may outlive the switch
    finally:
        writer.kill()
        writer.wait()

    with results.counted("rows written during a deploy", of=after) as count:
        count.injected, count.hit = after, during - before
        assert before < during < after
        oracle = Oracle(live_tiny.root, live_tiny.repository, live_tiny.database)
        assert old != oracle.require_whole(recovered=True)
        promised = [f"row {number}" for number in range(told(live_tiny))]
        with sqlite3.connect(live_tiny.database) as connection:  # may write: what a killed writer left is rolled back
            rows = connection.execute(f"SELECT text, c{live_tiny.columns + 1} FROM notes_note ORDER BY id").fetchall()
        written = [text for text, _ in rows if text.startswith("row ")]
        assert promised == written[: len(promised)]
        assert len(written) <= len(promised) + 1  # one was written, and not told of, when the writer was ended
        assert {None} == {value for _, value in rows}
