"""Run inside a booted systemd (see test_booted.py): how a release hands over to the next, and what is no handover.

Two sites of one repository: `handover` with a socket, a Celery worker on a real Redis and a beat; `colours`
blue-green behind a real nginx. A deploy user, a site user (www-data); all of it is gone with the overlay.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import booted_host
from booted_host import AGENT, CACHE, POLKIT, TESTS, current, health, linger, make_root, polkit_rules, sh

REPOSITORY = Path("/srv/handover-repository")
NGINX = "/run/handover-nginx.sock"
REDIS = "/run/handover-redis/redis.sock"
SUDOERS = Path("/etc/sudoers.d/bb-release")
WEB, CELERY, BEAT = "handover.service", "handover-celery.service", "handover-beat.service"

# The second revision is as bad as the file /srv/<app>/shared/mode says of its release: one build, many ways to fail.
MODE = """
import os
import sys

ROOT = os.path.dirname(os.environ.get("DATABASE_PATH", "/nowhere/x"))


def mode():
    try:
        with open(ROOT + "/mode") as file:
            word, _, release = file.read().strip().partition(" ")
    except OSError:
        return ""
    return word if release == os.environ.get("BB_RELEASE") else ""
"""
BAD_VIEWS = """

well = health


def is_first_worker(kept=[]):
    import fcntl
    import os

    if not kept:
        kept.append(open(os.environ["DATABASE_PATH"] + "." + os.environ["BB_RELEASE"], "w"))
        try:
            fcntl.flock(kept[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
            kept.append(True)
        except OSError:
            kept.append(False)
    return kept[1]


def health(request):
    import sys
    import time
    from django.http import HttpResponse
    from brackets.mode import mode

    if "gunicorn" in sys.modules and mode() == "500":
        print("the health view is unwell", file=sys.stderr, flush=True)
        return HttpResponse("unwell", status=500)
    if "gunicorn" in sys.modules and mode() == "one-worker" and not is_first_worker():
        print("the other worker is unwell", file=sys.stderr, flush=True)
        return HttpResponse("unwell", status=500)
    if "gunicorn" in sys.modules and mode() == "hang":
        print("the health view hangs", file=sys.stderr, flush=True)
        time.sleep(600)
    return well(request)
"""
BAD_GUNICORN = """
import os
import sys
import threading
import time

sys.path.insert(0, ".")
from brackets.mode import mode


def end():
    print("the master ends by itself", file=sys.stderr, flush=True)
    os._exit(3)


def when_ready(server):
    if mode() == "crash-loop":
        threading.Timer(0.7, end).start()


def post_fork(server, worker):
    if mode() == "one-worker" and worker.age > 1:  # it imports the site long after the first has answered
        while time.process_time() < 4:
            pass
"""
TASKS = """

@shared_task
def nap(seconds, path):
    import time

    time.sleep(seconds)
    with open(path, "w") as file:
        file.write("slept")
"""
BAD_TASKS = """
import sys

from brackets.mode import mode

if "worker" in sys.argv and mode() == "worker":
    sys.exit("the worker cannot go on")
"""


def bb(app: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return sh(AGENT, "-a", app, *words, user="deploy", check=check)


def prop(unit: str, name: str) -> str:
    return sh("systemctl", "show", "-p", name, "--value", unit).stdout.strip()


def commit(message: str) -> str:
    git = ("git", "-C", REPOSITORY, "-c", "user.name=Dev", "-c", "user.email=dev@example.org")
    sh("chown", "-R", "deploy:", REPOSITORY)
    sh(*git, "add", "-A", user="deploy")
    sh(*git, "commit", "-q", "-m", message, user="deploy")
    return sh(*git, "rev-parse", "HEAD", user="deploy").stdout.strip()


def add(path: str, text: str) -> None:
    file = REPOSITORY / path
    file.write_text((file.read_text() if file.exists() else "") + text)


def configure(app: str, health_url: str, units: str) -> None:
    root = Path("/srv") / app
    make_root(root)
    env = root / "shared/site.env"
    env.write_text(env.read_text().replace("memory://", f"redis+socket://{REDIS}"))
    sh("chown", "-R", "deploy:www-data", root / "shared")
    (root / "shared").chmod(0o2770)
    Path(f"/etc/bb-release/{app}.toml").write_text(
        f'repository = "{REPOSITORY}"\nallow_file_url = true\nroot = "{root}"\ncache = "{CACHE}"\n'
        f'env_file = "{root}/shared/site.env"\napplication = "broken_brackets.wsgi:application"\n'
        + (
            f'[health]\nurl = "{health_url}"\nrelease = "header:X-Release"\ntimeout_seconds = 15\n'
            if health_url
            else ""
        )
        + units
    )


def table(name: str, more: str = "") -> str:
    return f'[[units]]\nname = "{name}"\nsettle_seconds = 1\n{more}\n'


@pytest.fixture(scope="module", autouse=True)
def host() -> Iterator[None]:
    if not AGENT.exists():
        booted_host.make_host()
    sh("usermod", "-aG", "systemd-journal", "deploy")
    Path("/etc/bb-release").mkdir(exist_ok=True)
    shutil.copytree(TESTS / "broken_brackets", REPOSITORY, ignore=shutil.ignore_patterns("__pycache__"))
    add("requirements.txt", "packaging==26.3\nredis==8.1.0\n")
    add("brackets/tasks.py", TASKS)
    sh("chown", "-R", "deploy:", REPOSITORY)
    sh("git", "init", "-q", "-b", "main", REPOSITORY, user="deploy")
    commit("the first revision")
    Path(REDIS).parent.mkdir()
    sh("systemd-run", "-q", "--unit=handover-redis", "redis-server", "--port", "0", "--unixsocket", REDIS,
       "--unixsocketperm", "777", "--save", "")  # fmt: skip
    configure("handover", "http+unix:///run/handover/web.sock:/health/",
              table(WEB, 'handover = "socket"') + table(CELERY, 'celery = "broken_brackets"') + table(BEAT))  # fmt: skip
    configure("colours", "http+unix:///run/colours/active.sock:/health/",
              table("colours@.service", 'handover = "blue-green"\nsocket = "/run/colours/active.sock"'))  # fmt: skip
    yield
    sh("systemctl", "stop", "handover-redis", "handover-nginx", check=False)


def install_units(app: str) -> None:
    """What `units` says: write them, then do as it says, without nginx and timers."""
    for agents in Path("/etc/systemd/system").glob("bb-release*"):  # scripts/install has put them there for another app
        agents.unlink()
    said = sh(AGENT, "-a", app, "units", "--install").stdout
    Path(f"/etc/sudoers.d/bb-release-{app}").unlink()  # the lines that deploy prints are what is tried here
    for line in re.findall(r"(?m)^ *(?:\d+\. )?((?:systemctl enable|systemd-tmpfiles) .*)$", said):
        if "bb-release@" not in line:
            sh(*line.split("#")[0].split())


def grant(said: str) -> None:
    """The lines that a refused deploy printed, as they are."""
    lines = re.findall(r"^ +(deploy ALL=.*)$", said, re.MULTILINE)
    assert lines, said
    with SUDOERS.open("a") as file:
        file.write("\n".join(lines) + "\n")
    SUDOERS.chmod(0o440)
    sh("visudo", "-cf", SUDOERS)


def proofs(app: str) -> dict[str, str]:
    return {unit["name"]: unit["proof"] for unit in json.loads(bb(app, "status", "--json").stdout)["units"]}


# ---- with a socket, a worker and a beat


@functools.cache
def two_releases(app: str) -> tuple[str, str]:
    """The names of the good release that is live, and of the one that is as bad as the mode says."""
    root = Path("/srv") / app
    good = current(root)
    if not (REPOSITORY / "brackets/mode.py").exists():
        add("brackets/mode.py", MODE)
        add("brackets/views.py", BAD_VIEWS)
        add("gunicorn.conf.py", BAD_GUNICORN)
        add("brackets/tasks.py", BAD_TASKS)
        commit("as bad as it is told to be")
    bb(app, "deploy", "--build-only")
    return good, max(os.listdir(root / "releases"))


def mode(app: str, word: str, release: str) -> None:
    (Path("/srv") / app / "shared/mode").write_text(f"{word} {release}\n")


def test_a_first_deploy_starts_the_socket_and_proof_is_what_another_user_s_processes_show() -> None:
    install_units("handover")
    sh("systemctl", "stop", "handover.socket")
    grant(bb("handover", "deploy", check=False).stderr)

    bb("handover", "deploy")

    assert "active" == prop("handover.socket", "ActiveState")
    assert current(Path("/srv/handover")) == health("/run/handover/web.sock")["release"]
    by = "its start and its command line"
    assert {WEB: by, CELERY: f"{by} and its answer over the broker", BEAT: by} == proofs("handover")
    sh("systemctl", "restart", CELERY)
    assert by == proofs("handover")[CELERY]  # that one was not asked
    bb("handover", "restart", CELERY)
    assert f"{by} and its answer over the broker" == proofs("handover")[CELERY]


BAD = {
    "crash-loop": (WEB, "the master ends by itself"),
    "500": (WEB, "the health view is unwell"),
    "hang": (WEB, "the health view hangs"),
    "worker": (CELERY, "the worker cannot go on"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_release_ends_on_the_old_one_with_the_unit_s_own_last_lines(how: str) -> None:
    good, bad = two_releases("handover")
    mode("handover", how, bad)
    listens_since = prop("handover.socket", "InvocationID")

    done = bb("handover", "switch", bad, "--force", check=False)

    assert done.returncode == 20, done.stdout + done.stderr
    assert listens_since == prop("handover.socket", "InvocationID") != ""
    assert f"switched back to {good}" in done.stderr
    unit, line = BAD[how]
    assert line in done.stderr, done.stderr
    assert unit in done.stderr
    assert good == current(Path("/srv/handover")) == health("/run/handover/web.sock")["release"]
    assert bb("handover", "status").returncode == 0
    for name in (WEB, CELERY, BEAT):
        assert os.readlink(f"/proc/{prop(name, 'MainPID')}/cwd") == f"/srv/handover/releases/{good}/app"
    assert "active" == prop("handover.socket", "ActiveState")


def test_a_way_back_that_fails_too_says_what_a_person_has_to_do() -> None:
    good, bad = two_releases("handover")
    mode("handover", "500", bad)
    program = Path(f"/srv/handover/releases/{good}/venv/bin/gunicorn")
    program.chmod(0o600)
    try:
        done = bb("handover", "switch", bad, "--force", check=False)
    finally:
        program.chmod(0o755)

    assert done.returncode == 21, done.stdout + done.stderr
    assert f"the way back to {good} (" in done.stderr
    assert "then: bb-release -a handover restart; or deploy what mends it" in done.stderr
    assert "Permission denied" in done.stderr
    bb("handover", "recover")  # nothing is tried again by itself
    assert 1 == bb("handover", "status", check=False).returncode
    bb("handover", "restart")
    assert good == current(Path("/srv/handover")) == health("/run/handover/web.sock")["release"]
    assert bb("handover", "status").returncode == 0


def nap(seconds: int, path: Path, app: str = "handover") -> None:
    """A task, and the worker is at it."""
    code = f"from brackets.tasks import nap; nap.delay({seconds}, {str(path)!r})"
    bb(app, "manage", "--", "shell", "-c", code)
    time.sleep(1)


def limit_stop(seconds: int) -> None:
    folder = Path(f"/etc/systemd/system/{CELERY}.d")
    folder.mkdir(exist_ok=True)
    (folder / "stop.conf").write_text(f"[Service]\nTimeoutStopSec={seconds}\n")
    sh("systemctl", "daemon-reload")


def test_a_running_task_is_finished_by_the_old_release_and_no_second_beat_runs() -> None:
    limit_stop(60)
    path = Path("/srv/handover/shared/finished")
    nap(6, path)

    with load("/run/handover/web.sock") as counts:
        done = bb("handover", "restart")

    assert {} == failures(counts)  # they waited in the socket
    assert "slept" == path.read_text()
    assert "was killed" not in done.stdout
    beats = [pid for pid in Path("/proc").glob("[0-9]*") if b"celery\0-A\0broken_brackets\0beat" in read(pid)]
    assert [prop(BEAT, "MainPID")] == [pid.name for pid in beats]


def read(pid: Path) -> bytes:
    try:
        return (pid / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_task_that_takes_longer_than_the_unit_allows_is_named() -> None:
    limit_stop(3)
    nap(300, Path("/srv/handover/shared/never"))

    done = bb("handover", "restart", CELERY)

    said = f"{CELERY} was not done 3 s after it was told to stop, and was killed; "
    assert re.search(re.escape(said) + r"when it was told to stop it was running brackets\.tasks\.nap \(", done.stdout)
    assert not Path("/srv/handover/shared/never").exists()


def test_a_handover_by_socket_needs_a_socket_that_listens() -> None:
    config = Path("/etc/bb-release/handover.toml")
    good = config.read_text()
    try:
        config.write_text(good.replace(table(BEAT), table(BEAT, 'handover = "socket"')))
        done = bb("handover", "deploy", "--force", check=False)
    finally:
        config.write_text(good)
    assert done.returncode == 1
    assert f"{BEAT} has no socket unit in which requests could wait" in done.stderr


# ---- blue-green

COLOURS = Path("/srv/colours")
ACTIVE = Path("/run/colours/active.sock")


def other(colour: str) -> str:
    return {"blue": "green", "green": "blue"}[colour]


def serving(root: Path = COLOURS) -> str:
    """The colour by what is on disk: the slot that leads to the live release."""
    live = os.path.realpath(root / "current")
    found = [colour for colour in ("blue", "green") if os.path.realpath(root / "slots" / colour) == live]
    assert len(found) == 1, found
    return found[0]


def require_one_colour(release: str) -> None:
    """All that has to be true whenever nothing is under way."""
    colour = serving()
    assert release == current(COLOURS) == health(str(ACTIVE))["release"]
    assert f"{colour}.sock" == os.readlink(ACTIVE)
    assert "active" == prop(f"colours@{colour}.service", "ActiveState")
    idle = f"colours@{other(colour)}.service"
    # one that ends by itself at the instant at which it is told to stop has failed; what had to be killed has not
    assert (prop(idle, "ActiveState"), prop(idle, "Result")) in (("inactive", "success"), ("failed", "exit-code"))
    assert bb("colours", "status").returncode == 0


def ask(path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(path)
    connection.request("GET", "/health/", headers={"Connection": "close"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers.get("X-Release", "")


@contextmanager
def load(path: str = NGINX) -> Iterator[Counter[tuple[str, str]]]:
    """Requests through nginx all the while; counts what came of them, by status and release."""
    counts: Counter[tuple[str, str]] = Counter()
    ended = threading.Event()

    def visit() -> None:
        while not ended.is_set():
            try:
                status, release = ask(path)
                counts[str(status), release] += 1
            except (OSError, http.client.HTTPException) as error:
                counts[repr(error), ""] += 1
            time.sleep(0.02)

    visitors = [threading.Thread(target=visit) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    try:
        yield counts
    finally:
        ended.set()
        for visitor in visitors:
            visitor.join()


def failures(counts: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    assert sum(counts.values()) > 50
    return {what: count for what, count in counts.items() if what[0] != "200"}


def start_nginx() -> None:
    """The site that `units` writes, on a socket of the test's own instead of port 80."""
    site = Path("/etc/nginx/sites-available/colours.conf").read_text()
    site = site.replace("    listen 80;\n    listen [::]:80;\n", f"    listen unix:{NGINX};\n")
    Path("/srv/nginx.conf").write_text(f"user www-data;\nevents {{}}\nhttp {{\naccess_log off;\n{site}}}\n")
    sh("nginx", "-t", "-c", "/srv/nginx.conf")
    sh("systemd-run", "-q", "--unit=handover-nginx", "nginx", "-c", "/srv/nginx.conf", "-g", "daemon off;")


@contextmanager
def environment_of_the_template() -> Iterator[None]:
    """The site's environment is what systemd gives the instances."""
    config = Path("/etc/bb-release/colours.toml")
    own = config.read_text()
    config.write_text(own.replace('env_file = "/srv/colours/shared/site.env"', 'environment = "unit:colours@.service"'))
    assert own != config.read_text()
    try:
        yield
    finally:
        config.write_text(own)


def test_blue_green_a_first_deploy_by_what_the_commands_say() -> None:
    install_units("colours")
    with environment_of_the_template():
        before = bb("colours", "check", check=False).stdout
    assert re.search(r"environment of colours@.service: [1-9]\d* names, with /srv/colours/shared/site.env", before), (
        before
    )
    refused = bb("colours", "deploy", check=False)
    assert refused.returncode == 1
    assert "systemctl stop colours@green.service" in refused.stderr
    grant(refused.stderr)

    bb("colours", "deploy")

    require_one_colour(current(COLOURS))
    for name in ("colours@blue.service", "colours-boot.service"):
        done = sh("systemd-analyze", "verify", name, check=False)
        assert (0, "") == (done.returncode, done.stderr)
    facts = json.loads(bb("colours", "check", "--json", check=False).stdout)["facts"]
    assert [] == [fact["text"] for fact in facts if fact["text"].startswith("colours") and fact["level"] != "ok"]
    assert {f"colours@{serving()}.service": "its start and its command line"} == proofs("colours")
    start_nginx()


def test_blue_green_no_request_fails_while_releases_take_over_from_each_other() -> None:
    first, second = two_releases("colours")
    colour = serving()
    own = bb("colours", "exec", "--", "printenv", "DATABASE_PATH").stdout
    with load() as counts:
        bb("colours", "switch", second)
        require_one_colour(second)
        with environment_of_the_template():
            bb("colours", "switch", first)
            assert own == bb("colours", "exec", "--", "printenv", "DATABASE_PATH").stdout != ""
    assert {} == failures(counts)
    assert {first, second} == {release for _, release in counts}
    require_one_colour(first)
    assert colour == serving()  # there and back


def test_blue_green_what_its_sudoers_lines_do_not_name_is_refused() -> None:
    live, systemctl = current(COLOURS), "/usr/bin/systemctl"
    for verb, *units in (
        ("stop", "colours@*.service"), ("stop", "colours@red.service"), ("stop", "colours@.service"),
        ("stop", "colours@blue.service", "nginx.service"), ("stop", "colours-boot.service"),
        ("restart", "colours@*.service"), ("restart", "colours@red.service"), ("start", "colours-boot.service"),
        ("kill", "colours@blue.service"), ("enable", "colours@blue.service"), ("edit", "colours@blue.service"),
    ):  # fmt: skip
        refusal = sh("sudo", "-n", systemctl, verb, *units, user="deploy", check=False)
        assert (1, True) == (refusal.returncode, "a password is required" in refusal.stderr), (verb, units, refusal)
    require_one_colour(live)


def refused_beside(release: str, how: str, *words: str) -> str:
    """A release as bad as it is told to be is refused, and visitors see the live one all the while; what was said."""
    live, serves = current(COLOURS), f"colours@{serving()}.service"
    before = prop(serves, "MainPID")
    mode("colours", how, release)
    with load() as counts:
        done = bb("colours", "switch", release, *words, check=False)
    mode("colours", "well", release)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nothing live was changed" in done.stderr
    assert {("200", live)} == set(counts)
    assert before == prop(serves, "MainPID")
    return done.stderr


def test_blue_green_a_bad_release_is_never_led_to_and_what_serves_is_not_touched() -> None:
    first, second = two_releases("colours")
    assert "the health view is unwell" in refused_beside(second, "500")
    require_one_colour(first)


def test_blue_green_a_release_that_hangs_is_never_led_to() -> None:
    first, second = two_releases("colours")
    idle = f"colours@{other(serving())}.service"
    assert "the health view hangs" in refused_beside(second, "hang")
    assert prop(idle, "ActiveState") in ("inactive", "failed")
    require_one_colour(first)


def test_blue_green_one_bad_worker_among_good_ones_is_enough_to_refuse_a_release() -> None:
    first, second = two_releases("colours")
    refused_beside(second, "one-worker")
    require_one_colour(first)


def test_blue_green_a_live_release_that_was_found_bad_is_started_anew_by_force_and_proven() -> None:
    first, _ = two_releases("colours")
    mark(first, "bad")
    before = prop(f"colours@{serving()}.service", "MainPID")
    assert 11 == bb("colours", "switch", first, check=False).returncode
    with load() as counts:
        bb("colours", "switch", first, "--force")
    assert {("200", first)} == set(counts)
    assert "verified" == manifest(first)
    require_one_colour(first)
    assert before != prop(f"colours@{serving()}.service", "MainPID"), "what serves was not started anew"


def test_blue_green_a_bad_live_release_that_does_not_start_anew_serves_on() -> None:
    first, second = two_releases("colours")
    bb("colours", "switch", second, "--force")
    mark(second, "bad")
    refused_beside(second, "crash-loop", "--force")
    mark(second, "verified")
    require_one_colour(second)
    bb("colours", "switch", first, "--force")


def test_blue_green_an_older_instance_that_runs_beside_the_live_one_is_not_well() -> None:
    live, idle = current(COLOURS), other(serving())
    (older,) = {*two_releases("colours")} - {live}
    lead(COLOURS / "slots" / idle, f"../releases/{older}")
    sh("systemctl", "start", f"colours@{idle}.service")
    seen = bb("colours", "status", "--json", check=False)
    told = json.loads(seen.stdout)
    assert [f"colours@{idle}.service"] == [unit["name"] for unit in told["beside"]]
    assert (False, "healthy", "verified") == (told["well"], told["health"], told["state"])
    assert seen.returncode != 0
    bb("colours", "recover")
    require_one_colour(live)


def test_blue_green_a_moved_link_is_no_reason_to_stop_what_serves() -> None:
    first, second = two_releases("colours")
    with load() as counts:
        sh("ln", "-sfn", f"releases/{second}", str(COLOURS / "current"))
        bb("colours", "recover", check=False)
        bb("colours", "prune", check=False)
        time.sleep(0.5)
        bb("colours", "restart")
        assert second == health(str(ACTIVE))["release"]
        bb("colours", "switch", first)
    assert {} == failures(counts)
    require_one_colour(first)


@pytest.mark.parametrize(
    ("how", "told"), [("crash-loop", "the master ends by itself"), ("500", "the health view is unwell")]
)
def test_blue_green_a_moved_link_to_what_is_not_well_stops_nothing_that_serves(how: str, told: str) -> None:
    first, second = two_releases("colours")
    serves, idle = serving(), other(serving())
    before = prop(f"colours@{serves}.service", "MainPID")
    lead(COLOURS / "slots" / idle, f"../releases/{second}")
    mode("colours", how, second)
    lead(COLOURS / "current", f"releases/{second}")
    with load() as counts:
        recovered, again = bb("colours", "recover", check=False), bb("colours", "recover", check=False)
        bb("colours", "prune")
        restarted = bb("colours", "restart", check=False)
        seen = json.loads(bb("colours", "status", "--json", check=False).stdout)["to_do"]
    assert {("200", first)} == set(counts)
    for done in (recovered, again):
        assert f"; but {first} serves" in done.stderr
        assert (21, True) == (done.returncode, f"current leads to {second}, and {first} serves" in done.stderr), done
    assert (1, True) == (restarted.returncode, told in restarted.stderr), restarted
    # no command that is refused is named
    assert [f"current leads to {second}, and {first} serves"] == [each["why"] for each in seen], seen
    assert "bb-release -a colours restart" == seen[0]["do"]
    assert before == prop(f"colours@{serves}.service", "MainPID")
    assert prop(f"colours@{idle}.service", "ActiveState") in ("inactive", "failed")
    mode("colours", "well", second)
    with load() as counts:
        bb("colours", "switch", first, "--force")
        bb("colours", "recover")
    assert {("200", first)} == set(counts)
    require_one_colour(first)


def test_blue_green_what_must_not_run_beside_the_other_is_found_and_not_started_anew() -> None:
    live, idle = current(COLOURS), f"colours@{other(serving())}.service"
    before = prop(f"colours@{serving()}.service", "MainPID")
    drop_in = Path(f"/etc/systemd/system/{idle}.d/through.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nWorkingDirectory=/srv/colours/current/app\n")
    sh("systemctl", "daemon-reload")
    try:
        refused, found = bb("colours", "restart", check=False), bb("colours", "check", check=False)
    finally:
        shutil.rmtree(drop_in.parent)
        sh("systemctl", "daemon-reload")
    told = f"{idle} works in /srv/colours/current: it starts before that link moves"
    assert (1, True) == (refused.returncode, told in refused.stderr), refused.stdout + refused.stderr
    assert told in found.stdout, found.stdout
    assert before == prop(f"colours@{serving()}.service", "MainPID")
    require_one_colour(live)


@contextmanager
def one_more_unit_that_cannot_go_on_with(release: str) -> Iterator[None]:
    """A unit that is restarted after the swap, and ends where it is started from one release."""
    config = Path("/etc/bb-release/colours.toml")
    good = config.read_text()
    Path("/etc/systemd/system/colours-more.service").write_text(
        "[Service]\nUser=www-data\nWorkingDirectory=/srv/colours/current/app\n"
        f"ExecStart=/bin/sh -c 'case $$(pwd -P) in */{release}/*) echo cannot go on >&2; sleep 0.5; exit 1;; esac; "
        'exec /srv/colours/current/venv/bin/python -c "import time; time.sleep(3000)"\'\n'
    )
    sh("systemctl", "daemon-reload")
    config.write_text(good + table("colours-more.service"))
    try:
        yield
    finally:
        config.write_text(good)
        sh("systemctl", "stop", "colours-more.service")


def test_blue_green_what_goes_wrong_after_the_swap_goes_back_to_the_instance_that_never_stopped() -> None:
    first, second = two_releases("colours")
    before = prop(f"colours@{serving()}.service", "MainPID")
    with one_more_unit_that_cannot_go_on_with(second):
        grant(bb("colours", "deploy", "--force", check=False).stderr)
        bb("colours", "restart", "colours-more.service")
        with load() as counts:
            done = bb("colours", "switch", second, check=False)
    assert done.returncode == 20, done.stdout + done.stderr
    assert "cannot go on" in done.stderr
    assert {} == failures(counts)
    require_one_colour(first)
    assert before == prop(f"colours@{serving()}.service", "MainPID")


def test_blue_green_a_moved_link_is_told_by_each_command_and_switch_leads_on() -> None:
    first, second = two_releases("colours")
    serves, idle = serving(), other(serving())
    mark(second, "verified")
    with one_more_unit_that_cannot_go_on_with("no-release"):
        bb("colours", "restart", "colours-more.service")
        before = prop("colours-more.service", "MainPID")
        lead(COLOURS / "slots" / idle, f"../releases/{second}")
        lead(COLOURS / "current", f"releases/{second}")
        sh("systemctl", "start", f"colours@{idle}.service")
        with load() as counts:
            assert "bb-release -a colours restart" in bb("colours", "check", check=False).stdout
            for words in (["restart", "colours-more.service"], ["recover"], ["deploy"]):
                done = bb("colours", *words, check=False)
                assert (21, True) == (done.returncode, f"; but {first} serves" in done.stderr), done
                assert "bb-release -a colours restart" in done.stderr, done
            assert f"colours@{serves}.service: runs beside the live release" in done.stderr, done
            assert before == prop("colours-more.service", "MainPID")
            assert {("200", first)} == set(counts)
            bb("colours", "switch", second)
            require_one_colour(second)
    assert {} == failures(counts)
    bb("colours", "switch", first)
    mark(second, "ready")
    bb("colours", "unhold", check=False)
    require_one_colour(first)


def test_blue_green_a_link_moved_back_in_the_middle_of_a_switch_is_no_reason_to_stop_what_it_leads_to() -> None:
    first, second = two_releases("colours")
    idle = other(serving())
    with one_more_unit_that_cannot_go_on_with(second), load() as counts:
        agent = switching(second, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        await_in(agent, lambda: os.readlink(ACTIVE) == f"{idle}.sock")
        lead(COLOURS / "current", f"releases/{first}")
        said = "".join(agent.communicate(timeout=120))
        assert (20, True) == (agent.returncode, f"switched back to {first}" in said), said
        mark(second, "ready")
        lead(COLOURS / "current", f"releases/{second}")
        restarted = bb("colours", "restart", check=False)
    assert (20, True) == (restarted.returncode, f"switched back to {first}" in restarted.stderr), restarted
    assert {} == failures(counts)
    assert "bad" == manifest(second)
    mark(second, "ready")
    bb("colours", "unhold")
    require_one_colour(first)


def test_blue_green_the_way_back_from_a_bad_live_release_leads_to_one_that_has_no_slot_any_more() -> None:
    first, second = two_releases("colours")
    bb("colours", "switch", second, "--force")
    bb("colours", "switch", first)
    require_one_colour(first)
    mark(first, "bad")
    with one_more_unit_that_cannot_go_on_with(first), load() as counts:
        done = bb("colours", "switch", first, "--force", check=False)
    assert done.returncode == 20, done.stdout + done.stderr
    assert f"switched back to {second}" in done.stderr
    assert {} == failures(counts)
    require_one_colour(second)
    mark(first, "verified")
    bb("colours", "switch", first)
    mark(second, "ready")
    require_one_colour(first)


def mark(release: str, state: str, root: Path = COLOURS) -> None:
    path = root / "releases" / release / "release.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": state}))


