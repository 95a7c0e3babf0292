"""Run inside a booted systemd (see test_whole_booted.py): from an empty host to a third release, one test a chapter.

Debian's nginx, PostgreSQL and Redis; two sites of one repository, each with a database of its own: `shop` with gthread
workers behind a socket, a Celery worker and beat; `chat` with uvicorn workers, blue-green. What is typed is what `init`
and `units --install` say. A deploy user with the rights that `units` writes, a site user (www-data); all of it is gone
with the overlay.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import whole_site
from booted_host import AGENT, CACHE, REPOSITORY, make_host, sh
from booted_host import current as current_of
from visitors import Answers, ask, failed, visiting_all
from whole_host import PostgreSQL, listen, processes_of, start_nginx, start_redis, wait_until

APPS = ("shop", "chat")
INTERFACES = {"shop": "wsgi", "chat": "asgi"}
# gunicorn's master and two workers, a worker of Celery's and its pool of one, a beat
PROCESSES = {"shop": {"gthread": 3, "worker": 2, "beat": 1}, "chat": {"uvicorn": 3}}
UNDONE = "SELECT id FROM brackets_snippet WHERE NOT balanced"
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'brackets_snippet'"
# the exit code, the release's state, what became of the site, and the unit's own last words
BAD = {
    "shop": (20, "bad", "switched back to {}", "the worker cannot go on"),
    "chat": (4, "ready", "still on {}", "the health view is unwell"),
}
A_SECOND = 10.0  # requests of each site, while any of them is deployed


class Host:
    """What the chapters know of it: where the sites are, and what their visitors were answered in all."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self.answered = {app: Answers() for app in APPS}
        self.good: dict[str, list[str]] = {app: [] for app in APPS}
        self.postgresql = PostgreSQL()


@pytest.fixture(scope="module")
def host() -> Host:
    """A host with nothing on it but Debian's packages, the agent and the repository."""
    make_host()
    sh("usermod", "-aG", "systemd-journal", "deploy")  # a unit's own last lines
    whole_site.first_revision()
    return Host()


@pytest.fixture(autouse=True)
def so_far_all_is_well(request: pytest.FixtureRequest) -> None:
    """A chapter needs those before it; the first that fails says why."""
    if request.session.testsfailed:
        pytest.skip("a chapter before it failed")


def root(app: str) -> Path:
    return Path("/srv") / app


def bb(app: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return sh(AGENT, "-a", app, *words, user="deploy", check=check)


def type_in(*lines: str, user: str = "root") -> None:
    """Type what a command printed: each line up to its remark."""
    for line in lines:
        command = line.strip().partition("   #")[0].removeprefix("sudo ")
        if command and ".timer" not in command:  # nobody pushes here
            sh("sh", "-c", command, user=user)


def levels_of(app: str, level: str) -> list[str]:
    """What `check` says at one level."""
    facts = json.loads(bb(app, "check", "--json", check=False).stdout)["facts"]
    return [fact["text"] for fact in facts if fact["level"] == level]


def configure(app: str, environment: str) -> None:
    """`init`, what an owner edits then, and what `init` says is next."""
    said = sh("sh", "-c", f"cd && {AGENT} init {REPOSITORY} -a {app}", user="deploy").stdout
    steps = re.findall(r"(?m)^ +\d\. (.*?)(?:   #.*)?$", said.partition("\nnext")[2])
    assert 4 == len(steps), said
    file = Path(f"/home/deploy/{app}.toml")
    text = file.read_text()

    def edit(old: str, new: str) -> None:
        nonlocal text
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)

    edit(f'#cache = "/srv/{app}/cache"', f'cache = "{CACHE}"')
    edit('shared_files = ["db.sqlite3"]', "")  # the database is PostgreSQL
    worker = f'[[units]]\nname = "{app}-celery.service"\ncelery = "broken_brackets"\n'
    beat = f'[[units]]\nname = "{app}-beat.service"\n'
    if app == "shop":
        assert worker in text
        assert beat in text
    else:  # without Celery, with the other interface of Django, and nothing waits
        edit(worker, "")
        edit(beat, "")
        edit('application = "broken_brackets.wsgi:application"', 'application = "broken_brackets.asgi:application"')
        text = text.replace("/run/chat/web.sock", "/run/chat/active.sock")
        edit(
            'name = "chat.service"\n',
            'name = "chat@.service"\nhandover = "blue-green"\nsocket = "/run/chat/active.sock"\n',
        )
    file.write_text(text)
    type_in(*steps[:2])
    type_in(steps[2], user="deploy")
    (root(app) / "shared/site.env").write_text(environment)
    assert f"bb-release -a {app} check" == steps[3]


