"""Commands on a disk that is full, out of inodes, or read-only: a real ext4 of our own, filled to the last block."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import power_host as host
from power_cut import Scenario, Seen, end, follow, read_before, remember, scene, start
from power_ground import Ground
from power_oracle import Known, problems

from example_site import Site

KIND = "ext4"
FEW = "ext4-few-inodes"


@dataclass
class Answer:
    """What one command said on such a disk, and what the oracle says of the disk then."""

    words: tuple[str, ...]
    code: int
    output: str
    live: str = ""  # our name of the revision that is live afterwards
    broken: list[str] = field(default_factory=list)
    free: tuple[int, int] = (0, 0)  # bytes and inodes, before the command

    @property
    def error(self) -> str:
        """The error code that was shown, "" for none."""
        return next((line.removeprefix("error: ") for line in self.output.splitlines() if line[:7] == "error: "), "")

    def complaints(self) -> list[str]:
        """What no command may do on any disk."""
        found = list(self.broken)
        if "this is a bug" in self.output or self.code == 3:
            found.append("a traceback")
        if self.code != 0 and not (self.error and "remedy:" in self.output):
            found.append("no error with a remedy")
        return [f"{' '.join(self.words)} ended with {self.code}: {text}\n{self.output}" for text in found]


def fill_bytes(root: Path, left: int = 0) -> None:
    """Take all blocks but `left` bytes."""
    descriptor = os.open(root / "shared" / "fill", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size, before = 0, -1
        while size != before:  # what a flush gives back of the room that was set aside for it is taken too
            before = size
            for piece in (1 << 20, 4096, 1024):
                size = write_on(descriptor, size, piece)
            os.fsync(descriptor)
        os.ftruncate(descriptor, max(0, size - left))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_on(descriptor: int, size: int, piece: int) -> int:
    """Write pieces from here on until the disk takes no more; returns the new size."""
    try:
        while True:
            size += os.pwrite(descriptor, b"\1" * piece, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    return size


def fill_inodes(root: Path) -> None:
    """Take all inodes."""
    folder = root / "shared" / "fill.d"
    folder.mkdir()
    for number in range(1_000_000):
        try:
            os.close(os.open(folder / str(number), os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


def make_read_only(root: Path) -> None:
    host.run(["mount", "-o", "remount,ro", str(root)])


TROUBLES: dict[str, Callable[[Path], None]] = {
    "no bytes": fill_bytes, "no inodes": fill_inodes, "read-only": make_read_only,
}  # fmt: skip


def on_a_bad_disk(
    ground: Ground, scenario: Scenario, trouble: str, commands: list[tuple[str, ...]], *,
    left: int = 0, stop: int = 0, reserve: bool = True,
) -> list[Answer]:  # fmt: skip
    """Make the trouble and give the commands, one after the other.

    `stop`: before that, the scenario is killed before this operation. `left`: bytes that stay free.
    """
    kind = FEW if trouble == "no inodes" else KIND
    with scene(ground, scenario, kind) as (site, image), host.mounted(image, kind, site.root):
        if stop:
            agent = start(site, scenario.words, stop=stop)
            follow(agent, Seen(scenario.name, KIND, ""), None)
            end(agent)
        if not reserve:
            for path in (site.root / "reserve").iterdir():
                path.unlink()
        if left:
            fill_bytes(site.root, left)
        else:
            TROUBLES[trouble](site.root)
        read = read_before(ground, scenario, kind)
        known = partial(ground.known, *ground.revisions, read=read)
        try:
            answers = [answer(ground, site, words, known) for words in commands]
            remember(ground, scenario, kind, read)
            return answers
        finally:
            if trouble == "read-only":
                host.run(["mount", "-o", "remount,rw", str(site.root)])


def answer(ground: Ground, site: Site, words: tuple[str, ...], known: Callable[[], Known] | None = None) -> Answer:
    """Give a command; `known`: what the oracle compares with, where not any of the revisions may be live."""
    facts = os.statvfs(site.root)
    done = site.run(*words)
    found = Answer(
        words, done.returncode, done.stdout + done.stderr, name_of_live(ground, site),
        free=(facts.f_bavail * facts.f_frsize, facts.f_favail),
    )  # fmt: skip
    found.broken = problems(site.root, known() if known else ground.known(*ground.revisions))
    return found


def name_of_live(ground: Ground, site: Site) -> str:
    """Our name of the revision that is live, "" for none."""
    if not site.current():
        return ""
    live = (site.root / "releases" / site.current() / "REVISION").read_text().strip()
    return next((name for name, revision in ground.revisions.items() if revision == live), live)


def filled_while_deploying(ground: Ground, scenario: Scenario, trouble: str, at: str) -> tuple[Answer, Answer]:
    """The site's own command at this place takes the last block or inode; then, with room again, `recover`."""
    kind = FEW if trouble == "no inodes" else KIND
    with scene(ground, scenario, kind) as (site, image):
        disk = f"{site.root}/shared/fill"
        fill = {
            "no bytes": f"for size in 64k 1k; do dd if=/dev/zero of={disk}.$size bs=$size 2>/dev/null; sync; done; exit 0",
            "no inodes": f"n=0; while true 2>/dev/null >{disk}.$n; do n=$((n + 1)); done; exit 0",
        }[trouble]
        site.settings["[run]"] = f'\n[[run]]\nat = "{at}"\ncommand = ["/bin/sh", "-c", "{fill}"]\n'
        site.write_config()
        with host.mounted(image, kind, site.root):
            first = answer(ground, site, scenario.words)
            for path in (site.root / "shared").glob("fill.*"):
                path.unlink()
            return first, answer(ground, site, ("recover",))


def with_a_release_of(ground: Ground, scenario: Scenario, left: int, size: int | None) -> Answer:
    """A deploy with `left` bytes free, when the live release says that it takes `size` bytes."""
    with scene(ground, scenario, KIND) as (site, image), host.mounted(image, KIND, site.root):
        if size:
            path = site.root / "releases" / site.current() / "release.json"
            facts = json.loads(path.read_text())
            path.write_text(json.dumps({**facts, "size": [size, facts["size"][1]]}))
        fill_bytes(site.root, left)
        return answer(ground, site, scenario.words)
