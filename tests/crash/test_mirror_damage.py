"""A mirror that a crash, a bad disk or a killed git has damaged: repaired or kept, and nothing live is touched."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import power_host as host
import pytest
from oracle import Oracle
from tiny_site import TinySite, inodes

import required
import results
from example_site import unprivileged

SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))


def git(*words: str, cwd: Path) -> str:
    """git as a stranger to the agent would use it."""
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", *words], cwd=cwd, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}, **unprivileged(),
    )  # fmt: skip
    assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
    return done.stdout


def pack(mirror: Path, kind: str = "pack") -> Path:
    found = max((mirror / "objects" / "pack").glob(f"*.{kind}"), key=lambda path: path.stat().st_size)
    found.chmod(0o644)
    return found


def cut_short(path: Path, share: float = 0.5) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def flip(path: Path) -> None:
    """One bit in the middle, as a bad disk does it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def loose(mirror: Path) -> list[Path]:
    """The objects of the mirror as single files, the way that an older git keeps small fetches."""
    taken = [path.rename(mirror.parent / path.name) for path in (mirror / "objects" / "pack").glob("*.pack")]
    shutil.rmtree(mirror / "objects" / "pack")
    for path in taken:
        with path.open("rb") as file:
            subprocess.run(["git", f"--git-dir={mirror}", "unpack-objects", "-q"], stdin=file, check=True)
        path.unlink()
    return sorted(path for path in (mirror / "objects").glob("??/*") if path.is_file())


def lose_loose(mirror: Path) -> None:
    """Objects that were never flushed are there after a power cut, with nothing in them."""
    for path in loose(mirror)[::3]:
        path.chmod(0o644)
        os.truncate(path, 0)


def refs_of_zero_bytes(mirror: Path) -> None:
    (mirror / "packed-refs").unlink(missing_ok=True)
    for path in (mirror / "refs" / "heads").iterdir():
        os.truncate(path, 0)
    (mirror / "refs" / "heads" / "main").write_text("")


def wrong_ref(mirror: Path) -> None:
    (mirror / "refs" / "heads" / "main").write_text("0123456789" * 4 + "\n")


def locks_everywhere(mirror: Path) -> None:
    for name in ("HEAD", "config", "packed-refs", "shallow", "refs/heads/main", "objects/info/commit-graph", "gc.pid"):
        (mirror / f"{name}.lock").parent.mkdir(parents=True, exist_ok=True)
        (mirror / f"{name}.lock").write_text("")
    (mirror / "objects" / "pack" / "tmp_pack_killed").write_text("half")


def empty(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a pack cut short": lambda mirror: cut_short(pack(mirror)),
    "a pack of zero bytes": lambda mirror: cut_short(pack(mirror), 0),
    "a pack that lost its last byte": lambda mirror: cut_short(pack(mirror), 0.999),
    "a bit flipped in a pack": lambda mirror: flip(pack(mirror)),
    "no pack at all": lambda mirror: pack(mirror).unlink(),
    "an index cut short": lambda mirror: cut_short(pack(mirror, "idx")),
    "no index": lambda mirror: pack(mirror, "idx").unlink(),
    "loose objects of zero bytes": lose_loose,
    "a loose object lost": lambda mirror: loose(mirror)[-1].unlink(),
    "garbage in HEAD": lambda mirror: (mirror / "HEAD").write_bytes(b"\0\1\2garbage"),
    "HEAD of zero bytes": lambda mirror: os.truncate(mirror / "HEAD", 0),
    "refs of zero bytes": refs_of_zero_bytes,
    "a ref to nothing": wrong_ref,
    "garbage in packed-refs": lambda mirror: (mirror / "packed-refs").write_bytes(b"\0" * 512),
    "a configuration of zero bytes": lambda mirror: os.truncate(mirror / "config", 0),
    "locks of a killed git": locks_everywhere,
    "no objects folder": lambda mirror: shutil.rmtree(mirror / "objects"),
    "an empty folder": empty,
    "half a clone beside it": lambda mirror: shutil.copytree(mirror / "refs", mirror.with_name("mirror.git.new")),
    "ended between the two renames": lambda mirror: mirror.rename(mirror.with_name("mirror.git.old")),
}  # fmt: skip


