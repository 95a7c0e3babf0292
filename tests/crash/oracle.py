"""One judge of an app root, with nothing of the agent's in it: it reads the disk, the database and /proc by itself."""

from __future__ import annotations

import ast
import base64
import csv
import fcntl
import glob
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from example_site import unprivileged

NAME = re.compile(r"\A\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d\Z")
LIVE = {"verified", "activating", "returning", "bad"}  # bad: a first deploy, or a way back that failed as well
WHOLE = {"ready", "verified", "activating", "returning", "bad"}  # what these say was proven before they were written
RESTING = {"ready", "verified", "failed", "bad"}  # after a recovery nothing is under way
STATES = {*WHOLE, *RESTING, "building"}
OTHERS = "others.json"  # beside the root: what put_others put there
Read = dict[tuple[int, int, int, str], str]  # what was read already, by inode, size and time of change


@dataclass
class Oracle:
    """Judges one app root. `repository` is the source, not the mirror; `ignore` names releases damaged on purpose."""

    root: Path
    repository: Path
    database: Path | None = None
    port: int = 0  # of serve.py, which is asked for its health; 0: it is not there
    serves: bytes = b""  # is in the command line of what stays, and must run from the live release; else serve.py
    ignore: set[str] = field(default_factory=set)
    archives: dict[str, str] = field(default_factory=dict)  # of which revision the archive with that hash was made
    read: Read = field(default_factory=dict)

    def require_whole(self, *, recovered: bool) -> str:
        """The live release's name, "" for none. Raises AssertionError with every problem."""
        found = self.problems(recovered=recovered)
        assert [] == found, "\n".join(found)
        return self.current()

    def problems(self, *, recovered: bool) -> list[str]:
        """All that is wrong, in words; `recovered`: has a recovery been run, so that nothing may be unfinished?"""
        return list(self._problems(recovered=recovered))

    def current(self) -> str:
        """What the link says, "" for no link."""
        link = self.root / "current"
        return os.readlink(link).removeprefix("releases/") if link.is_symlink() else ""

    def manifest(self, name: str) -> dict[str, object]:
        """A release's manifest, {} when it cannot be read."""
        try:
            facts = json.loads((self.root / "releases" / name / "release.json").read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) and facts.get("name") == name else {}

    def names(self) -> list[str]:
        """The releases, oldest first."""
        folder = self.root / "releases"
        return sorted(n for n in os.listdir(folder) if NAME.match(n)) if folder.is_dir() else []

    def _problems(self, *, recovered: bool) -> Iterator[str]:
        link, names = self.root / "current", self.names()
        live = ""
        if os.path.lexists(link):
            target = os.readlink(link) if link.is_symlink() else "(no link)"
            live = target.removeprefix("releases/")
            if target != f"releases/{live}" or live not in names:
                yield f"current leads to {target!r}, which is no release"
                live = ""
            elif self.manifest(live).get("state") not in LIVE:
                yield f"current leads to {live}, which is {self.manifest(live).get('state')}"
        elif any(self.manifest(n).get("activations") for n in names):
            yield "current is gone, though a release was live"
        previous = self.previous(live) if live else ""
        if previous and previous not in names and previous not in self.ignore:
            yield f"{previous}, which was live before {live}, is gone"
        for name in names:
            if name in self.ignore:
                continue
            state = self.manifest(name).get("state")
            if state is None and (recovered or not is_just_begun(self.root / "releases" / name)):
                yield f"{name}: its manifest cannot be read"
            if state is not None and state not in STATES:
                yield f"{name}: is {state!r}, which is no state"
            if recovered and state in STATES - RESTING:
                yield f"{name}: is {state} after the recovery"
            if state in WHOLE:
                yield from self._release(name, starts=name in (live, previous))
        for folder in sorted((self.root / "sets").glob("[!.]*")):  # published, so whole
            yield from self._packages(f"set {folder.name}", folder)
        for path in sorted((self.root / "state").glob("[!.]*.json")):
            if not is_json(path):
                yield f"{path.name} cannot be read"
        wanted, has = others_put(self.root), others(self.root)
        for path in sorted(wanted.keys() | has.keys()) if wanted else ():
            if wanted.get(path) != has.get(path):
                yield f"{path}, which is not the agent's, was changed"
        if self.database is not None:
            yield from self._database(live, names)
        if recovered:
            yield from self._leftovers()
            yield from self._processes(live)

    def previous(self, live: str) -> str:
        """What the live release's manifest says was live before it, "" for nothing."""
        facts = self.manifest(live)
        activations = facts.get("activations") or []
        assert isinstance(activations, list)
        last = max(activations, key=lambda a: a["sequence"], default={})
        return str(facts.get("previous") or last.get("previous") or "")

    def _release(self, name: str, *, starts: bool) -> Iterator[str]:
        folder = self.root / "releases" / name
        revision = str(self.manifest(name).get("revision"))
        try:
            if (folder / "REVISION").read_text() != f"{revision}\n":
                yield f"{name}: REVISION is not {revision}"
            if f"BB_RELEASE={name}\n" not in (folder / "release.env").read_text():
                yield f"{name}: release.env does not name it"
        except (OSError, ValueError) as error:
            yield f"{name}: {error}"
        for path, wanted in tree_of(self.repository, self.archives.get(revision, revision)).items():
            found = blob_hash(folder / "app" / path, wanted)
            if found != wanted:
                yield f"{name}: app/{path} is not what the revision has ({found})"
        yield from self._packages(name, folder)
        yield from self._static(name)
        if starts:
            done = subprocess.run(
                [folder / "venv/bin/python", "-c", "import django"], capture_output=True, text=True, cwd="/",
                env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}, **unprivileged(),
            ) if (folder / "venv/bin/python").exists() else None  # fmt: skip
            if done is None or done.returncode != 0:
                yield f"{name}: its Python cannot import django: {done.stderr[-300:] if done else 'it is not there'}"

    def _packages(self, name: str, folder: Path) -> Iterator[str]:
        """Every file of each wheel's RECORD is there, byte for byte (recording-installed-packages)."""
        packages = next(folder.glob("venv/lib/python*/site-packages"), None)
        records = sorted(packages.glob("*.dist-info/RECORD")) if packages else []
        if packages is None or not records:
            yield f"{name}: no package is installed"
        for record in records:
            try:
                with record.open(newline="") as file:
                    rows = list(csv.reader(file))
                wanted = {path: value for path, value, size in rows if size}
            except (ValueError, csv.Error) as error:
                yield f"{name}: {record.parent.name}/RECORD: {error}"
                continue
            if [f"{record.parent.name}/RECORD", "", ""] not in rows:
                yield f"{name}: {record.parent.name}/RECORD does not name itself"
            for path, value in wanted.items():
                if recorded(f"{packages}/{path}", self.read) != value:
                    yield f"{name}: {path} is not what its package recorded"

    def _static(self, name: str) -> Iterator[str]:
        """Every file that collectstatic's own list names is there."""
        listed = self.root / "releases" / name / "static" / "staticfiles.json"
        try:
            paths = json.loads(listed.read_text())["paths"].values()
        except (OSError, ValueError, KeyError) as error:
            yield f"{name}: static/staticfiles.json: {error}"
            return
        for path in paths:
            if not (listed.parent / path).is_file():
                yield f"{name}: static/{path} is not there"

    def _database(self, live: str, names: list[str]) -> Iterator[str]:
        assert self.database is not None
        if not self.database.exists() or not self.database.stat().st_size:
            if live:
                yield "there is no database"
            return
        with tempfile.TemporaryDirectory(prefix="bb-oracle-") as scratch:
            for end in ("", "-journal", "-wal"):  # a copy, so that a look does not repair what is looked at
                if os.path.exists(f"{self.database}{end}"):
                    shutil.copy(f"{self.database}{end}", f"{scratch}/copy{end}")
            connection = sqlite3.connect(f"{scratch}/copy")
            try:
                checked = connection.execute("PRAGMA integrity_check").fetchone()[0]
                tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                known = "django_migrations" in tables
                applied = set(connection.execute("SELECT app, name FROM django_migrations")) if known else set()
                columns = {row[1] for row in connection.execute("PRAGMA table_info(notes_note)")}
            except sqlite3.DatabaseError as error:
                yield f"the database cannot be read: {error}"
                return
            finally:
                connection.close()
        if checked != "ok":
            yield f"the database is broken: {checked}"
        for name in names:
            depends = migrations_of(self.root / "releases" / name) if name not in self.ignore else {}
            for migration in applied & set(depends):
                if missing := set(depends[migration]) - applied:
                    yield f"the database has {migration} without {sorted(missing)}"
            if name == live and (lacking := set(depends) - applied):
                yield f"the database lacks {sorted(lacking)}, which the live release needs"
        wanted = {f"c{int(name[:4])}" for app, name in applied if app == "notes" and re.match(r"\d{4}_c", name)}
        if wanted != {c for c in columns if re.fullmatch(r"c\d+", c)} and columns:
            yield f"the table has the columns {sorted(columns)}, the record of migrations says {sorted(wanted)}"

    def _leftovers(self) -> Iterator[str]:
        """Names that only a run under way may have. (A mirror's copy aside is the next fetch's to remove.)"""
        for folder, pattern in (
            (self.root, r"\.current\.new"), (self.root / "state", r"\..*\.new"), (self.root / "slots", r"\..*"),
            (self.root / "releases", r"\..*"), (self.root / "sets", r"\..*"),
            *((self.root / "releases" / n, r"\.release\.json\.new") for n in self.names()),
        ):  # fmt: skip
            for entry in os.listdir(folder) if folder.is_dir() else ():
                if re.fullmatch(pattern, entry):
                    yield f"left over: {folder / entry}"

    def _processes(self, live: str) -> Iterator[str]:
        """Nobody holds the lock, no program of a run goes on, and what serves is the live release, not an older one."""
        lock = self.root / "state" / "lock"
        if lock.exists():
            with lock.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield f"the lock is held: {[describe(pid) for pid in holders(lock)]}"
        found = users(self.root)
        serves = self.serves or (b"serve.py" if self.port else b"")
        serving = [pid for pid in found if serves and serves in command_line(pid)]
        for pid in found:
            if pid not in serving:
                yield f"a process is left: {describe(pid)}"
            elif not f"{cwd_of(pid)}/".startswith(f"{self.root}/releases/{live}/"):
                yield f"a process serves from {cwd_of(pid)}, and {live} is live: {describe(pid)}"
        if self.port and self.manifest(live).get("state") == "verified":
            answer = health_of(self.port)
            if answer != (200, "well", live):
                yield f"{live} is live and verified, but the health page says {answer}"


