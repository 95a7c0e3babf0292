"""`status` tells the truth of the site as it is, and what to type; each remedy is typed as it stands."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from example_site import Site, unprivileged


def typed(site: Site, said: str) -> subprocess.CompletedProcess[str]:
    """The first remedy that was printed, done by a shell as the deploy user."""
    line = next(line for line in said.splitlines() if line.strip().startswith("remedy:"))
    env = {**site.environment(), "PATH": f"{site.program.parent}:/usr/bin:/bin"}
    return subprocess.run(
        line.partition("remedy:")[2], shell=True, cwd="/", env=env, text=True, capture_output=True, **unprivileged()
    )


def point(site: Site, name: str) -> None:
    current = site.root / "current"
    current.unlink()
    current.symlink_to(f"releases/{name}")
    site.own(site.root)


@pytest.fixture(scope="module")
def two(live_site: Site) -> tuple[str, str]:
    """The names of the first release and of the second one, which is live."""
    first = live_site.current()
    live_site.edit("NOTE", "the second\n")
    live_site.ok("deploy")
    return first, live_site.current()


def test_processes_and_a_health_page_of_another_release_are_not_well_until_the_remedy_was_typed(
    live_site: Site, two: tuple[str, str]
) -> None:
    first, second = two
    assert live_site.run("status").returncode == 0
    point(live_site, first)
    done = live_site.run("status")
    assert (1, True) == (done.returncode, f", runs from {second}" in done.stdout), done.stdout
    assert f"does not name the release {first}" in done.stdout
    mended = typed(live_site, done.stdout)
    assert mended.returncode == 0, mended.stderr
    after = live_site.run("status")
    assert (0, False) == (after.returncode, "remedy:" in after.stdout), after.stdout
    assert live_site.answering()["release"] == first
    live_site.ok("switch", second)


def test_a_missing_link_is_not_a_first_deploy(live_site: Site, two: tuple[str, str]) -> None:
    (live_site.root / "current").unlink()
    assert "current is not there; " + two[1] in live_site.run("check").stdout
    assert f"{two[1]} " in json.loads(live_site.ok("deploy", "--plan", "--json"))["why"]
    for words in (("restart",), ("manage", "--", "check")):
        refused = live_site.run(*words)
        assert (11, True) == (refused.returncode, f"current is not there, and {two[1]} " in refused.stderr)
        assert re.search(rf"remedy: +bb-release .*switch {two[1]}$", refused.stderr, re.MULTILINE), refused.stderr
    said = live_site.run("deploy", "nowhere").stderr
    assert re.search(
        rf"site: +{live_site.root}/current is not there, and {two[1]} .*: bb-release .*switch {two[1]}; ", said
    )
    done = live_site.run("status")
    assert (1, True) == (done.returncode, f"nothing; {two[1]}" in done.stdout)
    mended = typed(live_site, done.stdout)
    assert mended.returncode == 0, mended.stderr
    assert (two[1], 0) == (live_site.current(), live_site.run("status").returncode)


def test_list_works_without_a_usable_link_and_says_what_is_wrong_with_it(live_site: Site, two: tuple[str, str]) -> None:
    current = live_site.root / "current"
    try:
        point(live_site, "2001-01-01-00-00-00")
        done = live_site.run("list")
        assert (21, True, False) == (done.returncode, two[0] in done.stdout, " live" in done.stdout)
        assert f"ln -sfn releases/{two[1]} {current}" in done.stderr
        current.unlink()
        current.mkdir()
        done = live_site.run("list", "--json")
        assert (21, False) == (done.returncode, any(row["live"] for row in json.loads(done.stdout)))
        assert f"switch {two[1]}" in done.stderr
    finally:
        shutil.rmtree(current, ignore_errors=True) if not current.is_symlink() else None
        current.unlink(missing_ok=True)
        current.symlink_to(f"releases/{two[1]}")
    assert live_site.run("list").returncode == 0


def test_what_was_left_is_recovered_first_and_a_killed_run_is_no_run(live_site: Site, two: tuple[str, str]) -> None:
    manifest = live_site.root / "releases" / two[0] / "release.json"
    text, lock = manifest.read_text(), live_site.root / "state/lock"
    manifest.write_text(text.replace('"verified"', '"building"'))
    try:
        done = live_site.run("status")
        assert f"recover   # {two[0]}" in done.stdout
        told = json.loads(live_site.run("check", "--json").stdout)["to_do"]
        assert told[0].endswith(" recover")
        ended = subprocess.Popen(["true"])
        ended.wait()
        lock.write_text(json.dumps({"pid": ended.pid, "action": "deploy", "who": "ann", "since": "today"}))
        with lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            said = live_site.run("status").stdout
            assert "a program that a killed run left still writes; the run was: deploy by ann" in said
            lock.write_text(json.dumps({"pid": os.getpid(), "action": "deploy", "who": "ann"}))
            assert "running:  deploy by ann" in live_site.run("status").stdout
    finally:
        manifest.write_text(text)
        lock.write_text("")


def test_a_release_that_failed_after_its_migrations_left_the_database_ahead(
    live_site: Site, two: tuple[str, str]
) -> None:
    manifest = live_site.root / "releases" / two[1] / "release.json"
    folder = live_site.root / "releases" / "2099-01-01-00-00-00"
    facts = json.loads(manifest.read_text())
    facts.update(name=folder.name, state="failed", sequence=99, activations=[], migrations=["shop.0007_price"])
    folder.mkdir()
    (folder / "release.json").write_text(json.dumps(facts))
    live_site.own(folder)
    try:
        done = live_site.run("status")
        assert f"database: ahead by shop.0007_price (release {folder.name})" in done.stdout
        assert done.returncode == 0
    finally:
        shutil.rmtree(folder)
    assert "database:" not in live_site.run("status").stdout


def test_a_unit_that_was_added_later_and_runs_from_anywhere_is_not_well_until_it_was_restarted(
    live_site: Site, two: tuple[str, str]
) -> None:
    """Nothing of it has another release: only what proves this one is missing."""
    config, pid, root = live_site.config.read_text(), live_site.folder / "job.pid", live_site.root
    commands = {
        "status": f'kill -0 "$(cat {pid})" && cat {pid}',
        "restart": f'kill "$(cat {pid})"; set -a; . {root}/current/release.env; cd {root}/current/app\n'
        f"{root}/current/venv/bin/python -c 'import time; time.sleep(600)' >/dev/null 2>&1 & echo $! > {pid}",
    }
    for name, text in commands.items():
        path = live_site.folder / f"job-{name}"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    words = "\n".join(f'{name} = ["{live_site.folder}/job-{name}"]' for name in commands)
    live_site.config.write_text(f'{config}\n[[units]]\nname = "job"\nkind = "command"\nsettle_seconds = 0.5\n{words}\n')
    stray = subprocess.Popen(["sleep", "600"], cwd="/", **unprivileged())
    pid.write_text(f"{stray.pid}\n")
    live_site.own()
    try:
        done = live_site.run("status")
        assert (1, True) == (done.returncode, f"job: running, process {stray.pid}, not proven\n" in done.stdout), done
        assert re.search(r"restart job   # not proven: the main process of job .* have its working folder", done.stdout)
        found = {unit["name"]: unit for unit in json.loads(live_site.run("status", "--json").stdout)["units"]}
        assert ("", "its processes", "") == (found["job"]["proof"], found["web"]["proof"], found["web"]["unproven"])
        assert "job: running, not proven: " in live_site.run("check").stdout
        nothing = live_site.deploy()
        assert (21, True) == (nothing.returncode, "job: the main process of job" in nothing.stderr), nothing.stderr

        mended = typed(live_site, done.stdout)

        assert mended.returncode == 0, mended.stderr
        after = live_site.run("status")
        assert (0, True) == (after.returncode, "proven by its processes\n" in after.stdout.partition("job: ")[2])
        assert "nothing to do" in live_site.ok("deploy")
    finally:
        stray.kill()
        stray.wait()
        live_site.config.write_text(config)
        os.kill(int(pid.read_text()), signal.SIGKILL) if int(pid.read_text()) != stray.pid else None
        live_site.own()


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd answers here")
def test_both_instances_are_told_where_nobody_says_which_of_them_serves(live_site: Site, two: tuple[str, str]) -> None:
    """A worker has no socket that leads to one, and both slots lead to what is live: only systemd would know."""
    config, slots = live_site.config.read_text(), live_site.root / "slots"
    live_site.config.write_text(f'{config}\n[[units]]\nname = "worker@.service"\nhandover = "blue-green"\n')
    slots.mkdir(mode=0o700)
    for colour in ("blue", "green"):
        (slots / colour).symlink_to(f"../releases/{two[1]}")
    live_site.own()
    try:
        done = live_site.run("status")
        assert (1, "") == (done.returncode, done.stderr)
        told = re.findall(r"unit: +(\S+): systemd could not be asked", done.stdout)
        assert ["worker@blue.service", "worker@green.service"] == told, done.stdout
    finally:
        shutil.rmtree(slots)
        live_site.config.write_text(config)
        live_site.own()


def test_history_says_of_how_many_lines_it_shows_some(live_site: Site, two: tuple[str, str]) -> None:
    assert "the last 1 of " in live_site.ok("history", "--last", "1")
    assert "the last" not in live_site.ok("history", "--last", "1000")


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can be somebody else")
@pytest.mark.parametrize("words", [("status",), ("list",), ("history",), ("log",), ("prune", "--dry-run")])
def test_somebody_else_is_told_whose_it_is_and_what_to_type(live_site: Site, words: tuple[str, ...]) -> None:
    owner = live_site.config.stat()
    os.chown(live_site.config, 0, 0)  # as a file of /etc is
    try:
        done = subprocess.run(
            live_site.command(*words), cwd="/", env=live_site.environment(), text=True, capture_output=True,
            stdin=subprocess.DEVNULL, user=65533, group=65533, extra_groups=[],
        )  # fmt: skip
    finally:
        os.chown(live_site.config, owner.st_uid, owner.st_gid)
    assert (2, True) == (done.returncode, "error: not-the-owner" in done.stderr), done.stderr
    assert f"sudo -u nobody {Path(live_site.program).name} --config {live_site.config} {words[0]}" in done.stderr
