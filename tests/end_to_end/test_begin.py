"""The way of somebody who begins: init, check, --plan, deploy; with the edits counted that a person has to do."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path

import pytest

from example_site import PROJECT, Site, unprivileged


def agent(site: Site, *words: str, cwd: Path | str = "/") -> subprocess.CompletedProcess[str]:
    """The installed command without any configuration named."""
    return subprocess.run(
        [site.program, *words], cwd=cwd, text=True, capture_output=True, stdin=subprocess.DEVNULL,
        env=site.environment(), timeout=300, **unprivileged(),
    )  # fmt: skip


def facts(site: Site) -> dict[str, str]:
    """What `check --json` says: each text with its level, as a text itself to look into."""
    done = site.run("check", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["can_deploy"] else 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return {fact["text"]: fact["level"] for fact in told["facts"]}


def lines(site: Site, level: str) -> str:
    return "\n".join(text for text, each in facts(site).items() if each == level)


def test_init_check_plan_and_deploy_go_together_with_two_edits(site: Site) -> None:
    site.config.unlink()
    said = agent(site, "init", str(site.repository), "--root", str(site.root), "--output", str(site.config))
    assert said.returncode == 0, said.stderr
    assert 'settings = "broken_brackets.settings"' in said.stdout
    assert f"bb-release --config {site.config} check" in said.stdout
    assert ("no systemd runs here" in said.stdout) is not Path("/run/systemd/system").is_dir()
    again = agent(site, "init", str(site.repository), "--output", str(site.config))
    assert (1, True) == (again.returncode, "already-there" in again.stderr)

    # this host has no systemd: the one unit is Supervisor's, and the health address a port. Nothing else is edited
    text = site.config.read_text()
    edits = {
        '[[units]]\nname = "broken_brackets-celery.service"\ncelery = "broken_brackets"\n\n': "",
        'name = "broken_brackets.service"\n': f'name = "web"\nkind = "supervisor"\nsocket = "{site.socket}"\n',
        "http+unix:///run/broken_brackets/web.sock:/health/": f"http://127.0.0.1:{site.port}/health/",
    }
    for old, new in edits.items():
        text = new.join(text.rsplit(old, 1))
    site.config.write_text(text)

    assert "shared db.sqlite3 is not there" in lines(site, "problem")
    (command,) = [line for line in json.loads(site.run("check", "--json").stdout)["to_do"] if "db.sqlite3" in line]
    subprocess.run(command, shell=True, check=True, cwd="/", **unprivileged())
    assert lines(site, "problem") == ""

    first = json.loads(site.ok("deploy", "--plan", "--json"))
    assert (None, False, []) == (first["from"], first["nothing_to_do"], first["stops"])
    assert "brackets.0001_initial" in first["migrations"]
    assert site.current() == ""

    site.ok("deploy")
    assert site.answering()["release"] == site.current()
    assert lines(site, "problem") == ""
    assert "names " + site.current() in lines(site, "ok")
    assert "nothing to do" in site.ok("deploy", "--plan")


def test_a_plan_tells_what_the_next_deploy_will_do_and_does_nothing(live_site: Site) -> None:
    live, before = live_site.current(), live_site.states()
    revision = live_site.second_revision()
    try:
        told = json.loads(live_site.ok("deploy", "--plan", "--json"))
        assert (live, revision) == (told["from"]["release"], told["revision"])
        assert ["sqlparse 0.5.3 -> 0.6.1"] == told["requirements"]
        assert ["brackets.0003_snippet_language"] == told["migrations"]
        assert (1, ["web"], []) == (told["static"], told["restarts"], told["prunes"])
        assert ["the second revision"] == [line[8:] for line in told["commits"]]
        assert told["need_bytes"] >= 100_000_000
        shown = live_site.ok("deploy", "--plan")
        assert "sqlparse 0.5.3 -> 0.6.1" in shown and "restarts:     web" in shown

        back = json.loads(live_site.ok("deploy", "--plan", revision, "--json"))
        assert revision == back["revision"]
        missing = live_site.run("deploy", "--plan", "nowhere")
        assert (1, True) == (missing.returncode, "ref-not-found" in missing.stderr)
        assert live_site.run("deploy", "--plan", "--force").returncode == 2
        assert (live, before) == (live_site.current(), live_site.states())
    finally:
        live_site.git("reset", "-q", "--hard", "HEAD~1")


def test_a_healthy_site_has_no_problem_and_check_changes_nothing(live_site: Site) -> None:
    def seen() -> list[tuple[str, float]]:
        return sorted((str(p), p.lstat().st_mtime) for p in live_site.root.rglob("*") if "__pycache__" not in str(p))

    before = seen()
    done = live_site.run("check")
    assert (0, True) == (done.returncode, done.stdout.endswith("nothing stops a deploy\n")), done.stdout
    assert f"live: {live_site.current()}" in done.stdout
    assert "web: RUNNING" in done.stdout
    assert "a-secret-that-must-not-be-shown" not in done.stdout
    assert before == seen()


def test_each_broken_thing_is_a_line_with_what_to_do_and_the_others_still_come(live_site: Site) -> None:
    root, env = live_site.root, live_site.root / "shared/site.env"
    good = live_site.config.read_text()

    def broken(expected: str, level: str = "problem") -> None:
        assert expected in lines(live_site, level)
        assert "git version" in lines(live_site, "ok")  # the others still come

    env.chmod(0o644)
    broken("open to others (mode 0644)")
    env.chmod(0o600)
    content = env.read_text()
    env.write_text(content + "export X=1\n")
    broken("line 4: `export` is the shell's")
    env.write_text(content)
    root.chmod(0o775)
    broken("can be written by others")
    root.chmod(0o755)
    (root / "state").chmod(0o755)
    broken("state is open to others (mode 0755)", "warn")
    (root / "state").chmod(0o700)
    (root / "releases").chmod(0o700)
    broken("closed to the site user")
    (root / "releases").chmod(0o755)

    edits = {
        f":{live_site.port}/health/": (":1/health/", "problem", "not healthy: Connection refused"),
        'name = "web"': ('name = "nowhere"', "problem", "nowhere: "),
        'branch = "main"': ('branch = "nowhere"', "problem", "has no branch nowhere"),
        "keep = 3": ('keep = 3\npython = "3.2"', "problem", "python 3.2 is not on this host"),
        "keep = 3\n": ('keep = 3\nshared_folders = ["media"]\n', "problem", "shared media is not there"),
    }
    for old, (new, level, expected) in edits.items():
        assert old in good
        live_site.config.write_text(good.replace(old, new))
        broken(expected, level)
    live_site.config.write_text(good)
    webhook = live_site.folder / "webhook"
    live_site.config.write_text(good.replace("keep = 3", f'keep = 3\nwebhook_file = "{webhook}"'))
    broken(f"webhook_file: {webhook} does not exist", "warn")
    webhook.write_text("X=1\n")
    webhook.chmod(0o600)
    live_site.own(webhook)
    broken("has no WEBHOOK_URL", "warn")
    webhook.write_text("WEBHOOK_URL=https://chat.example.org/secret\n")
    assert f"webhook_file {webhook} names an address" in lines(live_site, "ok")
    live_site.config.write_text(good)

    current = os.readlink(root / "current")
    (root / "current").unlink()
    (root / "current").write_text("a file")
    broken("is not a symbolic link")
    (root / "current").unlink()
    (root / "current").symlink_to(current)

    live_site.ok("hold", "-m", "not today")
    broken("not today")
    live_site.ok("unhold")
    (root / "state/hold.json").write_text("{")
    broken("hold.json cannot be read")
    (root / "state/hold.json").unlink()

    manifest = root / current / "release.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"verified"', '"activating"'))
    broken("was left activating", "warn")
    manifest.write_text("")
    broken("cannot be read")
    manifest.write_text(text)
    assert lines(live_site, "problem") == ""


def test_a_configuration_that_is_wrong_or_missing_is_a_line_too(site: Site) -> None:
    site.config.write_text("keep = 0\n")
    done = site.run("check")
    assert 1 == done.returncode
    assert "keep: should be at least 1" in done.stdout
    assert "git version" in done.stdout
    site.config.unlink()
    done = site.run("check")
    assert (1, "") == (done.returncode, done.stderr)
    assert "bb-release init" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can be somebody else")
def test_another_user_is_told_who_deploys(live_site: Site) -> None:
    os.chown(live_site.config, 0, 0)
    done = subprocess.run(
        [PROJECT / ".venv/bin/bb-release", "--config", live_site.config, "check"],
        cwd="/", capture_output=True, text=True, env=live_site.environment(),
    )  # fmt: skip
    assert "looked as root, but nobody deploys" in done.stdout
    assert f"sudo -u nobody bb-release --config {live_site.config} check" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can give a file away")
def test_secrets_that_the_deploy_user_cannot_read_are_a_line_with_the_command(live_site: Site) -> None:
    env = live_site.root / "shared/site.env"
    owner = env.stat()
    os.chown(env, 0, 0)
    try:
        done = live_site.run("check")
        assert "belongs to root, and nobody cannot read it" in done.stdout
        assert (1, True) == (done.returncode, f"sudo chown nobody {env}" in done.stdout)
    finally:
        os.chown(env, owner.st_uid, owner.st_gid)


def test_while_a_run_has_the_lock_a_plan_ends_and_check_says_whose_it_is(live_site: Site) -> None:
    with (live_site.root / "state/lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = live_site.run("deploy", "--plan")
        assert (10, True) == (done.returncode, "another-run-holds-the-lock" in done.stderr)
        assert "a run is under way" in lines(live_site, "warn")
    assert "no run is under way" in lines(live_site, "ok")


def test_a_full_disk_is_a_line(live_site: Site) -> None:
    """A release that took more than the disk has makes the next one too large."""
    manifest = live_site.root / "releases" / live_site.current() / "release.json"
    text = manifest.read_text()
    facts_of = json.loads(text)
    facts_of["size"] = [10**15, 10]
    manifest.write_text(json.dumps(facts_of))
    try:
        assert "too little room" in lines(live_site, "problem")
        planned = live_site.run("deploy", "--plan", "--json")
        assert 1 == planned.returncode
        plan = json.loads(planned.stdout)
        assert ["too little room"] == [stop.partition(":")[0] for stop in plan["stops"]]
    finally:
        manifest.write_text(text)