def manifest(release: str) -> str:
    return str(json.loads((COLOURS / "releases" / release / "release.json").read_text())["state"])


def slot(colour: str) -> str:
    try:
        return os.readlink(COLOURS / "slots" / colour).rpartition("/")[2]
    except FileNotFoundError:
        return ""


POINTS: dict[str, Callable[[str, str, str], bool]] = {
    "the idle slot is led to the release": lambda idle, new, old: slot(idle) == new,
    "the idle instance runs": lambda idle, new, old: prop(f"colours@{idle}.service", "ActiveState") == "active",
    "the manifest says activating": lambda idle, new, old: manifest(new) == "activating",
    "current is swapped": lambda idle, new, old: current(COLOURS) == new,
    "requests are led to the new instance": lambda idle, new, old: os.readlink(ACTIVE) == f"{idle}.sock",
    "the old instance is stopping": lambda idle, new, old: (
        prop(f"colours@{other(idle)}.service", "ActiveState") != "active"
    ),
}


def lead(link: Path, target: str) -> None:
    staged = link.with_name(f".{link.name}.test")
    staged.symlink_to(target)
    staged.replace(link)


def switching(release: str, **output: int) -> subprocess.Popen[str]:
    """A switch that has begun."""
    entry = pwd.getpwnam("deploy")
    return subprocess.Popen(
        [AGENT, "-a", "colours", "switch", release, "--force"], user="deploy", group=entry.pw_gid, cwd="/",
        extra_groups=os.getgrouplist("deploy", entry.pw_gid), stdin=subprocess.DEVNULL, text=True,
        env={"PATH": "/usr/bin:/bin"}, **output,
    )  # fmt: skip


