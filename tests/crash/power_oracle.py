"""After a power cut or on a bad disk: what the judge says, and whatever differs from a run that nothing disturbed.

A release whose manifest says that it was finished must be, byte for byte, what the same revision became in that run.
So a file of zero bytes, a missing one and one full of zeros are all found, also where no package has a hash of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import marshal
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oracle import WHOLE, Oracle, Read

OURS = {"release.json", ".release.json.new", ".answer.json"}
AHEAD = ".static-ahead-"  # links for the next release, which come and go; what becomes of them is looked at there
# they tell when they were made, or hold the hash of a script that has the release's own path in it
DATED = {"uv_cache.json"}
TORN = "bytecode that cannot be loaded"

Fingerprint = dict[str, str]


@dataclass
class Known:
    """What is right: the fingerprint of each revision, and what the scenario may leave live."""

    repository: Path
    revisions: dict[str, Fingerprint] = field(default_factory=dict)
    migrations: dict[str, set[str]] = field(default_factory=dict)  # what the code of a revision needs
    may_be_live: set[str] = field(default_factory=set)  # revisions; "" for nothing
    stay: set[str] = field(default_factory=set)  # revisions whose finished release was there before, and is not removed
    rows: int = 0
    read: Read = field(default_factory=dict)


def fingerprint(release: Path, read: Read | None = None) -> Fingerprint:
    """Kind, mode and content of everything in a release, with the release's own name taken out."""
    found: Fingerprint = {}
    read = {} if read is None else read
    for relative, entry in entries(str(release)):
        facts, name = entry.stat(follow_symlinks=False), entry.name
        if relative in OURS or name in DATED or relative.startswith(AHEAD):
            continue
        if stat.S_ISLNK(facts.st_mode):
            found[relative] = f"link to {os.readlink(entry.path)}".replace(release.name, "NAME")
        elif stat.S_ISDIR(facts.st_mode):
            if name != "__pycache__":
                found[relative] = f"folder {facts.st_mode & 0o777:o}"
        else:
            # a file that several releases share cannot hold the name of one
            key = (facts.st_ino, facts.st_size, facts.st_ctime_ns, release.name if facts.st_nlink == 1 else "")
            is_compiled = name.endswith(".pyc")
            if key not in read:
                read[key] = bytecode(entry.path) if is_compiled else digest(entry.path, release.name)
            if not is_compiled:
                found[relative] = f"file {facts.st_mode & 0o777:o} {read[key]}"
            elif read[key] == TORN:
                found[relative] = TORN
    return found


def entries(top: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a folder, with its path in it; no recursion, since there are very many."""
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        with os.scandir(f"{top}/{inner}") as found:
            for entry in found:
                yield inner + entry.name, entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{inner}{entry.name}/")


def bytecode(path: str) -> str:
    """Compiled files differ from run to run. Python makes one with a wrong head anew, but stops at a torn body."""
    content = Path(path).read_bytes()
    if content[:4] == importlib.util.MAGIC_NUMBER and len(content) >= 16:
        try:
            marshal.loads(content[16:])
        except (EOFError, ValueError, TypeError):
            return TORN
    return "bytecode"


def digest(path: str, name: str) -> str:
    content = Path(path).read_bytes().replace(name.encode(), b"NAME")
    if path.endswith("/RECORD"):
        content = b"\n".join(line for line in content.splitlines() if not line.startswith(b"../"))
    if path.endswith("/staticfiles.json"):
        with contextlib.suppress(ValueError):  # its order is that in which a file system lists a folder
            content = json.dumps(json.loads(content), sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def problems(root: Path, known: Known, *, repaired: bool = False) -> list[str]:
    """All that is wrong with an app root; `repaired`: the agent has run since the crash, so nothing may be unfinished."""
    judge = Oracle(root, known.repository, root / "shared" / "db.sqlite3", read=known.read)
    found = [*judge.problems(recovered=repaired), *differences(judge, known)]
    if repaired and (root / "releases").is_dir():
        strangers = {*os.listdir(root / "releases")}.difference(judge.names())
        found += [f"{name} is in releases" for name in sorted(strangers)]
    return found


def differences(judge: Oracle, known: Known) -> list[str]:
    """Which revision is live or gone, its files and the rows: what differs from an undisturbed run."""
    root, live, found = judge.root, judge.current(), []
    revision = revision_of(root, live)
    if not live and "" not in known.may_be_live:
        found.append("current is not there")
    elif revision not in known.may_be_live:
        found.append(f"live is {live} with revision {revision!r}, which is neither the old nor the new one")
    gone = set(known.stay)
    for name in judge.names():
        check_release(judge, name, known, found)
        gone.discard(revision_of(root, name))
    found += [f"the release of revision {revision} is gone" for revision in sorted(gone)]
    check_database(root, known, revision, found)
    return found


def revision_of(root: Path, name: str) -> str:
    try:
        return (root / "releases" / name / "REVISION").read_text().strip() if name else ""
    except OSError:
        return ""


def check_release(judge: Oracle, name: str, known: Known, found: list[str]) -> None:
    """A finished release is what the same revision became undisturbed. (A manifest that is torn is the judge's.)"""
    manifest, folder = judge.manifest(name), judge.root / "releases" / name
    state = manifest.get("state")
    if state not in WHOLE:
        return
    wanted = known.revisions.get(str(manifest.get("revision")), {})
    has = fingerprint(folder, known.read)
    for path in sorted(wanted.keys() | has.keys()) if wanted != has else ():
        if wanted.get(path) != has.get(path):
            size = (folder / path).lstat().st_size if path in has else 0
            found.append(f"{name} is {state}, but {path} is {has.get(path)} ({size} bytes), not {wanted.get(path)}")


def check_database(root: Path, known: Known, revision: str, found: list[str]) -> None:
    """No row lost, and with what the live code needs, its packages' migrations too. (One that is torn is the judge's.)"""
    path = root / "shared" / "db.sqlite3"
    needed = known.migrations.get(revision, set())
    if not path.exists():
        return
    database = sqlite3.connect(f"file:{path}?mode=rw", uri=True)  # a journal that a crash left is rolled back
    try:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        applied = set()
        if "django_migrations" in tables:
            applied = {f"{app}.{name}" for app, name in database.execute("select app, name from django_migrations")}
        rows = database.execute("select count(*) from brackets_snippet").fetchone()[0] if known.rows else 0
    except sqlite3.DatabaseError as error:
        found.append(f"the database cannot be asked: {error}")
        return
    finally:
        database.close()
    if not needed <= applied:
        found.append(f"the live code needs {sorted(needed - applied)}, which the database does not have")
    if rows != known.rows:
        found.append(f"the database has {rows} rows, not {known.rows}")
