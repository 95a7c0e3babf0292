"""When there is no way back, or it fails too: the truth is told once, and what comes next is an ordinary run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from example_site import Site, unprivileged

UNWELL = """

def health(request, well=health):
    import os, sys
    from django.http import HttpResponse
    said = os.path.exists(os.path.dirname(os.environ["DATABASE_PATH"]) + "/unwell")
    if "gunicorn" in sys.modules and ({always} or said):
        return HttpResponse("unwell", status=500)
    return well(request)
"""
RUN = '\n[[run]]\nat = "before-collect-static"\ncommand = {command}\n'
BREAKS_WHAT_IS_LIVE = RUN.format(command='["touch", "{root}/shared/unwell"]')
CLOSES_STATE = RUN.format(command='["chmod", "500", "{root}/state"]')
FILLS_STATE = RUN.format(command='["sh", "-c", "dd if=/dev/zero of={root}/state/fill bs=1k 2>/dev/null; exit 0"]')


@pytest.fixture(scope="module")
def views(live_site: Site) -> str:
    """As they are before a test changes them."""
    live_site.config.write_text(live_site.config.read_text().replace("timeout_seconds = 15", "timeout_seconds = 8"))
    return (live_site.repository / "brackets/views.py").read_text()


@pytest.fixture
def site_with_a_switch(live_site: Site, views: str, request: pytest.FixtureRequest) -> Site:
    """What is live is unwell as soon as there is a file."""
    site = live_site
    (site.root / "shared" / "unwell").unlink(missing_ok=True)
    site.own()
    (site.repository / "brackets/views.py").write_text(views + UNWELL.format(always=False))
    site.edit("NOTE", request.node.name)
    site.ok("unhold")
    site.ok("deploy")
    return site


def push_a_bad_one(site: Site) -> str:
    views = (site.repository / "brackets/views.py").read_text()
    return site.edit("brackets/views.py", views + UNWELL.format(always=True))


def manifest(site: Site, name: str) -> dict[str, object]:
    facts: dict[str, object] = json.loads((site.root / "releases" / name / "release.json").read_text())
    return facts


def pid_of_web(site: Site) -> int:
    return int(next(u["pid"] for u in json.loads(site.run("status", "--json").stdout)["units"] if u["name"] == "web"))


def test_a_way_back_that_fails_too_is_tried_once_and_the_next_deploy_is_an_ordinary_one(
    site_with_a_switch: Site,
) -> None:
    site = site_with_a_switch
    good = site.current()
    push_a_bad_one(site)
    config = site.config.read_text()
    site.config.write_text(config + BREAKS_WHAT_IS_LIVE.format(root=site.root))

    done = site.deploy()

    assert 21 == done.returncode, done.stdout + done.stderr
    assert f"live on {good}; the way back to {good}" in done.stderr
    assert "restart; or deploy what mends it" in done.stderr
    assert good == site.current()
    newest = max(site.states())
    assert "bad" == site.states()[newest]

    # nobody restarts it over and over: timers are held, and what only removes is not in the way
    before = pid_of_web(site)
    for _ in range(2):
        tick = site.run("deploy", "--if-changed")
        assert (0, "", "") == (tick.returncode, tick.stdout, tick.stderr)
    site.ok("prune")
    site.ok("recover")
    assert before == pid_of_web(site)
    status = site.run("status")
    assert 1 == status.returncode
    assert "bb-release --config" in status.stdout
    assert " restart" in status.stdout

    # what the remedy says, once the cause is gone
    (site.root / "shared" / "unwell").unlink()
    site.ok("restart")
    site.ok("status")
    (site.root / "shared" / "unwell").touch()
    site.config.write_text(config)

    # or forward, past the old release that cannot serve
    views = (site.repository / "brackets/views.py").read_text().replace(UNWELL.format(always=True), "")
    site.edit("brackets/views.py", views.replace(UNWELL.format(always=False), ""))
    site.ok("deploy")
    assert good != site.current() == site.answering()["release"]
    assert json.loads(site.ok("status", "--json"))["hold"] is None


def test_told_not_to_switch_back_a_run_leaves_the_new_release_live_and_so_does_its_recovery(
    site_with_a_switch: Site,
) -> None:
    site = site_with_a_switch
    good = site.current()
    push_a_bad_one(site)

    done = site.deploy("--no-switch-back")

    assert 21 == done.returncode, done.stdout + done.stderr
    assert "told not to switch back" in done.stderr
    bad = site.current()
    assert good != bad == max(site.states())
    assert "bad" == site.states()[bad]

    # a bad one that is live is no way back for itself
    again = site.run("switch", bad, "--force")
    assert 20 == again.returncode, again.stdout + again.stderr
    assert f"switched back to {good}" in again.stderr
    assert good == site.current() == site.answering()["release"]
    assert {good: "verified", bad: "bad"}.items() <= site.states().items()
    site.ok("unhold")

    # the same, killed once the link has moved
    site.edit("NOTE", "another bad one")
    agent = subprocess.Popen(
        site.command("deploy", "--no-switch-back"), cwd="/", env=site.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **unprivileged(),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while site.current() == good:
            assert agent.poll() is None, "it was done before"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait()
    new = site.current()
    assert "activating" == manifest(site, new)["state"]

    recovered = site.run("recover")

    assert 21 == recovered.returncode, recovered.stdout + recovered.stderr
    assert "told not to switch back" in recovered.stderr
    assert new == site.current()
    assert "bad" == site.states()[new]


@contextmanager
def state_on_a_small_disk(site: Site) -> Iterator[None]:
    """`state/` as it is, on a file system of its own."""
    state, before = site.root / "state", site.folder / "state-before"
    shutil.copytree(state, before, symlinks=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", state], check=True)
    try:
        shutil.copytree(before, state, dirs_exist_ok=True)
        site.own(state)
        yield
    finally:
        subprocess.run(["umount", state], check=True)
        shutil.rmtree(before)


@pytest.mark.parametrize(
    ("trouble", "way_back"), [("closed", "works"), ("closed", "fails"), ("full", "works"), ("full", "fails")]
)
def test_a_verdict_that_cannot_be_recorded_is_told_with_what_records_it(
    site_with_a_switch: Site, trouble: str, way_back: str
) -> None:
    if trouble == "full" and os.geteuid() != 0:
        pytest.skip("skipped: only root can mount a disk")
    site = site_with_a_switch
    good = site.current()
    push_a_bad_one(site)
    config = site.config.read_text()
    more = CLOSES_STATE if trouble == "closed" else FILLS_STATE
    more += BREAKS_WHAT_IS_LIVE if way_back == "fails" else ""
    with state_on_a_small_disk(site) if trouble == "full" else nullcontext():
        site.config.write_text(config + more.format(root=site.root))
        done = site.deploy()
        site.config.write_text(config)
        newest = max(site.states())
        facts = (site.current(), site.states()[newest], (site.root / "state/hold.json").exists())
        (site.root / "state").chmod(0o700)
        (site.root / "state/fill").unlink(missing_ok=True)
        (site.root / "shared/unwell").unlink(missing_ok=True)

        # nothing of it was written, and that is what was said
        assert (21, (good, "returning", False)) == (done.returncode, facts), done.stdout + done.stderr
        said = {
            key: text.strip() for key, _, text in (line.strip().partition(": ") for line in done.stderr.splitlines())
        }
        became = f"live on {good}; the way back to {good} (" if way_back == "fails" else f"switched back to {good} ("
        assert said["site"].startswith(became)
        assert said["site"].endswith(
            "; but that could not be recorded: the next run, a timer's too, begins with it again"
        )
        room = "free some space, then run: " if trouble == "full" else "see whose it is, and its mode: namei -l "
        assert said["remedy"].startswith(room)
        assert said["remedy"].endswith(f"then run: bb-release --config {site.config} recover")

        assert "recovered: " in site.run("recover").stdout
        assert (good, "bad") == (site.current(), site.states()[newest])
        assert json.loads(site.ok("status", "--json"))["hold"]["reason"].startswith(f"release {newest} was not well")
        site.ok("unhold")
