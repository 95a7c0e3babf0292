"""Single system calls of the agent's that fail, by strace: the n-th write, flush, rename... says EIO or "no space".

First a run is only watched: which calls change something below the app root? Then each is made to fail, once, or
with all that follow it. strace counts in each process by itself, and only the agent's own process is traced.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import power_host as host
from disk_room import Answer, answer, name_of_live
from power_cut import Scenario, Seen, end, follow, read_before, remember, scene, start
from power_ground import Ground
from power_oracle import problems

import required
from example_site import Site, unprivileged

KIND = "ext4"
# as the kernel calls them: os.rename is renameat on some machines
CALLS = (
    "fsync", "syncfs", "write", "pwrite64", "openat", "rename", "renameat", "renameat2", "unlink", "unlinkat",
    "symlink", "symlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate", "truncate",
)  # fmt: skip
LINE = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+|\?)")
PATH = re.compile(r'[<"](/[^>"]*)[>"]')
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EROFS")
KILLED = ("switch", "previous")  # what `recover` finds


def of_any_release(text: str) -> str:
    """The same text for what differs in the name of a release alone."""
    return re.sub(r"20[0-9-]{17}", "RELEASE", text)


@dataclass(frozen=True)
class Call:
    """The `number`-th call of this name in the agent's own process, and the path below the root that it is about."""

    name: str
    number: int
    path: str

    def __str__(self) -> str:
        return f"{self.name} {self.number} {of_any_release(self.path)}"


@dataclass
class Failed:
    """One run with a call that failed, and the repair after it."""

    call: Call
    error: str
    for_ever: bool
    hit: str  # strace's line of the first call that failed; "" when it never came so far
    gave_up_reserve: bool  # and tried the write once more
    first: Answer
    repair: Answer

    @property
    def is_meant(self) -> bool:
        """Was it the call that was chosen? Another run may open a file more, and the number is that of a mere look."""
        return of_any_release(self.call.path) in of_any_release(self.hit)

    def __str__(self) -> str:
        return f"{self.call} says {self.error}{' from then on' if self.for_ever else ''}"


def require_tracing() -> None:
    host.require_mounts(KIND)
    required.require_strace()


def kill_before(site: Site, words: tuple[str, ...], stop: int) -> None:
    """What the scenario repairs: a command that was killed before this operation of its own."""
    agent = start(site, words, stop=stop)
    follow(agent, Seen("killed", KIND, ""), None)
    end(agent)


def traced(site: Site, words: tuple[str, ...], log: Path, *options: str) -> subprocess.CompletedProcess[str]:
    log.touch()
    log.chmod(0o666)
    return subprocess.run(
        [*required.strace("-qq", "-y", "-s", "200", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *options),
         *site.command(*words)],
        cwd="/", env=site.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=300, **unprivileged(),
    )  # fmt: skip


def calls_of(ground: Ground, scenario: Scenario, stop: int = 0) -> list[Call]:
    """All calls of an undisturbed run that change something below the root; `stop`: of `recover` after this kill."""
    with scene(ground, scenario, KIND) as (site, image), host.mounted(image, KIND, site.root):
        if stop:
            kill_before(site, KILLED, stop)
        log = image.with_name("strace.log")
        done = traced(site, scenario.words, log)
        text = log.read_text(errors="replace")
        log.unlink()
    if done.returncode != scenario.exit_code:
        raise RuntimeError(done.stdout)
    counted: dict[str, int] = {}
    found = []
    for line in text.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        name, arguments, result = match.groups()
        counted[name] = counted.get(name, 0) + 1
        paths = PATH.findall(arguments)
        path = paths[-1] if name.startswith(("rename", "symlink")) and paths else (paths or [""])[0]
        if name == "openat" and not re.search(r"O_(CREAT|WRONLY|RDWR|TRUNC)", arguments):
            continue
        if name == "openat":
            path = paths[-1]
        if (path.startswith(f"{ground.root}/") or path == str(ground.root)) and result != "-1":
            found.append(Call(name, counted[name], path.removeprefix(f"{ground.root}/")))
    return found


def fail(ground: Ground, scenario: Scenario, call: Call, error: str, *, for_ever: bool, stop: int = 0) -> Failed:
    """Let the call fail; then look, repair without the fault, and look again."""
    read = read_before(ground, scenario, KIND)
    may_be_live = [*ground.revisions, *([""] if scenario.base == "empty" else [])]
    known = partial(ground.known, *may_be_live, stay=scenario.stay, rows=scenario.rows, read=read)
    with scene(ground, scenario, KIND) as (site, image), host.mounted(image, KIND, site.root):
        if stop:
            kill_before(site, KILLED, stop)
        log = image.with_name("strace.log")
        when = f"{call.number}+" if for_ever else str(call.number)
        done = traced(site, scenario.words, log, "-e", f"inject={call.name}:error={error}:when={when}")
        lines = log.read_text(errors="replace").splitlines()
        hit = next((line for line in lines if "(INJECTED)" in line), "")
        gave_up = any(line.startswith("unlink") and "/reserve/" in line for line in lines)
        log.unlink()
        first = Answer(scenario.words, done.returncode, done.stdout, name_of_live(ground, site))
        first.broken = problems(site.root, known())
        repair = answer(ground, site, ("recover",), known)
        repair.broken += problems(site.root, known(), repaired=True)
        remember(ground, scenario, KIND, read)
        return Failed(call, error, for_ever, hit, gave_up, first, repair)