def left_alone(site: TinySite) -> tuple[str, dict[str, set[tuple[str, int]]]]:
    """What a mirror must never change: the link, and every release's files."""
    return site.current(), {path.name: inodes(path) for path in sorted((site.root / "releases").iterdir())}


def require_whole(site: TinySite) -> None:
    """What the judge says of the site, which has no service. (The mirror is not its: see require_sound.)"""
    Oracle(site.root, site.repository, site.database).require_whole(recovered=True)


def require_sound(site: TinySite) -> None:
    """The mirror gives out what the repository has, every byte of it; nothing of a repair is left."""
    mirror = site.root / "mirror.git"
    copy = site.folder / "copy.git"
    shutil.rmtree(copy, ignore_errors=True)
    git("clone", "-q", "--mirror", f"file://{mirror}", str(copy), cwd=site.folder)  # checks each object's hash
    git("fsck", "--full", "--strict", "--no-dangling", cwd=copy)
    assert git("rev-parse", "main", cwd=site.repository) == git("rev-parse", "refs/heads/main", cwd=mirror)
    left = [path for path in mirror.rglob("*") if path.name.endswith(".lock") or path.name.startswith("tmp_")]
    assert [] == left + list(site.root.glob("mirror.git.*"))


@pytest.mark.parametrize("kind", DAMAGES)
@results.one_of("damaged mirror", of=len(DAMAGES))
def test_a_damaged_mirror_is_repaired_and_nothing_live_is_touched(kind: str, live_tiny: TinySite) -> None:
    live_tiny.bring_back()
    before = left_alone(live_tiny)
    DAMAGES[kind](live_tiny.root / "mirror.git")
    live_tiny.own(live_tiny.root)
    require_whole(live_tiny)
    done = live_tiny.deploy()
    assert 0 == done.returncode, done.stdout + done.stderr
    assert before == left_alone(live_tiny)
    require_whole(live_tiny)
    require_sound(live_tiny)


@pytest.mark.parametrize("kind", list(DAMAGES)[:: 1 if host.everything() else 3])
@results.one_of("damaged mirror, its remote gone", of=len(DAMAGES))
def test_a_damaged_mirror_whose_remote_is_gone_is_told_and_mends_later(kind: str, live_tiny: TinySite) -> None:
    live_tiny.bring_back()
    before = left_alone(live_tiny)
    DAMAGES[kind](live_tiny.root / "mirror.git")
    live_tiny.own(live_tiny.root)
    away = live_tiny.repository.rename(live_tiny.folder / "away")
    try:
        done = live_tiny.deploy()
    finally:
        away.rename(live_tiny.repository)
    assert 1 == done.returncode
    assert done.stderr.startswith("error: mirror-not-updated"), done.stderr
    assert "remedy:" in done.stderr
    assert before == left_alone(live_tiny)
    require_whole(live_tiny)
    live_tiny.ok("switch", live_tiny.current())
    live_tiny.ok("deploy")
    require_whole(live_tiny)
    require_sound(live_tiny)


def test_a_damage_that_a_fetch_does_not_see_stops_the_next_build_cleanly(live_tiny: TinySite) -> None:
    """A deploy of a revision that is not new: its tree comes from the mirror, and is whole or refused."""
    live_tiny.bring_back()
    before = live_tiny.current()
    flip(pack(live_tiny.root / "mirror.git"))
    done = live_tiny.deploy("--force")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    require_whole(live_tiny)
    if done.returncode:
        assert before == live_tiny.current()
    else:
        wanted = git("rev-parse", "main", cwd=live_tiny.repository)
        assert (wanted, True) == ((live_tiny.root / "current/REVISION").read_text(), before < live_tiny.current())
    live_tiny.ok("deploy", "--force")
    require_whole(live_tiny)


FETCH_CALLS = ("rename", "link", "unlink", "mkdir", "write", "fsync")
SHOWN = re.compile(r'"((?:[^"\\]|\\.)*)"')