@cache
def tree_of(repository: Path, revision: str) -> dict[str, str]:
    """Path and blob hash of every file of a revision, as git has them."""
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-tree", "-r", "-z", revision], cwd=repository,
        capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        **unprivileged(),
    )  # fmt: skip
    entries = (entry.partition("\t") for entry in done.stdout.split("\0") if entry)
    return {path: facts.split()[2] for facts, _, path in entries}


def recorded(path: str, read: Read) -> str:
    """A file's hash as RECORD has it, "" when there is none."""
    try:
        facts = os.stat(path)
        key = (facts.st_ino, facts.st_size, facts.st_ctime_ns, "RECORD")
        if key not in read:
            digest = hashlib.sha256(Path(path).read_bytes()).digest()
            read[key] = "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    except OSError:
        return ""
    return read[key]


def health_of(port: int) -> tuple[int, str, str]:
    """Status, body and release, as the service tells them; (0, the reason, "") when it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/health/")
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers.get("X-Release", "")
    except OSError as error:
        return 0, str(error), ""
    finally:
        connection.close()


def is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def put_others(root: Path) -> None:
    """Put uploads into `shared`, and beside the root what looks like another one: from now on they must stay as they are."""
    for folder in (root / "shared" / "media", root.parent / f"beside-{root.name}" / "releases" / "2001-01-01-00-00-00"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"no release's, no agent's\xff")
    (root.parent / f"beside-{root.name}" / "current").symlink_to("releases/2001-01-01-00-00-00")
    (root.parent / f"{root.name}.{OTHERS}").write_text(json.dumps(others(root)))


def others_put(root: Path) -> dict[str, str]:
    """What there was, {} where nothing was put."""
    path = root.parent / f"{root.name}.{OTHERS}"
    return json.loads(path.read_text()) if path.exists() else {}


def others(root: Path) -> dict[str, str]:
    """What is nobody's but the site's, and what lies beside the root: mode and content of each, by path."""
    found = {}
    for folder in (root / "shared" / "media", root.parent / f"beside-{root.name}"):
        for path in (folder, *folder.rglob("*")) if folder.exists() else ():
            content = os.readlink(path) if path.is_symlink() else path.read_bytes().hex() if path.is_file() else ""
            found[os.path.relpath(path, root)] = f"{path.lstat().st_mode:o} {content}"
    return found


def is_just_begun(folder: Path) -> bool:
    """A folder whose manifest has not been written yet holds nothing else."""
    return set(os.listdir(folder)) <= {".release.json.new"}


def blob_hash(path: Path, like: str) -> str:
    """The hash that git would give a file (or a link), in the algorithm of `like`."""
    try:
        content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
    except OSError as error:
        return type(error).__name__
    kind = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return kind(b"blob %d\0" % len(content) + content).hexdigest()


def migrations_of(release: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """The migrations of a release's own apps and what each depends on, read as text, not run.

    One that is damaged has none: if its release was finished, it is not what its revision has, which is told elsewhere.
    """
    found = {}
    for path in release.glob("app/*/migrations/[0-9]*.py"):
        depends: list[tuple[str, str]] = []
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "dependencies":
                depends = [d for d in ast.literal_eval(node.value) if isinstance(d, tuple)]
        found[path.parts[-3], path.stem] = depends
    return found


def processes() -> Iterator[int]:
    """Every process that runs; one that ended and was not collected does not."""
    for word in os.listdir("/proc"):
        try:
            if word.isdigit() and Path(f"/proc/{word}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                yield int(word)
        except (FileNotFoundError, ProcessLookupError):
            continue


def holders(path: Path) -> list[int]:
    """Who has a file open."""
    return [pid for pid in processes() if any(target == str(path) for target in opened(pid))]


def users(root: Path) -> list[int]:
    """Processes that work in or below the root, were started for it, or have its files open: ours excepted."""
    inside = os.fsencode(f"{root}/")
    ours = ancestors()
    return [
        pid for pid in processes()
        if pid not in ours
        and sees(pid, root)
        and (inside in command_line(pid)
             or f"{cwd_of(pid)}/".startswith(f"{root}/")
             or any(target.startswith(f"{root}/") for target in opened(pid)))
    ]  # fmt: skip


def sees(pid: int, root: Path) -> bool:
    """Is it the same folder to this process? With mounts of its own it may have another one under that name."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root{root}"), os.stat(root))
    except PermissionError:
        return True  # where it cannot be asked, it is rather told
    except OSError:
        return False


