"""The main job, from one command, against a real gunicorn under a real supervisord."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess

import pytest

from example_site import Site

SECRET = "a-secret-that-must-not-be-shown"


def test_two_revisions_go_live_and_a_switch_takes_the_site_back(site: Site) -> None:
    assert site.run("status").returncode == 1  # nothing is live yet

    site.ok("deploy")
    first = site.current()

    assert site.answering()["release"] == first
    assert site.answering()["dependency"] == "0.5.3"
    old_page = site.get("/")[1]
    assert site.get("/")[0] == 200
    assert site.run("status").returncode == 0

    revision = site.second_revision()
    site.ok("deploy", "-m", "a language for snippets")
    second = site.current()

    assert first < second
    assert site.answering() == {"release": second, "dependency": "0.6.1", "revision": revision}
    assert old_page != site.get("/")[1]  # another hash in the name of the changed style sheet
    manifest = json.loads(site.ok("show"))
    assert manifest["migrations"] == ["brackets.0003_snippet_language"]
    assert manifest["packages"]["sqlparse"] == "0.6.1"

    again = site.ok("deploy")
    assert "nothing to do" in again
    assert site.current() == second

    said = site.ok("switch", first)
    assert "the database is ahead of this release by brackets.0003_snippet_language" in said
    assert site.current() == first
    assert site.answering()["dependency"] == "0.5.3"
    assert "hold" in site.ok("status")
    assert site.run("deploy", "--if-changed").returncode == 0  # held: silent
    assert site.current() == first

    site.ok("switch", second[:-1] if not first.startswith(second[:-1]) else second)
    site.ok("rollback", "-m", "a bad feeling")
    assert site.current() == first
    assert site.states() == {first: "verified", second: "bad"}
    refused = site.run("switch", second)
    assert refused.returncode == 11
    assert "--force" in refused.stderr
    assert site.run("rollback").returncode == 11

    site.ok("restart")
    events = [line["event"] for line in json.loads(site.ok("history", "--json"))]
    assert {"deploy_finished", "switch_finished", "rollback_finished", "restart_finished"} <= set(events)

    everything_written = b"".join(
        path.read_bytes()
        for folder in ("logs", "state", "releases")
        for path in (site.root / folder).rglob("*")
        if path.is_file() and not path.is_symlink() and "venv" not in path.parts
    )
    for told in (b"deploy_finished", b'"state": "verified"', b"BB_RELEASE="):  # the journal, a manifest, release.env
        assert told in everything_written
    assert SECRET.encode() not in everything_written


def test_modes_and_links_are_what_the_web_server_needs(live_site: Site) -> None:
    root = live_site.root
    release = root / "releases" / live_site.current()

    assert os.readlink(root / "current") == f"releases/{release.name}"
    assert re.fullmatch(r"[0-9a-f]{40}\n", (release / "REVISION").read_text())
    told = (release / "release.env").read_text()
    assert told.startswith(f"BB_RELEASE={release.name}\nBB_REVISION=")
    assert told.endswith(f"\nBB_ROOT={root}\n")  # another app may have a release of the same second
    assert list((root / "current" / "static").glob("brackets/site.*.css"))
    for path, mode in (("releases", 0o755), ("state", 0o700), ("logs", 0o700), (f"releases/{release.name}", 0o755)):
        assert stat.S_IMODE((root / path).stat().st_mode) == mode, path
    for log in (root / "logs").iterdir():
        assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_manage_and_exec_run_in_the_live_release(live_site: Site) -> None:
    name = live_site.current()

    out = live_site.ok("manage", "--", "shell", "-v", "0", "-c", "import sys, os; print(sys.prefix, os.getcwd())")
    assert out.strip() == f"{live_site.root}/releases/{name}/venv {live_site.root}/releases/{name}/app"
    assert live_site.ok("exec", "--", "sh", "-c", "echo $BB_RELEASE").strip() == name
    assert live_site.run("exec", "--", "sh", "-c", "exit 7").returncode == 7


def test_a_hold_stops_everyone_until_it_is_lifted(live_site: Site) -> None:
    live_site.ok("hold", "-m", "the database moves")
    held = live_site.run("deploy", "--force", "nonexistent-branch")
    assert held.returncode == 1  # --force goes past the hold, then the ref is not found
    refused = live_site.deploy()
    assert refused.returncode == 12
    assert "the database moves" in refused.stderr
    assert live_site.run("deploy", "--if-changed").returncode == 0
    live_site.ok("unhold")
    assert "nothing to do" in live_site.ok("deploy")


def test_a_timer_is_silent_when_nothing_changed_even_with_cron_s_environment(live_site: Site) -> None:
    done = live_site.run("deploy", "--if-changed", "--quiet", PATH="/usr/bin:/bin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_user_is_told_who_has_to_run_it(live_site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("skipped: needs root, to be another user than the owner")
    os.chown(live_site.config, 0, 0)  # as a file of /etc is
    done = subprocess.run(live_site.command("deploy"), capture_output=True, text=True, cwd="/")
    assert done.returncode == 2
    assert "error: not-the-owner" in done.stderr
    assert "sudo -u nobody bb-release" in done.stderr


def test_prune_keeps_what_it_says_and_says_why(live_site: Site) -> None:
    oldest = live_site.current()
    live_site.ok("pin", oldest)
    for number in range(4):
        live_site.edit("NOTE", f"{number}\n")
        live_site.ok("deploy")
    assert "remove" in live_site.ok("prune", "--keep", "1", "--dry-run")
    live_site.ok("prune", "--keep", "1")
    assert len(live_site.states()) == 3  # the live one, what was live before it, the pinned one
    live_site.ok("unpin", oldest)
    live_site.ok("prune", "--keep", "1")
    assert oldest not in live_site.states()
    assert live_site.answering()["release"] == live_site.current()
