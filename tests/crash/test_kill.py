"""kill -9 at random moments: `current` is always a whole release, and the next command repairs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from example_site import Site, unprivileged

KILLS = int(os.environ.get("KILLS", "100"))
GOOD = ("verified", "activating", "returning", "bad")


def check_whole(site: Site) -> str:
    """An oracle that reads the disk and nothing of the agent: the link, the manifest, the files' own sizes."""
    link = os.readlink(site.root / "current")
    folder, _, name = link.partition("/")
    assert folder == "releases"
    release = site.root / "releases" / name
    manifest = json.loads((release / "release.json").read_text())
    assert manifest["state"] in GOOD, manifest["state"]
    assert (release / "REVISION").read_text().strip() == manifest["revision"]
    for record in release.glob("venv/lib/python*/site-packages/*.dist-info/RECORD"):
        for line in record.read_text().splitlines():
            path, _, size = line.rsplit(",", 2)
            if size and not path.startswith(('"', "../")):
                assert (record.parents[1] / path).stat().st_size == int(size), path
    done = subprocess.run(
        [release / "venv/bin/python", "-c", "import django"], capture_output=True, cwd="/", **unprivileged()
    )
    assert done.returncode == 0, done.stderr
    return str(manifest["revision"])


def test_a_hundred_random_kills_leave_current_whole_and_the_next_deploy_succeeds(site: Site) -> None:
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    chance = random.Random(seed)
    print(f"SEED={seed}")
    site.bare = True
    site.write_config()
    site.ok("deploy")
    site.edit("NOTE", "a second one, timed\n")
    began = time.monotonic()
    site.ok("deploy")
    usual = time.monotonic() - began
    reached: Counter[str] = Counter()
    for number in range(KILLS):
        revision = site.edit("NOTE", f"{number}\n")
        agent = subprocess.Popen(
            site.command("deploy"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            stdin=subprocess.DEVNULL, env=site.environment(), **unprivileged(),
        )  # fmt: skip
        time.sleep(chance.uniform(0, 1.1 * usual))
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        reached[step_reached(site.root / "logs", number)] += 1
        check_whole(site)
        if number % 5 == 4:  # the children that a killed agent left keep the lock until they have ended
            done = site.deploy("--wait", "60")
            assert done.returncode == 0, done.stdout + done.stderr
            assert check_whole(site) == revision
    print(f"killed in: {dict(reached)}")
    assert len(reached) >= 5, reached
    assert set(site.states().values()) <= {"verified", "failed", "ready", "bad"}


def step_reached(logs: Path, number: int) -> str:
    """The last step that the newest log tells of."""
    newest = max(logs.glob("*-deploy.log"), default=None)
    step = "before the first step"
    for raw in newest.read_text().splitlines() if newest else ():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        step = line.get("step", step) if line.get("event", "").startswith("step_") else step
    return step