def await_in(agent: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """As soon as so much of it is done."""
    deadline = time.monotonic() + 60
    while not reached():
        assert agent.poll() is None, "it was done before"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def killed_in_a_switch(release: str, reached: Callable[[], bool]) -> None:
    agent = switching(release, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_in(agent, reached)
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait()


@pytest.mark.parametrize("point", POINTS)
def test_blue_green_a_run_killed_at_each_point_is_recovered_and_no_request_fails(point: str) -> None:
    first, second = two_releases("colours")
    live = current(COLOURS)
    new = second if live == first else first
    idle = other(serving())
    if os.path.lexists(COLOURS / "slots" / idle):
        (COLOURS / "slots" / idle).unlink()
        (COLOURS / "slots" / idle).symlink_to("../releases/nothing-yet")
    with load() as counts:
        killed_in_a_switch(new, lambda: POINTS[point](idle, new, live))
        # between these three acts there are microseconds: what came after the wanted one is taken back
        if point == "the manifest says activating":
            lead(COLOURS / "current", f"releases/{live}")
        if point in ("the manifest says activating", "current is swapped"):
            lead(ACTIVE, f"{other(idle)}.sock")
        bb("colours", "recover")
        require_one_colour(new if list(POINTS).index(point) >= 3 else live)
    assert {} == failures(counts)


def stopped_dead(words: list[str], **told: object) -> int:
    """Run the agent with the crash tests' failpoints, as they are told; its exit code."""
    variables = {f"BB_RELEASE_CRASH_{name.upper()}": str(value) for name, value in told.items()}
    failpoints = {"PYTHONPATH": str(TESTS / "crash/failpoints"), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    named = [f"{name}={value}" for name, value in failpoints.items()]
    return sh("env", *named, AGENT, "-a", "colours", *words, user="deploy", check=False).returncode


@pytest.mark.parametrize("what", ["a way back", "a start beside itself"])
def test_blue_green_a_run_killed_at_any_point_of(what: str) -> None:
    first, second = two_releases("colours")
    if current(COLOURS) != first:
        bb("colours", "switch", first, "--force")
    goes_back = what == "a way back"
    words = ["switch", second if goes_back else first, "--force"]
    trace = Path("/srv/trace")
    trace.touch(mode=0o666)
    trace.chmod(0o666)

    def arrange() -> None:
        mark(second, "ready")
        mark(first, "verified" if goes_back else "bad")
        trace.write_text("")

    with one_more_unit_that_cannot_go_on_with(second):
        bb("colours", "restart", "colours-more.service")
        arrange()
        usual = 20 if goes_back else 0
        assert usual == stopped_dead(words, trace=trace)
        count = len(trace.read_text().splitlines())
        points = range(1, count + 1)
        if os.environ.get("BB_ALL") != "1":  # the first third is as in any switch
            points = random.sample(range(count // 3, count + 1), 3)
        codes: list[int] = []
        with load() as counts:
            for point in points:
                print(f"killed after operation {point} of {count}")
                arrange()
                codes.append(stopped_dead(words, at=point))
                bb("colours", "recover")
                assert "activating" != manifest(second)
                assert manifest(first) in (("verified",) if goes_back else ("bad", "verified"))
                if not goes_back:
                    mark(first, "verified")  # one that is live and bad is what `status` warns of
                require_one_colour(first)
    assert {} == failures(counts)
    # a run that begins with a hold may have an operation less than the first: the last ones are not reached
    assert set(codes) <= {-9, 137, usual}
    assert codes.count(usual) <= 1 + len(codes) // 10
    mark(second, "ready")
    bb("colours", "unhold", check=False)


@pytest.mark.parametrize("by", ["the boot unit", "recover"])
def test_blue_green_survives_a_reboot(by: str) -> None:
    live = current(COLOURS)
    colour = serving()
    sh("systemctl", "stop", "colours@blue.service", "colours@green.service")
    shutil.rmtree("/run/colours")  # /run is empty after a boot
    sh("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/colours.conf")
    if by == "recover":
        bb("colours", "recover")
    else:
        sh("systemctl", "start", "colours-boot.service")
        deadline = time.monotonic() + 30
        while prop(f"colours@{colour}.service", "ActiveState") != "active" and time.monotonic() < deadline:
            time.sleep(0.1)
    assert colour == serving()
    require_one_colour(live)
    assert "enabled" == prop("colours-boot.service", "UnitFileState")


@pytest.mark.parametrize("outlives", [False, True], ids=["as in /run", "its link outlives the boot"])
def test_blue_green_a_boot_serves_a_release_to_which_a_person_has_moved_the_link(outlives: bool) -> None:
    first, second = two_releases("colours")
    idle = COLOURS / "slots" / other(serving())
    lead(COLOURS / "current", f"releases/{second}")
    sh("systemctl", "stop", "colours@blue.service", "colours@green.service")
    if outlives:  # and no slot leads to the release
        idle.unlink(missing_ok=True)
    else:
        shutil.rmtree("/run/colours")
        sh("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/colours.conf")
    said = bb("colours", "recover")
    serves = f"colours@{serving()}.service"
    assert f"{serves}: did not run, started" in said.stdout + said.stderr
    assert second == current(COLOURS) == health(str(ACTIVE))["release"]
    assert "active" == prop(serves, "ActiveState")
    bb("colours", "switch", first)
    require_one_colour(first)


def takes_over(release: str, by: str) -> None:
    """A release goes live beside the other, unseen by visitors; `by` is the proof that it runs."""
    with load() as counts:
        bb("colours", "switch", release, "--force")
    assert {} == failures(counts)
    require_one_colour(release)
    assert {f"colours@{serving()}.service": by} == proofs("colours")


def test_blue_green_by_what_polkit_alone_allows() -> None:
    first, second = two_releases("colours")
    by_sudo = SUDOERS.read_text()
    SUDOERS.unlink()
    try:
        refused = bb("colours", "switch", second, "--force", check=False)
        assert refused.returncode == 1, refused.stdout + refused.stderr
        rules = polkit_rules(refused.stderr)
        assert rules, refused.stderr
        POLKIT.write_text("\n".join(rules) + "\n")
        sh("systemctl", "restart", "polkit.service")
        for release in (second, first):
            takes_over(release, "its start and its command line")
        serves = f"colours@{serving()}.service"
        for words in (("enable", serves), ("kill", serves), ("stop", "colours-boot.service"), ("daemon-reload",)):
            done = sh("systemctl", "--no-ask-password", *words, user="deploy", check=False)
            assert re.search("(?i)access denied|authentication required|not permitted", done.stderr), (words, done)
            assert done.returncode != 0
    finally:
        POLKIT.unlink(missing_ok=True)
        SUDOERS.write_text(by_sudo)
        SUDOERS.chmod(0o440)


@contextmanager
def others_hidden() -> Iterator[None]:
    """As on a host that mounts /proc with hidepid: no user sees another one's processes."""
    sh("mount", "-o", "remount,hidepid=invisible", "/proc")
    try:
        seen = sh("ls", "/proc", user="deploy").stdout.split()
        assert "1" not in seen, "the processes of others are shown all the same"
        yield
    finally:
        sh("mount", "-o", "remount,hidepid=off", "/proc")


def test_blue_green_where_no_process_of_the_site_is_shown() -> None:
    first, second = two_releases("colours")
    with others_hidden():
        for release in (second, first):
            takes_over(release, "its start through the link")
        refused_beside(second, "one-worker", "--force")
        require_one_colour(first)


def test_blue_green_where_no_process_of_the_site_is_shown_tells_who_stayed_silent() -> None:
    """A helper that takes no request looks like a worker that hangs: the release is led to, and a person may look."""
    first, second = two_releases("colours")
    drop_in = Path("/etc/systemd/system/colours@.service.d/helper.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nExecStartPost=/bin/sh -c 'sleep 600 & echo $$! > /srv/colours/shared/helper'\n")
    sh("systemctl", "daemon-reload")
    try:
        with others_hidden():
            done = bb("colours", "switch", second, "--force")
        unit, helper = f"colours@{serving()}.service", Path("/srv/colours/shared/helper").read_text().strip()
        assert (
            f"{unit}: nothing shows whether {helper}, which answered nothing, is a worker" in done.stdout + done.stderr
        )
    finally:
        shutil.rmtree(drop_in.parent)
        sh("systemctl", "daemon-reload")
    bb("colours", "switch", first, "--force")
    require_one_colour(first)


def test_blue_green_a_worker_finishes_its_task_beside_its_successor() -> None:
    first, second = two_releases("colours")
    sh("systemctl", "stop", CELERY, check=False)  # it would take tasks from the same broker
    config = Path("/etc/bb-release/colours.toml")
    config.write_text(
        config.read_text() + table("colours-celery@", 'handover = "blue-green"\ncelery = "broken_brackets"')
    )
    for file in ("/etc/systemd/system/colours-boot.service", "/etc/systemd/system/colours@.service"):
        Path(file).unlink()
    Path("/etc/tmpfiles.d/colours.conf").unlink()
    Path("/etc/nginx/sites-available/colours.conf").unlink()
    install_units("colours")
    grant(bb("colours", "deploy", "--force", check=False).stderr)  # force: there is nothing new
    bb("colours", "restart")
    live, old = current(COLOURS), serving()
    path = Path("/srv/colours/shared/finished")
    nap(12, path, "colours")

    done = bb("colours", "switch", second if live == first else first, "--force")

    assert "slept" == path.read_text()
    assert "was killed" not in done.stdout
    states = [prop(f"colours-celery@{colour}.service", "ActiveState") for colour in (serving(), old)]
    assert ["active", "inactive"] == states
    by = "its start and its command line"
    mine = f"colours-celery@{serving()}.service"
    assert {f"colours@{serving()}.service": by, mine: f"{by} and its answer over the broker"} == proofs("colours")


def require_one_worker() -> None:
    """Beside what `require_one_colour` wants."""
    states = [prop(f"colours-celery@{colour}.service", "ActiveState") for colour in (serving(), other(serving()))]
    assert states in (["active", "inactive"], ["active", "failed"])


@pytest.mark.parametrize("point", ["requests are led on", "the new worker runs", "the old worker stops"])
def test_blue_green_with_a_worker_a_run_killed_in_the_middle_is_recovered(point: str) -> None:
    new = next(release for release in two_releases("colours") if release != current(COLOURS))
    old, idle = serving(), other(serving())
    reached = {
        "requests are led on": lambda: os.readlink(ACTIVE) == f"{idle}.sock",
        "the new worker runs": lambda: prop(f"colours-celery@{idle}.service", "ActiveState") == "active",
        "the old worker stops": lambda: prop(f"colours-celery@{old}.service", "ActiveState") != "active",
    }
    with load() as counts:
        killed_in_a_switch(new, reached[point])
        bb("colours", "recover")
        require_one_colour(new)
        require_one_worker()
    assert {} == failures(counts)


def switched_while(release: str, reached: Callable[[], bool], unit: str, what: str) -> tuple[int, str]:
    """A switch during which systemd is told to do something to a unit for nobody; its exit code, and what it said."""
    drop_in = Path(f"/etc/systemd/system/{unit}.d/refusing.conf")
    drop_in.parent.mkdir()
    try:
        with switching(release, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as agent:
            await_in(agent, reached)
            drop_in.write_text(f"[Unit]\n{what}=yes\n")
            if what == "RefuseManualStart":
                sh("systemctl", "stop", unit)
            sh("systemctl", "daemon-reload")
            said, _ = agent.communicate()
            return agent.returncode, said
    finally:
        shutil.rmtree(drop_in.parent)
        sh("systemctl", "daemon-reload")


def test_blue_green_an_old_worker_that_cannot_be_stopped_is_for_a_person() -> None:
    new = next(release for release in two_releases("colours") if release != current(COLOURS))
    old, started = f"colours-celery@{serving()}.service", f"colours-celery@{other(serving())}.service"
    with load() as counts:
        code, said = switched_while(new, lambda: prop(started, "ActiveState") == "active", old, "RefuseManualStop")
    assert code == 21, said
    assert "it goes on taking tasks with another release's code" in said
    assert f"still on {new}" in said, said
    assert "the switch itself is done, but not all that follows it" in said
    assert ("active", "verified", new) == (prop(old, "ActiveState"), manifest(new), current(COLOURS))
    assert {} == failures(counts)
    bb("colours", "recover")
    require_one_colour(new)
    require_one_worker()


def test_blue_green_an_old_worker_that_cannot_start_does_not_keep_the_web_on_a_bad_release() -> None:
    first, second = two_releases("colours")
    if current(COLOURS) != first:
        bb("colours", "switch", first, "--force")
    old, started = f"colours-celery@{serving()}.service", f"colours@{other(serving())}.service"
    with one_more_unit_that_cannot_go_on_with(second):
        bb("colours", "restart", "colours-more.service")
        with load() as counts:
            code, said = switched_while(
                second, lambda: prop(started, "ActiveState") == "active", old, "RefuseManualStart"
            )
            assert code == 21, said
            bad = old.replace(f"@{serving()}", f"@{other(serving())}")
            assert f"{bad} still run beside it" in said, said
            assert first == current(COLOURS) == health(str(ACTIVE))["release"]
        assert {} == failures(counts)
        bb("colours", "unhold", check=False)
        bb("colours", "restart")
    mark(second, "ready")
    require_one_colour(first)
    require_one_worker()


def test_blue_green_a_worker_takes_no_task_for_a_release_that_is_not_live_yet() -> None:
    first, second = two_releases("colours")
    bb("colours", "switch", first, "--force")
    idle = f"colours-celery@{other(serving())}.service"
    before, started = prop(idle, "InvocationID"), prop(idle, "ExecMainStartTimestampMonotonic")
    refused_beside(second, "500", "--force")
    assert (before, started) == (prop(idle, "InvocationID"), prop(idle, "ExecMainStartTimestampMonotonic"))
    assert "inactive" == prop(idle, "ActiveState")


def test_blue_green_a_worker_alone_is_started_anew_before_the_one_that_runs_is_stopped() -> None:
    """No socket's link tells which of the two serves while both slots lead to the live release."""
    root, unit = Path("/srv/alone"), "alone-celery@{}.service".format
    configure("alone", "", table("alone-celery@.service", 'handover = "blue-green"\ncelery = "broken_brackets"'))
    install_units("alone")
    grant(bb("alone", "deploy", check=False).stderr)
    bb("alone", "deploy")
    # systemd forgets a unit that is not enabled and has ended, unless another one names it
    Path("/etc/systemd/system/alone-known.target").write_text(f"[Unit]\nAfter={unit('blue')} {unit('green')}\n")
    sh("systemctl", "start", "alone-known.target")
    live, seen = current(root), []
    for words in (("restart",), ("restart", unit("green")), ("switch", live, "--force"), ("switch", live, "--force")):
        old = serving(root)
        seen.append(old)
        if words[0] == "switch":
            mark(live, "bad", root)
        said = bb("alone", *words).stdout
        if len(words) == 2:  # as systemctl and journalctl show it
            assert said.startswith(f"restart {unit('')}: {words[1]} is an instance of {unit('')}\n")
        started, stopped = (
            int(prop(unit(colour), f"{moment}TimestampMonotonic"))
            for colour, moment in ((other(old), "ExecMainStart"), (old, "ActiveExit"))
        )
        assert 0 < started < stopped, f"{words}: {old} was stopped before {other(old)} was started"
        assert ("inactive", "active") == tuple(prop(unit(each), "ActiveState") for each in (old, other(old)))
        assert [other(old)] == os.listdir(root / "slots")
        assert bb("alone", "status").returncode == 0
    assert ["blue", "green", "blue", "green"] == seen

    # a run that ended while both led there is recovered from: what runs goes on
    before = prop(unit("blue"), "MainPID")
    (root / "slots/green").symlink_to(f"../releases/{live}")
    bb("alone", "recover")
    assert (["blue"], before) == (os.listdir(root / "slots"), prop(unit("blue"), "MainPID"))
    sh("systemctl", "stop", unit("blue"), "alone-known.target")


# ---- blue-green, units of the user's own


def test_blue_green_with_units_of_the_user_s_own() -> None:
    root, runtime = Path("/srv/own"), Path(f"/run/user/{pwd.getpwnam('deploy').pw_uid}")
    active = runtime / "own/active.sock"
    configure("own", f"http+unix://{active}:/health/",
              table("own@.service", f'user = true\nhandover = "blue-green"\nsocket = "{active}"'))  # fmt: skip
    linger()
    said = bb("own", "units", "--install").stdout
    for line in re.findall(r"^  (XDG_RUNTIME_DIR=\S+ systemctl --user enable .*)$", said, re.MULTILINE):
        if "timer" not in line:
            sh("env", *line.partition("#")[0].split(), user="deploy")
    bb("own", "deploy")
    live = current(root)
    assert {"own@blue.service": "its processes"} == proofs("own")
    assert live == health(str(active))["release"]
    with load(str(active)) as counts:
        bb("own", "restart")
    assert {("200", live)} == set(counts)
    assert {"own@green.service": "its processes"} == proofs("own")
    assert ["green"] == os.listdir(root / "slots")

    # as at boot: nothing runs, and the folder of the sockets is gone
    own = ("env", f"XDG_RUNTIME_DIR={runtime}", "systemctl", "--user")
    sh(*own, "stop", "own@green.service", user="deploy")
    shutil.rmtree(active.parent)
    sh(*own, "start", "own-boot.service", user="deploy")
    deadline = time.monotonic() + 30
    while bb("own", "status", check=False).returncode and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ("green.sock", live) == (os.readlink(active), health(str(active))["release"])
    facts = json.loads(bb("own", "check", "--json", check=False).stdout)["facts"]
    told = [fact["text"] for fact in facts if fact["text"].startswith(("own@", "bb-rel")) and fact["level"] != "ok"]
    assert [f"own@green.service listens below {runtime}, which is closed to all other users"] == [
        text.partition(":")[0] for text in told
    ]


def test_a_running_site_changes_to_blue_green_beside_the_unit_that_it_had() -> None:
    good, second = two_releases("handover")
    mode("handover", "well", second)
    config, folder = Path("/etc/bb-release/handover.toml"), Path("/run/handover-two")
    folder.mkdir()
    sh("chown", "deploy:www-data", folder)
    folder.chmod(0o2775)
    template = Path("/etc/systemd/system/colours@.service").read_text()
    template = template.replace("/run/colours", str(folder)).replace("colours", "handover")
    Path("/etc/systemd/system/handover@.service").write_text(template)
    sh("systemctl", "daemon-reload")
    pair = table("handover@.service", f'handover = "blue-green"\nsocket = "{folder}/active.sock"')
    config.write_text(config.read_text() + pair)
    grant(bb("handover", "deploy", "--force", check=False).stderr)

    bb("handover", "switch", second, "--force")

    assert second == health("/run/handover/web.sock")["release"] == health(f"{folder}/active.sock")["release"]
    # nginx connects to the link from now on, and the unit is taken out
    text = config.read_text().replace(table(WEB, 'handover = "socket"'), "")
    config.write_text(text.replace("/run/handover/web.sock", f"{folder}/active.sock"))
    assert (
        f"{WEB} still runs, but is no unit of handover any more"
        in bb("handover", "deploy", "--force", check=False).stderr
    )
    sh("systemctl", "stop", "handover.socket", WEB)
    with load(f"{folder}/active.sock") as counts:
        bb("handover", "switch", good, "--force")
    assert {} == failures(counts)
    assert good == health(f"{folder}/active.sock")["release"]
