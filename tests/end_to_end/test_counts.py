"""What a code-only deploy starts and syncs, counted: this is how a slower deploy is found, no test asserts a time.

The numbers are those of today, for the example site without units and health page. Fewer is better: when a number
falls, write the lower one here; when it rises, say why in the commit that raises it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from example_site import bare_site, unprivileged

# programs that the agent itself starts; what these start in turn is theirs (and differs between versions of git)
STARTED = {
    "git fetch": 1,
    "git rev-list": 1,  # is every object of the mirror there?
    "git rev-parse": 1,
    "git ls-tree": 1,
    "git read-tree": 1,
    "python -I": 1,  # which interpreter is it, for markers and requires-python
    "uv pip": 1,  # what do requirements without hashes come down to? The packages themselves are linked
    "django stage": 1,
}
DJANGO_STARTS = 1
# by the agent itself: a manifest or a state file is two fsyncs, its folder's too; the installers' cache is flushed
# beside the release
SYNCS = {"fsync": 42, "syncfs": 2}

CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()")
RESULT = re.compile(r"\) += (-?\d+)(?: [^=]*)?$")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass
class Counted:
    """What strace saw of one run of the agent."""

    started: Counter[str] = field(default_factory=Counter)
    syncs: Counter[str] = field(default_factory=Counter)

    @property
    def django_starts(self) -> int:
        return sum(count for name, count in self.started.items() if name.startswith("django "))


def named(argv: list[str]) -> str:
    """A program by what it is for: `git fetch`, `django check`, `django stage`."""
    words = [word for word in argv if word]
    for place, given in enumerate(words):
        if given.endswith("/inside/stage.py"):
            return "django stage"
        if given.rpartition("/")[2] == "manage.py":
            return f"django {words[place + 1]}"
    program = words[0].rpartition("/")[2]
    if program == "git":
        settings = iter(words[1:])
        for given in settings:
            if given == "-c":
                next(settings)
            elif not given.startswith("-"):
                return f"git {given}"
    return f"{program} {words[1]}" if len(words) > 1 else program


def calls(trace: str) -> Iterator[tuple[int, str, str]]:
    """Process, system call and its line, for each call that has ended; one that was interrupted is put together."""
    begun: dict[int, str] = {}
    for line in trace.splitlines():
        found = CALL.match(line)
        if found is None:
            continue
        process, call = int(found[1]), found[2]
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>")
            continue
        yield process, call, begun.pop(process, "") + line


def counted(trace: str) -> Counted:
    """Count in a trace of `strace -f`; the first process is the agent, its threads and its children are told apart."""
    agent = int(trace.split(" ", 1)[0])
    own, children, seen = {agent}, set[int](), Counted()
    ended = list(calls(trace))
    for process, call, line in ended:  # first, since a child's exec may be told before its parent's vfork has ended
        if call in ("clone", "clone3", "vfork", "fork") and process in own and result(line) > 0:
            (own if "CLONE_THREAD" in line else children).add(result(line))
    for process, call, line in ended:
        if call == "execve" and process in children and result(line) == 0:
            children.discard(process)
            seen.started[named(STRING.findall(line)[1:])] += 1  # the first string is the program's path
        elif call in ("fsync", "fdatasync", "syncfs", "sync") and process in own:
            seen.syncs[call] += 1
    return seen


def result(line: str) -> int:
    """What a system call returned; -1 where nothing is told."""
    found = RESULT.search(line)
    return int(found[1]) if found else -1


@pytest.fixture(scope="module")
def strace() -> str:
    """The strace program; Debian's, where root runs the tests."""
    if shutil.which("strace") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-q"], capture_output=True)
        subprocess.run(["apt-get", "install", "-q", "-y", "strace"], capture_output=True)
    program = shutil.which("strace")
    if program is None:
        why = "strace is not installed, so that nothing can be counted (apt-get install strace)"
        (pytest.fail if os.environ.get("REQUIRE_CRASH_TESTS") else pytest.skip)(f"skipped: {why}")
    return program


@pytest.fixture(scope="module")
def seen(strace: str, cache: Path) -> Iterator[Counted]:
    """A second deploy in which one line of code changed, traced."""
    with bare_site(cache) as site:
        site.ok("deploy")
        site.edit("brackets/balance.py", (site.repository / "brackets/balance.py").read_text() + "\n# one more line\n")
        trace = site.folder / "trace"
        watched = "trace=execve,clone,clone3,vfork,fork,fsync,fdatasync,syncfs,sync"
        done = subprocess.run(
            [strace, "-f", "--seccomp-bpf", "-q", "-s", "65535", "-e", watched, "-o", trace, *site.command("deploy")],
            cwd="/", env=site.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
            **unprivileged(),
        )  # fmt: skip
        assert 0 == done.returncode, done.stdout + done.stderr
        yield counted(trace.read_text(errors="replace"))


def test_a_code_only_deploy_starts_no_more_programs_than_these(seen: Counted) -> None:
    assert STARTED == dict(seen.started)


def test_a_code_only_deploy_starts_django_no_more_often_than_this(seen: Counted) -> None:
    assert DJANGO_STARTS == seen.django_starts


def test_a_code_only_deploy_syncs_no_more_often_than_this(seen: Counted) -> None:
    assert SYNCS == dict(seen.syncs)


def test_a_trace_is_counted_by_process() -> None:
    trace = """10 execve("/b/bb-release", ["bb-release", "deploy"], 0x7ffd /* 4 vars */) = 0
10 clone3({flags=CLONE_VM|CLONE_THREAD, child_tid=0x7f}, 88) = 11
10 vfork( <unfinished ...>
12 execve("/usr/local/bin/git", ["git", "-c", "a=b", "--git-dir=/m", "fetch"], 0x7f /* 9 vars */) = -1 ENOENT (No)
12 execve("/usr/bin/git", ["git", "-c", "a=b", "--git-dir=/m", "fetch"], 0x7f /* 9 vars */ <unfinished ...>
10 <... vfork resumed>)                 = 12
12 <... execve resumed>)                = 0
12 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD) = 13
13 execve("/usr/lib/git-core/git", ["git", "index-pack"], 0x7f /* 9 vars */) = 0
12 fsync(4)                             = 0
11 fsync(3)                             = 0
10 syncfs(3 <unfinished ...>
10 <... syncfs resumed>)                = 0
10 vfork( <unfinished ...>
14 execve("/r/venv/bin/python", ["/r/venv/bin/python", "manage.py", "check", "--deploy"], 0x7f /* 9 vars */) = 0
10 <... vfork resumed>)                 = 14
14 +++ exited with 0 +++
"""
    seen = counted(trace)
    assert {"git fetch": 1, "django check": 1} == dict(seen.started)
    assert {"fsync": 1, "syncfs": 1} == dict(seen.syncs)