def current(app: str) -> str:
    return current_of(root(app))


def seen_by_kernel(app: str) -> dict[str, int]:
    """How many processes of each kind there are; each has to be of the live release and of no other."""
    kinds: Counter[str] = Counter()
    for pid, (words, releases) in processes_of(root(app)).items():
        assert {current(app)} == releases, (pid, words, releases)
        kinds[next(kind for kind in ("uvicorn", "gthread", "worker", "beat") if kind in words)] += 1
    return dict(kinds)


def require_whole(host: Host, app: str) -> None:
    """All that has to be true whenever nothing is under way."""
    live = current(app)
    status, headers, text = ask(host.ports[app], "/health/")
    assert (200, live, live) == (status, headers["X-Release"], json.loads(text)["release"])
    assert INTERFACES[app] == json.loads(ask(host.ports[app], "/slow/")[2])["interface"]
    assert PROCESSES[app] == seen_by_kernel(app)
    said = json.loads(bb(app, "status", "--json").stdout)
    assert (live, "verified", "healthy", True) == tuple(said[key] for key in ("release", "state", "health", "well"))
    assert all(unit["running"] and unit["proof"] for unit in said["units"]), said
    assert [] == levels_of(app, "problem")
    assert any(f"names {live}" in text for text in levels_of(app, "ok"))


def style_sheet(host: Host, app: str) -> str:
    """The path of the front page's style sheet, which nginx serves from the disk."""
    found = re.search(r"/static/brackets/site\.[0-9a-f]{12}\.css", ask(host.ports[app], "/")[2])
    assert found
    status, headers, text = ask(host.ports[app], found[0])
    assert (200, "text/css", True) == (status, headers["Content-Type"], "color" in text)
    return found[0]


@contextmanager
def visitors(host: Host) -> Iterator[dict[str, Answers]]:
    """Visitors of all sites at once; what they were answered is kept for the last chapter too."""
    sites = {app: (port, ("/health/", "/", "/slow/", "/add/", style_sheet(host, app)))
             for app, port in host.ports.items()}  # fmt: skip
    with visiting_all(sites, A_SECOND) as answers:
        yield answers
    for app, seen in answers.items():
        host.answered[app] += seen


def require_ticking(host: Host) -> None:
    """Beat fires: no two tasks are of one period, and the live release's come in three periods one after the other."""

    def goes_on() -> bool:
        query = f"SELECT period FROM brackets_tick WHERE sent_by = done_by AND sent_by = '{current('shop')}'"
        mine = {int(row) for row in host.postgresql.ask("shop", query).split()}
        return any({period + 1, period + 2} <= mine for period in mine)

    wait_until(goes_on, "beat fires in three periods one after the other", 120)
    twice = "SELECT period FROM brackets_tick GROUP BY period HAVING count(*) <> 1"
    assert "" == host.postgresql.ask("shop", f"SELECT * FROM brackets_tick WHERE period IN ({twice})")


# ---- the story


def test_an_empty_host_is_set_up_by_what_the_commands_say(host: Host) -> None:
    broker = start_redis()
    start_nginx()
    for app in APPS:
        url = host.postgresql.make(app)
        number = APPS.index(app)  # a broker is of one site
        configure(app, f"SECRET_KEY={'x' * 60}\nDATABASE_URL={url}\nCELERY_BROKER_URL={broker}/{number}\n")
        assert any("systemd cannot use the unit" in text for text in levels_of(app, "problem"))
        said = sh(AGENT, "-a", app, "units", "--install").stdout
        host.ports[app] = listen(app)
        type_in(*said.partition("now:\n")[2].splitlines())
        assert 0o440 == Path(f"/etc/sudoers.d/bb-release-{app}").stat().st_mode & 0o7777
        sh("visudo", "-cf", f"/etc/sudoers.d/bb-release-{app}")
        assert [] == levels_of(app, "problem")
        assert {} == processes_of(root(app))


