"""One power cut: a scenario on a fresh image, cut at one operation of the agent's, mounted again and looked at."""

from __future__ import annotations

import enum
import json
import os
import select
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import power_host as host
from oracle import Read
from power_ground import ROWS, Ground
from power_oracle import fingerprint, problems

from example_site import Site, unprivileged

PATIENCE_SECONDS = 180


class Again(enum.Enum):
    """Is there a deploy after the repair: none, a new one, or one that builds on what the cut left?"""

    NO = "no"
    ANEW = "anew"
    RESUMED = "resumed"


@dataclass(frozen=True)
class Scenario:
    """What the agent is told to do, from which base, and which revisions may be live then."""

    name: str
    words: tuple[str, ...]
    before: str  # the revision that is live before
    after: str  # the one that is live when all went well
    base: str = "three"
    exit_code: int = 0
    healthy: bool = True  # False: the new release is not, and must never stay
    stay: tuple[str, ...] = ("first", "second", "third")  # the revisions whose releases are there before and afterwards
    part: str = ""  # only what is done to this path, and until it is done: what follows is another scenario's

    @property
    def rows(self) -> int:
        """What the database holds and must keep: nothing before the first release."""
        return 0 if self.base == "empty" else ROWS


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("switch", ("switch", "previous"), "third", "second"),
        Scenario("rollback", ("rollback",), "third", "second"),
        Scenario("prune", ("prune", "--keep", "1"), "third", "third", stay=("third",)),
        Scenario("deploy", ("deploy",), "third", "next"),
        Scenario("switched-back", ("deploy", "bad"), "third", "third", exit_code=20, healthy=False),
        Scenario("first-deploy", ("deploy",), "", "next", base="empty", stay=()),
        Scenario("mirror-repair", ("deploy",), "third", "next", base="damaged", part="mirror.git"),
    )
}


@dataclass
class Seen:
    """What one power cut left, and what became of it."""

    scenario: str
    kind: str
    operation: str  # the one that the power did not let happen; "the end" when the agent had finished
    exit_code: int | None = None  # the agent's, when it came to its end
    operations: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    live: str = ""
    seconds: float = 0.0
    unmountable: bool = False  # the file system's own journal could not be replayed: nothing of the agent was looked at

    def __str__(self) -> str:
        return f"{self.scenario} on {self.kind}, cut at {self.operation}: " + "; ".join(self.broken[:6])


def undisturbed(ground: Ground, scenario: Scenario, kind: str) -> tuple[Seen, str, dict[str, str]]:
    """Run a scenario to its end: its operations, and the fingerprint of the newest release."""
    began = time.monotonic()
    seen = Seen(scenario.name, kind, "nothing")
    with scene(ground, scenario, kind) as (site, image), host.mounted(image, kind, site.root):
        agent = start(site, scenario.words)
        follow(agent, seen, None)
        output = agent.process.communicate()[0]
        seen.exit_code = agent.process.returncode
        seen.seconds = time.monotonic() - began
        if seen.exit_code != scenario.exit_code:
            raise RuntimeError(f"{scenario.name} ended with {seen.exit_code}: {output}")
        newest = max((site.root / "releases").glob("2*"))
        return seen, (newest / "REVISION").read_text().strip(), fingerprint(newest)


def cut(
    ground: Ground, scenario: Scenario, kind: str, at: int | float | None, *,
    synced: bool = True, again: Again = Again.NO, in_recover: int = 0,
) -> Seen:  # fmt: skip
    """Cut the power before the operation number `at` (a float: after so many seconds; None: after the agent's end).

    `in_recover`: cut it once more, before this operation of the `recover` that follows.
    """
    began = time.monotonic()
    seen = Seen(scenario.name, kind, "the end")
    with scene(ground, scenario, kind) as (site, image):
        cut_once(seen, site, image, scenario.words, at, synced=synced)
        if in_recover:
            first, seen.operation = seen.operation, "the end"
            ended = seen.exit_code
            cut_once(seen, site, image, ("recover",), in_recover)
            seen.operation, seen.exit_code = f"{first}, then in recover at {seen.operation}", ended
        with host.mounted(image, kind, site.root), host.another_boot(image.parent):
            look_and_repair(ground, scenario, site, seen, again=again)
    seen.seconds = time.monotonic() - began
    return seen


def cut_once(
    seen: Seen, site: Site, image: Path, words: tuple[str, ...], at: int | float | None, *, synced: bool = True
) -> None:
    """Start the agent, and pull the plug."""
    with host.mounted(image, seen.kind, site.root):
        agent = start(site, words, stop=at if isinstance(at, int) else 0, synced=synced)
        try:
            follow(agent, seen, at if isinstance(at, float) else None)
            host.cut_power(site.root)
            seen.exit_code = agent.process.poll()
        finally:
            end(agent)


