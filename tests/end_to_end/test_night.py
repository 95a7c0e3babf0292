"""What goes wrong at night: each with its message, and the remedy taken by its word."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from example_site import Site, unprivileged
from other_settings import configured, run_at


def test_a_release_is_readable_for_the_site_whatever_the_umask_is(live_site: Site) -> None:
    live_site.edit("NOTE", "umask\n")
    words = shlex.join(live_site.command("deploy"))
    done = subprocess.run(
        ["sh", "-c", f"umask 077; {words}"], cwd="/", env=live_site.environment(), text=True, capture_output=True,
        check=False, **unprivileged(),
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    release = live_site.root / "releases" / live_site.current()
    closed = []
    for folder, folders, files in os.walk(release):
        for name in [*folders, *files]:
            path = Path(folder) / name
            wanted = 0o005 if path.is_dir() else 0o004
            if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & wanted != wanted:
                closed.append(str(path.relative_to(release)))
    assert [] == closed


def test_what_a_command_leaves_behind_does_not_keep_the_lock(live_site: Site) -> None:
    live_site.edit("NOTE", "a stray\n")
    with configured(live_site, **{"[run]": run_at("after-verify", "setsid sleep 300 > /dev/null 2>&1 &")}):
        live_site.ok("deploy")
        assert "nothing to do" in live_site.ok("deploy")


def test_a_persons_hold_outlives_runs_and_a_runs_hold_ends_with_a_deploy_by_hand(live_site: Site) -> None:
    first = live_site.current()
    live_site.edit("NOTE", "held\n")
    live_site.ok("deploy")
    second = live_site.current()

    live_site.ok("switch", first)
    assert "hold:" in live_site.ok("status")
    live_site.ok("switch", second)
    assert "hold:" in live_site.ok("status")
    assert "nothing to do" in live_site.ok("deploy")
    assert "hold:" not in live_site.ok("status")

    live_site.ok("hold", "-m", "the database moves")
    live_site.ok("switch", first)
    live_site.ok("hold")  # once more, without a reason: the reason stays
    assert "the database moves" in live_site.ok("status")
    assert 12 == live_site.deploy().returncode
    live_site.ok("deploy", "--force")
    assert "the database moves" in live_site.ok("status")
    live_site.ok("unhold")


def test_a_rollback_after_a_switch_back_does_not_go_forward(site: Site) -> None:
    site.ok("deploy")
    first = site.current()
    site.edit("NOTE", "the second\n")
    site.ok("deploy")
    site.ok("switch", first)
    done = site.run("rollback")
    assert (11, first) == (done.returncode, site.current())
    assert "bad" not in site.states().values()


def test_nothing_to_deploy_on_a_site_that_is_down_is_no_success(live_site: Site) -> None:
    live_site.ok("deploy")  # whatever the tests before have left
    supervisor = [str(live_site.program.with_name("python")), "-m", "supervisor.supervisorctl", "-s",
                  f"unix://{live_site.socket}"]  # fmt: skip
    subprocess.run([*supervisor, "stop", "web"], check=True, cwd="/", capture_output=True, **unprivileged())
    done = live_site.deploy()
    assert (21, "error: not-healthy") == (done.returncode, done.stderr.splitlines()[0])
    assert "web: STOPPED" in done.stderr
    assert f"remedy:  bb-release --config {live_site.config} restart" in done.stderr
    asked = live_site.run("switch", live_site.current())
    assert (21, "error: not-healthy") == (asked.returncode, asked.stderr.splitlines()[0])
    live_site.ok("restart")
    for words in (["deploy"], ["switch", live_site.current()]):
        assert "nothing to do" in live_site.ok(*words)


def test_the_site_line_knows_all_that_the_health_check_wants(live_site: Site) -> None:
    assert "), healthy; nothing live was changed" in live_site.run("deploy", "nowhere").stderr
    with configured(live_site, **{"[health]": 'body = "a text that nobody sends"\n'}):
        failed = live_site.run("deploy", "nowhere")
    assert (1, "error: ref-not-found") == (failed.returncode, failed.stderr.splitlines()[0])
    assert "), not healthy: the site answered 200 at" in failed.stderr
    assert 'but without the text "a text that nobody sends"' in failed.stderr


def test_what_is_closed_or_odd_below_releases_stops_nobody(live_site: Site) -> None:
    closed = live_site.root / "releases/2020-01-01-00-00-00"
    closed.mkdir(mode=0)
    odd = live_site.root / "releases/2020-01-01-00-00-01"
    odd.touch()
    live_site.own(closed, odd)
    try:
        said = live_site.ok("recover")
        live_site.ok("restart")
    finally:
        closed.chmod(0o755)
        closed.rmdir()
        odd.unlink()
    for name in (closed.name, odd.name):
        assert f"release {name} cannot be used" in said


def test_who_finds_current_taken_away_in_the_middle_of_a_deploy_needs_a_person(live_site: Site) -> None:
    link, away = live_site.root / "current", live_site.root / "away"
    live_site.edit("NOTE", "taken away\n")
    with configured(live_site, **{"[run]": run_at("after-collect-static", f"mv {link} {away}; mkdir {link}")}):
        done = live_site.deploy()
    link.rmdir()
    away.rename(link)
    assert (21, "error: state-unreadable") == (done.returncode, done.stderr.splitlines()[0])
    live_site.ok("deploy")


def test_what_the_disk_refuses_a_plan_and_a_command_is_no_bug_of_ours(live_site: Site) -> None:
    lock = live_site.root / "state/lock"
    lock.chmod(0)
    try:
        planned = live_site.deploy("--plan")
    finally:
        lock.chmod(0o600)
    assert (1, "error: storage-failed") == (planned.returncode, planned.stderr.splitlines()[0])
    with configured(live_site, subfolder='"not/yet"'):
        done = live_site.run("exec", "--", "true")
    assert (1, "error: command-failed") == (done.returncode, done.stderr.splitlines()[0])


def test_a_database_that_was_lost_is_not_made_anew_from_nothing(live_site: Site) -> None:
    database = live_site.root / "shared" / "db.sqlite3"
    live_site.edit("NOTE", "lost\n")
    kept = database.read_bytes()
    database.unlink()
    try:
        done = live_site.deploy()
        assert (1, "error: migrations-not-planned") == (done.returncode, done.stderr.splitlines()[0])
        assert "the database is empty, though" in done.stderr
    finally:
        database.write_bytes(kept)
        live_site.own(database)
    live_site.ok("deploy")


def test_a_broken_manifest_of_what_is_live_stops_everything_and_the_remedy_works(live_site: Site) -> None:
    live_site.edit("NOTE", "whole\n")
    live_site.ok("deploy")
    live = live_site.root / "releases" / live_site.current()
    manifest = (live / "release.json").read_bytes()
    before = sorted(path.name for path in live.parent.iterdir())
    (live / "release.json").write_bytes(manifest[:200])
    for words in (["recover"], ["deploy"], ["rollback"], ["status"]):
        done = live_site.run(*words)
        assert 21 == done.returncode, words
        assert "error: state-unreadable" in done.stderr
    assert before == sorted(path.name for path in live.parent.iterdir())
    remedy = re.search(r"(ln -sfnT \S+ \S+) && bb-release .*restart", done.stderr)
    assert remedy, done.stderr
    subprocess.run(["sh", "-c", f"cd {live_site.root} && {remedy[1]}"], check=True, **unprivileged())
    live_site.ok("restart")
    assert live_site.answering()["release"] == live_site.current() != live.name
    (live / "release.json").write_bytes(manifest)
    live_site.own(live / "release.json")
    live_site.ok("switch", live.name)
    live_site.ok("unhold")


def test_a_bad_first_release_is_good_again_when_a_restart_proves_it(site: Site) -> None:
    views = (site.repository / "brackets/views.py").read_text()
    flag = site.folder / "unwell"
    flag.touch()
    site.own(flag)
    site.edit("brackets/views.py", views + (
        "\n\nwell = health\n\n\ndef health(request):\n    import sys\n"
        f"    if 'gunicorn' in sys.modules and os.path.exists('{flag}'):\n        return JsonResponse({{}}, status=500)\n"
        "    return well(request)\n"
    ))  # fmt: skip
    assert 21 == site.deploy().returncode
    assert {site.current(): "bad"} == site.states()
    flag.unlink()
    site.ok("restart")
    assert {site.current(): "verified"} == site.states()
    assert 0 == site.run("status").returncode


def test_only_what_was_asked_for_is_resumed_and_a_pin_protects_a_failed_build(live_site: Site) -> None:
    done = live_site.deploy("--resume", "2001-01-01-00-00-00")
    assert (11, "error: no-such-release") == (done.returncode, done.stderr.splitlines()[0])
    broken = run_at("after-collect-static", "false")
    live_site.edit("NOTE", "to be resumed\n")
    with configured(live_site, **{"[run]": broken}):
        assert 1 == live_site.deploy().returncode
        older = max(live_site.states())
        live_site.ok("pin", older)
        assert 1 == live_site.deploy().returncode
        second = max(live_site.states())
        assert 1 == live_site.deploy().returncode
        assert 1 == live_site.deploy().returncode
        failed = {name for name, state in live_site.states().items() if state == "failed"}
        assert older in failed
        assert second not in failed
        assert 3 == len(failed)
    live_site.ok("unpin", older)
    live_site.ok("deploy")


def test_a_timer_tells_once_that_the_repository_cannot_be_reached(live_site: Site) -> None:
    away = live_site.repository.with_name("away")
    live_site.repository.rename(away)
    try:
        first, second = (live_site.deploy("--if-changed") for _ in range(2))
    finally:
        away.rename(live_site.repository)
    assert (1, "error: mirror-not-updated") == (first.returncode, first.stderr.splitlines()[0])
    assert (1, "", "") == (second.returncode, second.stdout, second.stderr)
    assert (0, "") == ((done := live_site.deploy("--if-changed")).returncode, done.stderr)


def test_a_password_inside_an_address_is_never_shown(live_site: Site) -> None:
    secrets = live_site.root / "shared" / "site.env"
    before = secrets.read_text()
    secrets.write_text(before + "CACHE_URL=redis://cache:hunter2-canary@127.0.0.1:1/0\n")
    migration = live_site.repository / "brackets/migrations/0009_tells.py"
    second = next(migration.parent.glob("0002_*.py")).stem
    try:
        live_site.edit("brackets/migrations/0009_tells.py", (
            "import os\nfrom urllib.parse import urlsplit\nfrom django.db import migrations\n\n\ndef tell(apps, editor):\n"
            "    raise ValueError('cannot log in with ' + urlsplit(os.environ['CACHE_URL']).password)\n\n\n"
            f"class Migration(migrations.Migration):\n    dependencies = [('brackets', '{second}')]\n"
            "    operations = [migrations.RunPython(tell)]\n"
        ))  # fmt: skip
        done = live_site.deploy()
        assert 4 == done.returncode
        assert "cannot log in with ****" in done.stderr
        told = (
            live_site.ok("log", "--json")
            + live_site.ok("history", "--json")
            + live_site.ok("show", max(live_site.states()))
        )
        assert "hunter2-canary" not in done.stdout + done.stderr + told
        assert "cannot log in with" in told
    finally:
        secrets.write_text(before)
        migration.unlink()
        live_site.commit("without it")
    live_site.ok("deploy")


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can leave a file that the deploy user cannot remove")
def test_a_leftover_that_cannot_be_removed_is_a_warning_and_no_obstacle(live_site: Site) -> None:
    left = live_site.root / "releases" / ".removing-2001-01-01-00-00-00" / "__pycache__"
    left.mkdir(parents=True)
    (left / "x.pyc").touch()
    try:
        said = live_site.ok("restart")
        assert f"sudo rm -rf {left.parent}" in said
    finally:
        subprocess.run(["rm", "-rf", left.parent], check=True)
    assert json.loads(live_site.ok("status", "--json"))["well"]


def test_a_switch_that_fails_before_the_link_moves_leaves_all_as_it_was(live_site: Site) -> None:
    live = live_site.current()
    second = next((live_site.repository / "brackets/migrations").glob("0002_*.py")).stem
    live_site.edit("brackets/migrations/0008_waits.py", (
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        f"    dependencies = [('brackets', '{second}')]\n    operations = []\n"
    ))  # fmt: skip
    said = live_site.ok("deploy", "--build-only")
    built = max(live_site.states())
    assert f"built: bb-release deploy --resume {built} makes it live" in said
    refused = live_site.run("switch", built)
    assert (11, "error: release-not-usable") == (refused.returncode, refused.stderr.splitlines()[0])
    assert "brackets.0008_waits" in refused.stderr
    live_site.ok("deploy", "--resume", built)
    assert built == live_site.current()

    # the release to go back to can no longer answer: its own view is broken
    views = live_site.root / "releases" / live / "app/brackets/views.py"
    whole = views.read_text()
    views.write_text(whole + "\n\ndef health(request):\n    raise ValueError('rotten')\n")
    try:
        failed = live_site.run("rollback")
        assert (1, "error: rehearsal-failed") == (failed.returncode, failed.stderr.splitlines()[0])
        assert "answers 500 at /health/, wanted 200" in failed.stderr
        assert f"still on {built}" in failed.stderr
        assert {"verified"} == {live_site.states()[name] for name in (live, built)}
        assert (built, built) == (live_site.current(), live_site.answering()["release"])
    finally:
        views.write_text(whole)
    live_site.ok("rollback")
    assert live == live_site.current()
    live_site.ok("deploy", "--force")
