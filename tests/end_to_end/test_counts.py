"""What a code-only deploy starts, writes and syncs, counted: this is how a slower deploy is found, no test asserts a time.

The numbers are those of today, for the example site without units and health page. Fewer is better: when a number
falls, write the lower one here; when it rises, say why in the commit that raises it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from example_site import bare_site

# programs that the agent itself starts
STARTED = {
    "git fetch": 1,
    "git rev-parse": 1,
    "git ls-tree": 1,
    "git read-tree": 1,
    "python -I": 1,  # which interpreter is it, for markers and requires-python
    "django stage": 1,
}
DJANGO_STARTS = 1
# all processes, by who forked them: the stage forks for check, for the facts and for the plan of migrations
SPAWNED = {"agent": 6, "django": 3}
# fsync and syncfs; a manifest is two, its folder's too; the one syncfs is for the release and the installers' cache
SYNCED = {"agent": 15}
# files, folders and links that were made, and renames; the agent's without the tree of packages that it links
WRITTEN = {"agent": 80, "django": 32}
# what these do differs between their versions
AT_MOST = {
    "git": {"spawned": 5, "synced": 5, "written": 40},
    "python": {},
}

CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()")
RESULT = re.compile(r"\) += (-?\d+)(?: [^=]*)?$")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


MADE = ("creat", "link", "linkat", "symlink", "symlinkat", "mkdir", "mkdirat", "rename", "renameat", "renameat2")
FORKS = ("clone", "clone3", "vfork", "fork")
SYNCS = ("fsync", "fdatasync", "syncfs", "sync")
WATCHED = f"execve,openat,open,{','.join((*MADE, *FORKS, *SYNCS))}"


@dataclass
class Counted:
    """What strace saw of one run of the agent: what it started, and by program ("agent", "git") what each did."""

    started: Counter[str] = field(default_factory=Counter)
    spawned: Counter[str] = field(default_factory=Counter)
    synced: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    loaded: dict[str, set[str]] = field(default_factory=dict)  # by verb, of runs that came after

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
    """Count in a trace of `strace -f`; the first process is the agent, and what it starts counts for what it started.

    Threads count for their process, and forks for the program that they are of.
    """
    agent, seen, ended = int(trace.split(" ", 1)[0]), Counted(), list(calls(trace))
    parents: dict[int, int] = {}
    threads: set[int] = set()
    for process, call, line in ended:  # first, since a child's calls may be told before its parent's fork has ended
        if call in FORKS and result(line) > 0:
            parents[result(line)] = process
            if "CLONE_THREAD" in line:
                threads.add(result(line))
    programs = {agent: "agent"}

    def process_of(task: int) -> int:
        return process_of(parents[task]) if task in threads else task

    def program_of(task: int) -> str:
        task = process_of(task)
        return programs.get(task) or program_of(parents[task])

    for task, call, line in ended:
        if call == "execve" and result(line) == 0 and task != agent and process_of(parents[task]) == agent:
            name = named(STRING.findall(line)[1:])  # the first string is the program's path
            seen.started[name] += 1
            programs[task] = name.partition(" ")[0]
    for task, call, line in ended:
        if result(line) < 0:
            continue
        if call in FORKS and result(line) not in threads:
            seen.spawned[program_of(task)] += 1
        elif call in SYNCS:
            seen.synced[program_of(task)] += 1
        elif call in MADE or (call in ("open", "openat") and "O_CREAT" in line):
            seen.written[program_of(task)] += 1
    return seen


def result(line: str) -> int:
    """What a system call returned; -1 where nothing is told."""
    found = RESULT.search(line)
    return int(found[1]) if found else -1


@pytest.fixture(scope="module")
def seen(strace: str, cache: Path) -> Iterator[Counted]:
    """A second deploy in which one line of code changed, traced."""
    with bare_site(cache) as site:
        site.ok("deploy")
        site.edit("brackets/balance.py", (site.repository / "brackets/balance.py").read_text() + "\n# one more line\n")
        trace = site.folder / "trace"
        site.prefix = (strace, "-f", "--seccomp-bpf", "-q", "-s", "65535", "-e", f"trace={WATCHED}", "-o", str(trace))
        site.ok("deploy")
        site.prefix = ()
        found = counted(trace.read_text(errors="replace"))
        packages = (site.root / "current" / "venv" / "lib").glob("python*/site-packages")
        found.written["agent"] -= sum(len(folders) + len(files) for p in packages for _, folders, files in os.walk(p))
        found.loaded = {
            verb: imported(site.run(verb, *words, PYTHONPROFILEIMPORTTIME="1"))
            for verb, *words in (["rollback"], ["switch", "previous", "--force"], ["status"])
        }
        yield found


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The modules that a run loaded, as Python itself told."""
    assert 0 == done.returncode, done.stderr[-1000:]
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("verb", ["switch", "rollback", "status"])
def test_what_builds_nothing_does_without_the_libraries_of_a_build(seen: Counted, verb: str) -> None:
    assert f"bb_release.actions.{'status' if verb == 'status' else 'switch'}" in seen.loaded[verb]
    packages = {name.partition(".")[0] for name in seen.loaded[verb] if "." in name}  # one alone may have been blocked
    assert set() == packages & {"git", "virtualenv", "rich", "packaging", "pydantic"}


def test_a_code_only_deploy_starts_no_more_programs_than_these(seen: Counted) -> None:
    assert STARTED == dict(seen.started)


def test_a_code_only_deploy_starts_django_no_more_often_than_this(seen: Counted) -> None:
    assert DJANGO_STARTS == seen.django_starts


@pytest.mark.parametrize(
    ("what", "pinned"), [("spawned", SPAWNED), ("synced", SYNCED), ("written", WRITTEN)], ids=["spawn", "sync", "write"]
)
def test_a_code_only_deploy_does_no_more_of_this_than_it_did(seen: Counted, what: str, pinned: dict[str, int]) -> None:
    found: Counter[str] = getattr(seen, what)
    assert pinned == {name: count for name, count in found.items() if name not in AT_MOST and count}
    for name, most in AT_MOST.items():
        assert found[name] <= most.get(what, 0), (name, found[name])


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
14 openat(AT_FDCWD, "/a", O_RDONLY|O_CLOEXEC) = 3
14 openat(AT_FDCWD, "/b", O_WRONLY|O_CREAT|O_EXCL, 0666) = -1 EEXIST (File exists)
14 openat(AT_FDCWD, "/c", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3
13 rename("/d", "/e")                   = 0
13 mkdir("/f", 0777)                    = 0
11 linkat(AT_FDCWD, "/g", 3, "h", 0)    = 0
14 +++ exited with 0 +++
"""
    seen = counted(trace)
    assert {"git fetch": 1, "django check": 1} == dict(seen.started)
    assert {"agent": 2, "git": 1} == dict(seen.spawned)
    assert {"agent": 2, "git": 1} == dict(seen.synced)
    assert {"agent": 1, "git": 2, "django": 1} == dict(seen.written)