def test_the_deploy_user_may_restart_these_units_and_nothing_else() -> None:
    unit = r"(shop|shop-celery|shop-beat|chat@blue|chat@green)\.service|shop\.socket"
    allowed = sh("sudo", "-n", "-l", user="deploy").stdout
    lines = re.findall(r"(?m)^ +\(root\) NOPASSWD: (.*)$", allowed)
    assert lines
    for command in ", ".join(lines).split(", "):
        assert re.fullmatch(rf"/usr/bin/systemctl (start|restart|stop|reset-failed) ({unit})", command), allowed
    for words in (("restart", "nginx.service"), ("daemon-reload",), ("stop", "postgresql.service")):
        assert 0 != sh("sudo", "-n", "/usr/bin/systemctl", *words, user="deploy", check=False).returncode
        assert 0 != sh("systemctl", "--no-ask-password", *words, user="deploy", check=False).returncode


@pytest.mark.parametrize("app", APPS)
def test_a_first_deploy_serves_pages_static_files_rows_and_tasks(host: Host, app: str) -> None:
    bb(app, "deploy")

    require_whole(host, app)
    style_sheet(host, app)
    status, _, text = ask(host.ports[app], "/add/", "([]{})")
    row = "SELECT text FROM brackets_snippet WHERE id = "
    assert (200, "([]{})") == (status, host.postgresql.ask(app, f"{row}{json.loads(text)['snippet']}"))
    assert "([]{})" in ask(host.ports[app], "/")[2]
    host.answered[app]["/add/", "200", ""] += 1
    host.good[app].append(current(app))


def test_beat_fires_once_in_each_period_and_the_worker_does_each_task_once(host: Host) -> None:
    require_ticking(host)
    wait_until(lambda: not host.postgresql.ask("shop", UNDONE), "each task is done")


@pytest.mark.parametrize("app", APPS)
def test_a_second_deploy_migrates_and_takes_over_and_no_request_of_any_site_fails(host: Host, app: str) -> None:
    if app == APPS[0]:
        whole_site.second_revision()
    before, style = current(app), style_sheet(host, app)
    with visitors(host) as answers:
        bb(app, "deploy")
        require_whole(host, app)

    for seen in answers.values():
        assert {} == failed(seen)
    assert {before, current(app)} == {release for path, _, release in answers[app] if path == "/health/"}
    assert "language" in host.postgresql.ask(app, COLUMNS)
    assert style != style_sheet(host, app)
    assert 200 == ask(host.ports[app], style)[0]  # for pages from before
    host.good[app].append(current(app))


@pytest.mark.parametrize("app", APPS)
def test_a_bad_third_release_goes_back_by_itself(host: Host, app: str) -> None:
    if app == APPS[0]:
        whole_site.bad_revision()
    before = current(app)
    with visitors(host) as answers:
        done = bb(app, "deploy", check=False)
        require_whole(host, app)

    code, state, said, tells = BAD[app]
    assert code == done.returncode, done.stdout + done.stderr
    assert said.format(before) in done.stderr
    assert tells in done.stderr
    assert before == current(app)
    states = [row["state"] for row in json.loads(bb(app, "list", "--json").stdout)]  # the newest first
    assert [state, "verified", "verified"] == states
    for seen in answers.values():
        assert {} == failed(seen)
    if app == "chat":  # visitors were never led to it
        assert {before} == {release for path, _, release in answers[app] if path == "/health/"}


@pytest.mark.parametrize("app", APPS)
def test_a_good_third_release_follows(host: Host, app: str) -> None:
    if app == APPS[0]:
        whole_site.good_again()
    with visitors(host) as answers:
        bb(app, "deploy")
        require_whole(host, app)

    for seen in answers.values():
        assert {} == failed(seen)
    host.good[app].append(current(app))
    assert 3 == len(set(host.good[app]))


def test_nothing_was_lost_and_nothing_was_done_twice(host: Host) -> None:
    require_ticking(host)
    for app in APPS:
        assert [] == [text for text in levels_of(app, "warn") if text.startswith(app)]  # nothing about the units
        stored = int(host.postgresql.ask(app, "SELECT count(*) FROM brackets_snippet"))
        assert stored == sum(count for (path, status, _), count in host.answered[app].items() if path == "/add/")
    wait_until(lambda: not host.postgresql.ask("shop", UNDONE), "each task is done")
    assert set(host.good["shop"]) <= set(host.postgresql.ask("shop", "SELECT sent_by FROM brackets_tick").split())