def test_a_killed_fetch_never_poisons_the_mirror(live_tiny: TinySite) -> None:
    """git itself is killed at its n-th call; the fetch after that works, and the mirror is whole."""
    required.require_strace()
    chance = random.Random(SEED)
    print(f"SEED={SEED}")
    log = live_tiny.folder / "strace.log"
    log.touch()
    live_tiny.own(log)
    fetch, env = fetch_of_the_agent(live_tiny, log)
    begin_to_fetch(live_tiny, "watched")
    strace(log, "-e", f"trace=/^({'|'.join(FETCH_CALLS)})", command=fetch, env=env)
    most: dict[str, int] = {}  # strace counts in each process, and each form of a call, by itself
    for (_, call), found in Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(errors="replace"), re.M)).items():
        most[call] = max(found, most.get(call, 0))
    assert {"write", "fsync"} <= set(most), most
    with results.counted("killed fetch", seed=SEED) as count:
        for call, last in most.items():
            count.of += last
            for number in range(1, last + 1) if host.everything() else [chance.randint(1, last)]:
                before = begin_to_fetch(live_tiny, f"{call} {number}")
                strace(
                    log, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}", command=fetch, env=env
                )
                count.one(hit="killed by SIGKILL" in log.read_text(errors="replace"))
                assert before == left_alone(live_tiny)
                require_whole(live_tiny)
                done = live_tiny.deploy("--build-only")
                assert 0 == done.returncode, f"{call} {number}: {done.stdout}{done.stderr}"
                require_whole(live_tiny)
                require_sound(live_tiny)
        assert count.hit >= count.injected - max(1, count.injected // 10), "too few of the calls were reached"


def fetch_of_the_agent(site: TinySite, log: Path) -> tuple[list[str], dict[str, str]]:
    """The words and the environment with which the agent starts git for a fetch, as strace sees them."""
    site.bring_back()
    site.edit("NOTE", "to be fetched\n")
    run = site.start(
        "deploy",
        "--build-only",
        prefix=("strace", "-f", "-qq", "-v", "-s", "4096", "-e", "trace=execve", "-o", str(log)),
    )
    said = run.communicate(timeout=120)
    assert 0 == run.returncode, said
    seen = [line for line in log.read_text().splitlines() if 'execve("' in line and ', "fetch", ' in line]
    line = next(line for line in seen if " = -1 " not in line)  # git was looked for in several folders
    argv, variables = line.split("], [", 1)
    words = [word.encode().decode("unicode_escape") for word in SHOWN.findall(argv)]
    pairs = [pair.encode().decode("unicode_escape").partition("=") for pair in SHOWN.findall(variables)]
    return words[1:], {name: value for name, _, value in pairs}  # the first is the program's path


def begin_to_fetch(site: TinySite, note: str) -> object:
    """There is something to fetch; returns what a fetch must leave alone."""
    site.bring_back()
    site.edit("NOTE", f"{note}\n")
    return left_alone(site)


def strace(log: Path, *options: str, command: list[str], env: dict[str, str]) -> None:
    words = ["strace", "-f", "-qq", "-o", str(log), *options, *command]
    subprocess.run(words, cwd="/", env=env, capture_output=True, **unprivileged())


FLUSHES = ("fsync", "fdatasync", "sync_file_range", "syncfs")


def test_a_fetch_flushes_the_pack_its_index_and_the_refs_before_they_have_their_names(live_tiny: TinySite) -> None:
    """core.fsync=all: git by itself flushes no refs, and after a power cut they may be there and empty."""
    required.require_strace()
    log = live_tiny.folder / "strace.log"
    live_tiny.bring_back()
    live_tiny.edit("NOTE", "to be flushed\n")
    traced = ("strace", "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={','.join(FLUSHES)}")
    log.touch()
    live_tiny.own(log)
    run = live_tiny.start("deploy", "--plan", prefix=traced)
    _, err = run.communicate(timeout=120)
    host.require("ptrace" not in err, "right to trace a process (ptrace)")
    mirror = f"{live_tiny.root}/mirror.git/"
    flushed = re.findall(rf"<{re.escape(mirror)}([^>]*)>", log.read_text())
    for wanted in ("objects/pack/tmp_pack_", "objects/pack/tmp_idx_", "refs/heads/main.lock"):
        assert [] != [path for path in flushed if path.startswith(wanted)], (wanted, flushed)