def look_and_repair(
    ground: Ground, scenario: Scenario, site: Site, seen: Seen, *, repair: bool = True, again: Again = Again.NO
) -> None:
    """The oracle, `recover`, the oracle, and perhaps a deploy: each in its turn must find and leave all well."""
    read = read_before(ground, scenario, seen.kind)
    known = partial(ground.known, stay=scenario.stay, rows=scenario.rows, read=read)
    passing = {"bad"} if not scenario.healthy else set()
    said_so = seen.exit_code == scenario.exit_code  # then it holds
    may = {scenario.after} if said_so else {scenario.before, scenario.after} | passing
    seen.broken += [f"after the cut: {text}" for text in problems(site.root, known(*may))]
    remember(ground, scenario, seen.kind, read)
    seen.live = site.current()
    if seen.broken or not repair:  # what is broken is not repaired by more commands
        return
    if scenario.base != "empty" or (site.root / "releases").is_dir():
        done = site.run("recover")
        if done.returncode:
            seen.broken.append(f"recover ended with {done.returncode}: {done.stdout}{done.stderr}")
        found = problems(site.root, known(*(may - passing)), repaired=True)
        seen.broken += [f"after recover: {text}" for text in found]
    if again is not Again.NO:
        unfinished = unfinished_of(ground, site) if again is Again.RESUMED else []
        done = site.run("deploy", *(unfinished or ["--force"]))
        if done.returncode:
            seen.broken.append(f"the next deploy ended with {done.returncode}: {done.stdout}{done.stderr}")
        found = problems(site.root, known("next"), repaired=True)
        seen.broken += [f"after the next deploy: {text}" for text in found]


def unfinished_of(ground: Ground, site: Site) -> list[str]:
    """The options that build on the release that the cut left unfinished, where there is one of the wanted revision."""
    for path in site.root.glob("releases/*/release.json"):
        facts = json.loads(path.read_text())
        if facts["state"] == "failed" and facts["revision"] == ground.revisions["next"]:
            return ["--resume", path.parent.name]
    return []


_read: dict[Path, Read] = {}
_looks: Counter[Path] = Counter()


def read_before(ground: Ground, scenario: Scenario, kind: str) -> Read:
    """What is known of the base's files: all images are copies of it. Every tenth look reads all of them again."""
    base = ground.image(kind, scenario.base)
    _looks[base] += 1
    return {} if _looks[base] % 10 == 0 else dict(_read.get(base, {}))


def remember(ground: Ground, scenario: Scenario, kind: str, read: Read) -> None:
    """Only of files that are as old as the base: what the scenario wrote is read each time."""
    base = ground.image(kind, scenario.base)
    made_at = base.stat().st_mtime_ns
    _read[base] = {key: content for key, content in read.items() if key[2] < made_at}


@contextmanager
def scene(ground: Ground, scenario: Scenario, kind: str) -> Iterator[tuple[Site, Path]]:
    """A fresh image, and a configuration of this process's own."""
    folder = ground.images / f"{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    folder.chmod(0o755)
    site = Site.__new__(Site)
    site.__dict__.update(ground.site.__dict__)
    site.settings = dict(ground.site.settings)
    site.config = folder / "broken_brackets.toml"
    image = folder / "image"
    with answering(site.root) as port:
        if not scenario.healthy:
            site.settings["rehearse"] = "false"
            site.settings["[health]"] = (
                f'\n[health]\nurl = "http://127.0.0.1:{port}/"\ntimeout_seconds = 2\ninterval_seconds = 0.05\n'
            )
        site.write_config()
        host.copy_image(ground.image(kind, scenario.base), image)
        try:
            yield site, image
        finally:
            shutil.rmtree(folder)


@contextmanager
def answering(root: Path) -> Iterator[int]:
    """A web server whose answer is in the release that is live: a revision decides itself whether it is well."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                status = int((root / "current" / "app" / "answer").read_text().split()[0])
            except (OSError, ValueError, IndexError):
                status = 503
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:  # its socket is closed whatever happens, and the thread would ask it for ever
            server.shutdown()
            thread.join()


@dataclass
class Agent:
    process: subprocess.Popen[str]
    pipe: int


def start(site: Site, words: tuple[str, ...], *, stop: int = 0, synced: bool = True) -> Agent:
    """Start the agent as the deploy user, with a pipe on which it tells its operations."""
    reading, writing = os.pipe()
    environment = {
        **site.environment(), "PYTHONPATH": str(site.folder / "power_inside"), "BB_POWER_FD": str(writing),
        "BB_POWER_ROOT": str(site.root), "BB_POWER_STOP": str(stop), "BB_POWER_NO_SYNC": "" if synced else "1",
    }  # fmt: skip
    process = subprocess.Popen(
        site.command(*words), cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, pass_fds=(writing,), **unprivileged(),
    )  # fmt: skip
    os.close(writing)
    return Agent(process, reading)


def end(agent: Agent) -> None:
    """No more of it, nor of what it started."""
    if agent.process.poll() is None:
        host.end_tree(agent.process.pid)
    agent.process.communicate()


def follow(agent: Agent, seen: Seen, seconds: float | None) -> None:
    """Read what the agent tells until it stands still, has ended, or the time is over."""
    deadline = time.monotonic() + (PATIENCE_SECONDS if seconds is None else seconds)
    text, ended = b"", False
    try:
        while True:
            ready, _, _ = select.select([agent.pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                if seconds is None:
                    host.end_tree(agent.process.pid)
                    raise RuntimeError(f"{seen.scenario} did not come to its end: {text[-500:]!r}")
                break
            chunk = os.read(agent.pipe, 65536)
            text, ended = text + chunk, not chunk
            if ended or text.endswith(b"\nstop\n"):
                break
    finally:
        os.close(agent.pipe)
    lines = text.decode().splitlines()
    seen.operations = [line for line in lines if line != "stop"]
    if ended:
        agent.process.wait(PATIENCE_SECONDS)
    elif lines and lines[-1] == "stop":
        seen.operation = lines[-2]
    else:
        seen.operation = f"{seconds:.2f} s, after {lines[-1] if lines else 'nothing'}"