def ancestors() -> Collection[int]:
    """This process and all above it."""
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def cwd_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def opened(pid: int) -> list[str]:
    found = []
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
            except OSError:
                continue
    except OSError:
        return []
    return found


def describe(pid: int) -> str:
    return f"{pid} ({command_line(pid).replace(chr(0).encode(), b' ').decode(errors='replace').strip()[:200]})"


def children_of(pid: int) -> list[tuple[int, str]]:
    """The processes below one, with their command lines; a Django command may be a child of its stage.

    The kernel lists them for each thread on its own: what another thread of the installer started counts as well.
    """
    found = []
    for path in glob.iglob(f"/proc/{pid}/task/*/children"):
        try:
            words = Path(path).read_text().split()
        except OSError:
            continue
        for word in words:
            found.append((int(word), command_line(int(word)).replace(b"\0", b" ").decode(errors="replace")))
            found += children_of(int(word))
    return found


def stop_tree(pid: int, *, sparing: str = "\0") -> list[int]:
    """Stop a process and all below it, but those with a word in their command line; returns the stopped ones.

    They are looked for until there are no new ones: a process starts none once it has been sent the signal.
    """
    stopped: list[int] = []
    deadline = time.monotonic() + 5  # who waits for a child that has not become its program yet cannot be stopped
    while (tree := [pid, *(child for child, line in children_of(pid) if sparing not in line)]) != stopped:
        for one in tree:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)
        while any(map(goes_on, tree)) and time.monotonic() < deadline:
            time.sleep(0.001)  # on a busy machine it may take a while until each has noticed
        stopped = tree
    return stopped


def goes_on(pid: int) -> bool:
    """Has any thread of a process neither ended nor been stopped?"""
    for path in glob.iglob(f"/proc/{pid}/task/*/stat"):
        with suppress(OSError):
            if Path(path).read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return True
    return False
