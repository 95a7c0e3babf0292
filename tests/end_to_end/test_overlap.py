"""Two runs never overlap, and no lock has to be removed by hand."""

from __future__ import annotations

import subprocess
import time

from example_site import Site, unprivileged


def start(site: Site, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        site.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        stdin=subprocess.DEVNULL, env=site.environment(), **unprivileged(),
    )  # fmt: skip


def test_the_loser_of_a_race_says_who_is_at_work_and_a_waiter_finds_nothing_left_to_do(live_site: Site) -> None:
    live_site.edit("NOTE", "raced\n")
    first = start(live_site, "deploy")
    deadline = time.monotonic() + 20
    while not (live_site.root / "state" / "lock").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    waiter = start(live_site, "deploy", "--wait", "120")
    loser = live_site.deploy()
    timer = live_site.run("deploy", "--if-changed")

    assert loser.returncode == 10
    assert f"process {first.pid}" in loser.stderr
    assert (timer.returncode, timer.stdout, timer.stderr) == (0, "", "")
    assert first.wait(120) == 0
    out, err = waiter.communicate(timeout=120)
    assert waiter.returncode == 0, err
    assert "nothing to do" in out


def test_an_interrupted_build_leaves_the_site_and_exits_130(live_site: Site) -> None:
    live = live_site.current()
    live_site.edit("NOTE", "interrupted\n")
    run = start(live_site, "deploy")
    assert run.stdout is not None
    while "checkout" not in (line := run.stdout.readline()):  # in the middle of the build, however slow this host is
        assert line
    run.terminate()
    _, err = run.communicate(timeout=60)

    assert run.returncode == 130, err
    assert "error: interrupted" in err
    assert live in err
    assert live_site.current() == live
    live_site.ok("deploy")


def test_the_terminal_may_vanish_and_the_deploy_goes_on(live_site: Site) -> None:
    live = live_site.current()
    live_site.edit("NOTE", "hung up\n")
    run = start(live_site, "deploy")
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.close()
    run.stderr.close()
    assert run.wait(120) == 0
    assert live_site.current() > live


def test_a_release_that_had_only_just_been_begun_is_removed(live_site: Site) -> None:
    begun = live_site.root / "releases" / "2099-01-01-00-00-00"
    begun.mkdir()
    (begun / ".release.json.new").write_text("{")
    live_site.own()

    assert "had just been begun" in live_site.ok("recover")
    assert not begun.exists()
    assert "nothing to recover" in live_site.ok("recover")


def test_a_timer_with_an_empty_environment_deploys_what_is_new_and_is_silent_about_the_rest(live_site: Site) -> None:
    """As cron's `env -i` would start it: no PATH, no HOME, no locale."""
    certificates = {k: v for k, v in live_site.environment().items() if k not in ("PATH", "LANG", "TMPDIR")}

    def tick() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            live_site.command("deploy", "--if-changed", "--quiet"), cwd="/", text=True, capture_output=True, check=False,
            stdin=subprocess.DEVNULL, env=certificates, timeout=120, **unprivileged(),
        )  # fmt: skip

    live = live_site.current()
    revision = live_site.edit("NOTE", "ticked\n")
    done = tick()
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert live < live_site.current()
    assert revision == live_site.answering()["revision"]

    lock, history = live_site.root / "state" / "lock", live_site.ok("history")
    touched = lock.stat().st_mtime_ns
    done = tick()
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert (touched, history) == (lock.stat().st_mtime_ns, live_site.ok("history"))
