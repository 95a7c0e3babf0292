"""What is found in a unit of systemd as it is written: one line each, and nothing in the units that we write."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bb_release.actions import units
from bb_release.actions.audit import audit
from bb_release.model.app import App, Health, Unit
from bb_release.model.fact import Level
from bb_release.tools.systemctl import assignments

ROOT = "/srv/shop"
BIN = f"{ROOT}/current/venv/bin"
APP = App(
    "shop", "git@git.example.org:a/b.git", Path(ROOT), env_file=Path("/etc/shop/shop.env"), settings="shop.settings",
    shared_folders=("media",), application="shop.wsgi:application",
    health=Health("http+unix:///run/shop/web.sock:/health/"),
)  # fmt: skip
WEB, WORKER, BEAT = Unit("shop.service"), Unit("shop-celery.service"), Unit("shop-beat.service")
GREEN = Unit("shop@green.service", handover="blue-green", socket="/run/shop/active.sock")


def line(words: str) -> str:
    """As `systemctl show` of systemd 252 writes it."""
    return f"{{ path={words.split()[0]} ; argv[]={words} ; ignore_errors=no ; start_time=[n/a] ; pid=0 ; status=0/0 }}"


GOOD = {
    "LoadState": "loaded", "ExecStart": line(f"{BIN}/gunicorn shop.wsgi"), "ExecReload": "",
    "WorkingDirectory": f"{ROOT}/current/app", "KillMode": "mixed", "TimeoutStopUSec": "45s", "Environment": "",
    "EnvironmentFiles": f"{ROOT}/current/release.env (ignore_errors=no)\n/etc/shop/shop.env (ignore_errors=no)",
    "PrivateTmp": "no", "ProtectHome": "no", "ProtectSystem": "no", "RuntimeDirectory": "",
    "RuntimeDirectoryPreserve": "no",
}  # fmt: skip


def found(unit: Unit, app: App = APP, backlog: str = "", **facts: str) -> list[tuple[str, str]]:
    """The text of each finding, and the line to change, or what to type where that is all."""
    return with_socket({"Backlog": backlog} if backlog else None, unit, app, **facts)


def with_socket(lines: dict[str, str] | None, unit: Unit = WEB, app: App = APP, **facts: str) -> list[tuple[str, str]]:
    """The same for a unit that a socket unit with these lines starts."""
    socket = {"shop.socket": {"Listen": "/run/shop/web.sock (Stream)", **lines}} if lines is not None else {}
    said = [fact for fact in audit(app, unit, {**GOOD, **facts}, socket) if fact.level is not Level.OK]
    assert all(fact.level is Level.WARN for fact in said)
    return [(fact.text, fact.do.partition("   # ")[2] or fact.do) for fact in said]


def worker(words: str = "worker", **facts: str) -> dict[str, str]:
    return {"ExecStart": line(f"{BIN}/celery -A shop {words}"), "TimeoutStopUSec": "10min", **facts}


WRONG = [
    (WEB, {"ExecStart": line("/opt/gunicorn shop.wsgi")}, "does not start through /srv/shop/current",
     f"ExecStart={BIN}/gunicorn …   (bb-release units shows it whole)"),
    # a configuration in the release is not the program, and its packages would never change
    (WEB, {"ExecStart": line(f"/opt/venv/bin/gunicorn -c {ROOT}/current/app/gunicorn.conf.py shop.wsgi")},
     "does not start through /srv/shop/current", f"ExecStart={BIN}/gunicorn …   (bb-release units shows it whole)"),
    (WEB, {"ExecStart": line(f"/opt/venv/bin/python -m gunicorn -c {ROOT}/current/app/c.py shop.wsgi")},
     "does not start through /srv/shop/current", f"ExecStart={BIN}/gunicorn …   (bb-release units shows it whole)"),
    (WEB, {"ExecStart": line(f"/usr/bin/python3 {BIN}/gunicorn shop.wsgi")},
     "does not start through /srv/shop/current", f"ExecStart={BIN}/gunicorn …   (bb-release units shows it whole)"),
    (WEB, {"ExecStart": line(f"/opt/serve --pidfile {ROOT}/current/pid")},
     "does not start through /srv/shop/current", f"ExecStart={BIN}/… …   (bb-release units shows it whole)"),
    (WEB, {"NeedDaemonReload": "yes"}, "was changed since systemd read it", "sudo systemctl daemon-reload"),
    (replace(WEB, user=True), {"NeedDaemonReload": "yes"}, "what a restart starts, are the lines of before",
     "systemctl --user daemon-reload"),
    (WEB, {"ExecStart": line(f"{BIN}/python -m gunicorn shop.wsgi")}, "starts as python -m gunicorn",
     f"ExecStart={BIN}/gunicorn …"),
    (WEB, {"ExecStart": line(f"{BIN}/python3 -u -m gunicorn shop.wsgi")}, "starts as python -m gunicorn",
     f"ExecStart={BIN}/gunicorn …"),
    (WEB, {"ExecStart": line(f"{BIN}/python {BIN}/gunicorn shop.wsgi")}, f"starts as python {BIN}/gunicorn",
     f"ExecStart={BIN}/gunicorn …"),
    (WEB, {"ExecStart": line(f"{BIN}/gunicorn --chdir {ROOT}/current/app shop.wsgi")}, "starts with --chdir",
     f"take --chdir out; WorkingDirectory={ROOT}/current/app"),
    (WEB, {"ExecStart": line(f"{BIN}/gunicorn --chdir={ROOT}/current shop.wsgi"), "WorkingDirectory": ""},
     "starts with --chdir", f"take --chdir out; WorkingDirectory={ROOT}/current/app"),
    (WEB, {"ExecStart": line(f"{BIN}/uvicorn --app-dir {ROOT}/current/app shop.asgi:app")}, "starts with --app-dir",
     f"take --app-dir out; WorkingDirectory={ROOT}/current/app"),
    (WEB, {"Environment": f"A=1 PWD={ROOT}/current"}, "has PWD= through the link", "take Environment=PWD=… out"),
    (WEB, {"Environment": f"PYTHONPATH=/opt/x:{ROOT}/current/app"}, "has PYTHONPATH= through the link",
     "take Environment=PYTHONPATH=… out"),
    (WEB, {"ExecReload": line("/bin/kill -HUP $MAINPID")}, "can be reloaded, which keeps the old packages",
     "take ExecReload= out: then reload is refused, and reload-or-restart restarts"),
    (WEB, {"WorkingDirectory": f"{ROOT}/releases/2026-01-01-00-00-00/app"}, "not in the release",
     f"WorkingDirectory={ROOT}/current/app"),
    (WEB, {"WorkingDirectory": ""}, "works in /, not in the release", f"WorkingDirectory={ROOT}/current/app"),
    (WEB, {"KillMode": "process"}, "has KillMode=process", "KillMode=mixed"),
    (WORKER, worker(KillMode="control-group"), "kills the tasks that are running", "KillMode=mixed"),
    (WORKER, worker("worker --pool=prefork", KillMode="control-group"), "kills the tasks that", "KillMode=mixed"),
    (WEB, {"TimeoutStopUSec": "20s"}, "has TimeoutStopSec=20, less than gunicorn's graceful timeout (30 s, unless",
     "TimeoutStopSec=45"),
    (WEB, {"ExecStart": line(f"{BIN}/gunicorn --graceful-timeout 60 shop.wsgi")}, "graceful timeout (60 s)",
     "TimeoutStopSec=75"),
    (WEB, {"Environment": '"GUNICORN_CMD_ARGS=--graceful-timeout=50 --threads 4"'}, "graceful timeout (50 s)",
     "TimeoutStopSec=65"),
    (WEB, {"Environment": f'"GUNICORN_CMD_ARGS=--chdir {ROOT}/current/app"'}, "starts with --chdir",
     f"take --chdir out; WorkingDirectory={ROOT}/current/app"),
    (WEB, {"EnvironmentFiles": f"{ROOT}/releases/2026-01-01-00-00-00/release.env (ignore_errors=no)\n"
           "/etc/shop/shop.env (ignore_errors=no)"}, "which may name another release than the one that it starts from",
     f"EnvironmentFile={ROOT}/current/release.env"),
    (WEB, {"ExecStart": line(f"{BIN}/uvicorn --timeout-graceful-shutdown 90 shop.asgi:app")}, "(90 s)",
     "TimeoutStopSec=105"),
    (WORKER, worker("worker --time-limit=900"), "the time limit of its tasks (900 s)", "TimeoutStopSec=915"),
    (BEAT, worker("beat"), "keeps beat's schedule in the release",
     "StateDirectory=shop-beat and --schedule /var/lib/shop-beat/schedule"),
    (BEAT, worker(f"beat -s {ROOT}/current/schedule"), "keeps beat's schedule in the release",
     "StateDirectory=shop-beat and --schedule /var/lib/shop-beat/schedule"),
    (WORKER, worker("worker -B"), "keeps beat's schedule in the release",
     "StateDirectory=shop-celery and --schedule /var/lib/shop-celery/schedule"),
    (WORKER, worker("worker -EB"), "keeps beat's schedule in the release",
     "StateDirectory=shop-celery and --schedule /var/lib/shop-celery/schedule"),
    (WEB, {"ExecStart": line(f"{BIN}/gunicorn --bind unix:/tmp/web.sock shop.wsgi"), "PrivateTmp": "yes"},
     "its /tmp/web.sock is not the one that others see",
     "PrivateTmp=no, or a path elsewhere (RuntimeDirectory= makes one in /run)"),
    (WEB, {"ProtectSystem": "strict"}, "may not write /srv/shop/shared/media", "ReadWritePaths=/srv/shop/shared"),
    (WEB, {"ReadOnlyPaths": "-/srv/shop"}, "may not write /srv/shop/shared/media", "ReadWritePaths=/srv/shop/shared"),
    (WEB, {"EnvironmentFiles": f"{ROOT}/current/release.env (ignore_errors=no)"}, "does not read /etc/shop/shop.env",
     "EnvironmentFile=/etc/shop/shop.env"),
    (WEB, {"Environment": "DEBUG=0 EMAIL_PASSWORD=c4n4ry"}, "has EMAIL_PASSWORD in Environment=, where every user",
     "EnvironmentFile= with a file of mode 0600 that has EMAIL_PASSWORD"),
    (WORKER, worker(TimeoutStopUSec="infinity"),
     "has TimeoutStopSec=infinity: a task longer than 90 s (stop_seconds) fails a deploy",
     "TimeoutStopSec= the longest task, in seconds"),
    (WEB, {"Environment": "DJANGO_SETTINGS_MODULE=shop.other"}, "runs with shop.other, and manage.py with shop.settings",
     "Environment=DJANGO_SETTINGS_MODULE=shop.settings"),
]  # fmt: skip


@pytest.mark.parametrize(("unit", "facts", "text", "change"), WRONG, ids=[f"{w[0].name}-{w[2][:40]}" for w in WRONG])
def test_what_would_go_wrong_is_one_line_with_the_line_to_change(
    unit: Unit, facts: dict[str, str], text: str, change: str
) -> None:
    ((said, line_to_change),) = found(unit, **facts)
    assert said.startswith(f"{unit.name} ")
    assert "c4n4ry" not in said + line_to_change
    assert text in said
    assert change == line_to_change


RIGHT = [
    (WEB, {}),
    (WEB, {"ExecStart": line(f"{BIN}/gunicorn -m 007 --chdir site shop.wsgi")}),  # -m: the umask; a folder in the release
    (WEB, {"ExecStart": line(f"/bin/sh -c exec {BIN}/gunicorn shop.wsgi")}),
    (WEB, {"ExecStart": line(f"{BIN}/python manage.py worker")}),
    (WEB, {"ExecStart": line(f"/usr/bin/env A=1 {BIN}/gunicorn shop.wsgi")}),
    (WEB, {"ExecStart": line(f"/usr/bin/env A=1 {ROOT}/current/app/serve")}),
    (WEB, {"ExecStart": line(f"{ROOT}/current/app/serve --port 1")}),
    (WEB, {"ExecStart": line(f"/bin/sh -c umask 7; exec {ROOT}/current/app/serve")}),
    (WEB, {"NeedDaemonReload": "no"}),
    (WEB, {"Environment": "SECRET_KEY_FILE=/run/credentials/x API_TOKEN="}),
    (WEB, {"KillMode": "control-group"}),  # gunicorn's own workers take TERM as graceful too
    (WEB, {"WorkingDirectory": f"!{ROOT}/current/app"}),  # as systemd writes one that may be missing
    (WEB, {"TimeoutStopUSec": "infinity"}),
    (WEB, {"ExecStart": line(f"{BIN}/gunicorn --graceful-timeout 10 shop.wsgi"), "TimeoutStopUSec": "15s"}),
    (WORKER, worker()),
    (WORKER, worker("worker --pool solo", KillMode="control-group")),
    (WORKER, worker("worker -P gevent", KillMode="control-group")),
    (WORKER, worker("multi start worker", KillMode="control-group")),
    (BEAT, worker("beat --schedule /var/lib/shop/schedule")),
    (BEAT, worker("beat -S django_celery_beat.schedulers:DatabaseScheduler")),
    (WEB, {"PrivateTmp": "yes", "ProtectHome": "yes"}),
    (WEB, {"ProtectSystem": "strict", "ReadWritePaths": "-/srv/shop/shared/media"}),
    (WEB, {"ReadOnlyPaths": f"{ROOT}/releases"}),
    (Unit("nginx.service", runs_release=False), {"ExecReload": line("/usr/sbin/nginx -s reload"), "ExecStart": ""}),
    (WEB, {"LoadState": "not-found", "ExecStart": "", "WorkingDirectory": ""}),  # has a line of its own
]  # fmt: skip


@pytest.mark.parametrize(("unit", "facts"), RIGHT)
def test_what_is_right_has_no_finding(unit: Unit, facts: dict[str, str]) -> None:
    assert [] == found(unit, **facts)


def test_a_home_that_the_unit_cannot_see_is_found_where_the_root_lies_in_one() -> None:
    app = replace(APP, root=Path("/home/deploy/shop"), env_file=None, shared_folders=())
    facts = {name: value.replace(ROOT, "/home/deploy/shop") for name, value in GOOD.items()}
    ((text, change),) = found(WEB, app, **{**facts, "ProtectHome": "yes"})
    assert ("which hides /home/deploy/shop" in text, "ProtectHome=no") == (True, change)


def test_a_socket_with_a_short_queue_is_found_and_systemd_s_own_default_is_not() -> None:
    ((text, change),) = found(WEB, backlog="64")
    assert text.startswith("shop.socket has Backlog=64: ")
    assert "take Backlog= out" == change
    assert [] == found(WEB, backlog="2147483647") == found(WEB, backlog="4096")
    tcp = {"shop.socket": {"Backlog": "64", "Listen": "127.0.0.1:8000 (Stream)"}}
    assert [] == [fact for fact in audit(APP, WEB, GOOD, tcp) if fact.level is not Level.OK]


def test_a_socket_that_drops_who_waits_or_is_read_no_more_is_found() -> None:
    ((text, change),) = with_socket({"FlushPending": "yes"})
    assert text.startswith("shop.socket has FlushPending=yes: whoever waits while shop.service restarts is dropped")
    assert "take FlushPending= out" == change
    ((text, change),) = with_socket({"NeedDaemonReload": "yes"})
    assert text.startswith("shop.socket was changed since systemd read it")
    assert "sudo systemctl daemon-reload" == change
    assert [] == with_socket({"FlushPending": "no", "NeedDaemonReload": "no"})


@pytest.mark.parametrize(
    ("server", "told"), [("uvicorn", "--fd 3"), ("daphne", "--fd 3"), ("hypercorn", "--bind fd://3")]
)
def test_a_server_that_listens_for_itself_beside_the_socket_that_starts_it_is_found(server: str, told: str) -> None:
    def start(options: str) -> dict[str, str]:
        return {"ExecStart": line(f"{BIN}/{server} {options} shop.asgi:app")}

    ((text, change),) = with_socket({}, **start("--bind 127.0.0.1:8000"))
    assert text.startswith("shop.service does not listen on shop.socket, which starts it")
    assert f"ExecStart={BIN}/{server} {told} …" == change
    for options in (told, "--fd=3", "-e systemd:domain=UNIX:index=0", "--endpoint fd:fileno=3"):
        assert [] == with_socket({}, **start(options)), options
    assert [] == found(WEB, **start("--bind 127.0.0.1:8000"))  # no socket unit
    assert [] == with_socket({}, ExecStart=line(f"{BIN}/gunicorn --bind 127.0.0.1:8000 shop.wsgi"))


def test_an_instance_starts_through_its_slot_which_is_led_elsewhere_only_while_it_is_down() -> None:
    def slotted(**more: str) -> dict[str, str]:
        facts = {name: value.replace(f"{ROOT}/current", f"{ROOT}/slots/green") for name, value in GOOD.items()}
        return {**facts, **more}

    assert [] == found(GREEN, **slotted())
    python = line(f"{ROOT}/slots/green/venv/bin/python -m gunicorn --chdir {ROOT}/slots/green/app shop.wsgi")
    assert [] == found(GREEN, **slotted(ExecStart=python))
    assert [] == found(GREEN, **slotted(RuntimeDirectory="shop-green"))
    assert [] == found(GREEN, **slotted(RuntimeDirectory="shop", RuntimeDirectoryPreserve="yes"))
    ((text, change),) = found(GREEN, **slotted(RuntimeDirectory="shop"))
    assert ("and removes it when it stops" in text, "RuntimeDirectoryPreserve=yes") == (True, change)
    assert ["does not start through", "not in the release"] == [
        part for text, _ in found(GREEN) for part in ("does not start through", "not in the release") if part in text
    ]
    assert ["which may name another release"] == [
        part for text, _ in found(GREEN) for part in ("which may name another release",) if part in text
    ]
    for part in ("--bind unix:/run/shop/green.sock", "--bind=127.0.0.1:8000", "-b unix:relative.sock"):
        assert [] == found(GREEN, **slotted(ExecStart=line(f"{ROOT}/slots/green/venv/bin/gunicorn {part} shop.wsgi")))
    for part in ("--bind unix:///run/shop/green.sock", "--bind /run/shop//green.sock", "--bind unix:/run/shop/$X.sock"):
        assert [] == found(GREEN, **slotted(ExecStart=line(f"{ROOT}/slots/green/venv/bin/gunicorn {part} shop.wsgi")))
    green = line(f"{ROOT}/slots/green/venv/bin/gunicorn --bind unix:/run/shop/green.sock shop.wsgi")
    more = '"GUNICORN_CMD_ARGS=--bind unix:/run/shop/active.sock"'  # the line counts
    assert [] == found(GREEN, **slotted(ExecStart=green, Environment=more))
    user = line(f"{ROOT}/slots/green/venv/bin/gunicorn -u shop shop.wsgi")  # other servers' -u is an address
    assert 1 == len(found(GREEN, **slotted(ExecStart=user, Environment=more)))
    attached = line(f"{ROOT}/slots/green/venv/bin/gunicorn -bunix:/run/shop/blue.sock shop.wsgi")
    assert 1 == len(found(GREEN, **slotted(ExecStart=attached)))
    for place in ("/run/shop/blue.sock", "/run/shop/active.sock", "//run/shop//blue.sock"):
        for more in ("", "--bind unix:/run/shop/green.sock "):
            wrong = line(f"{ROOT}/slots/green/venv/bin/gunicorn {more}--bind unix:{place} shop.wsgi")
            ((text, change),) = found(GREEN, **slotted(ExecStart=wrong))
            assert f"listens at {place.replace('//', '/')}: it would take that away from what serves" in text
            assert "ExecStart=… /run/shop/%i.sock" == change
    ((text, change),) = found(GREEN, **slotted(WorkingDirectory=f"{ROOT}/current/app"))[:1]
    assert f"works in {ROOT}/current: it starts before that link moves" in text
    assert f"WorkingDirectory={ROOT}/slots/green/app" == change
    late = line(f"{ROOT}/slots/green/venv/bin/gunicorn --chdir {ROOT}/current/app shop.wsgi")
    ((text, _),) = found(GREEN, **slotted(ExecStart=late))
    assert f"starts with --chdir {ROOT}/current/app: it starts before that link moves" in text
    for name in ("PYTHONPATH", "PWD"):
        ((text, change),) = found(GREEN, **slotted(Environment=f"{name}={ROOT}/current/app"))
        assert f"has {name}= through {ROOT}/current: it starts before that link moves" in text
        assert f"take Environment={name}=… out" == change
    pair = replace(GREEN, name="shop-celery@green.service", socket="")
    more = {"ExecStart": line(f"{ROOT}/slots/green/venv/bin/celery -A shop --workdir {ROOT}/current/app worker")}
    # started when `current` has moved, and led elsewhere by the next move
    ((text, _),) = found(pair, **slotted(**more))
    assert "starts with --workdir" in text
    assert "a worker that starts late, or imports late, mixes two releases" in text
    more = {"ExecStart": line(f"{ROOT}/slots/green/venv/bin/celery -A shop worker -B -s /var/lib/s")}
    ((text, change),) = found(pair, **slotted(**more))
    assert "has a beat inside (-B): while two instances run, each task is sent twice" in text
    assert "take -B out, and give beat a unit of its own" == change
    cron = replace(GREEN, name="shop-cron@green.service", socket="")
    more = {"ExecStart": line(f"{ROOT}/slots/green/venv/bin/celery -A shop beat -s /var/lib/s")}
    ((text, change),) = found(cron, **slotted(**more))
    assert text.startswith("shop-cron@green.service is a beat: while two instances run, each task is sent twice")
    assert "no template: beat is one unit, which is restarted" == change


def test_the_line_to_type_names_the_template_and_whose_unit_it_is() -> None:
    app = replace(APP, units=(WEB, replace(GREEN, name="shop@.service")))

    def typed(unit: Unit) -> set[str]:
        return {fact.do.partition("   # ")[0] for fact in audit(app, unit, {**GOOD, "ExecStart": ""})}

    assert {"sudo systemctl edit --full shop.service"} == typed(WEB)
    assert {"systemctl --user edit --full shop.service"} == typed(replace(WEB, user=True))
    assert {"sudo systemctl edit --full shop@.service"} == typed(GREEN)


@pytest.mark.parametrize(
    ("file", "words", "seconds"),
    [
        ("gunicorn.conf.py", "", 120), ("web.py", "-c web.py ", 120), ("web.py", "--config=file:web.py ", 120),
        ("web.py", "", 30), ("gunicorn.conf.py", "--graceful-timeout 60 ", 60),
    ],
)  # fmt: skip
def test_the_time_that_gunicorn_s_own_file_gives_requests_counts(
    tmp_path: Path, file: str, words: str, seconds: int
) -> None:
    app, project = replace(APP, root=tmp_path), tmp_path / "current/app"
    project.mkdir(parents=True)
    (project / file).write_text("workers = 3\n# graceful_timeout = 5\ngraceful_timeout = 120  # s\n")
    gunicorn = line(f"{tmp_path}/current/venv/bin/gunicorn {words}shop.wsgi")
    facts = {"ExecStart": gunicorn, "WorkingDirectory": str(project), "TimeoutStopUSec": "20s"}
    files = f"{tmp_path}/current/release.env (ignore_errors=no)\n/etc/shop/shop.env (ignore_errors=no)"
    ((text, _),) = found(WEB, app, **facts, EnvironmentFiles=files)
    assert f"has TimeoutStopSec=20, less than gunicorn's graceful timeout ({seconds} s" in text


def test_a_worker_s_time_for_its_tasks_is_told() -> None:
    said = [fact.text for fact in audit(APP, WORKER, {**GOOD, **worker(TimeoutStopUSec="1min 30s")})]
    assert ["shop-celery.service: a restart gives running tasks 90 s (TimeoutStopSec=), then kills them"] == said


DEFAULTS = {
    "LoadState": "loaded", "KillMode": "control-group", "TimeoutStopUSec": "1min 30s", "RuntimeDirectoryPreserve": "no",
}  # fmt: skip
ALSO = {"TimeoutStopSec": "TimeoutStopUSec", "EnvironmentFile": "EnvironmentFiles", "ListenStream": "Listen"}


def as_shown(text: str, colour: str = "") -> dict[str, str]:
    """A unit file as `systemctl show` tells it, as far as it is looked at."""
    facts = dict(DEFAULTS)
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        told = value.replace("%%", "\0").replace("%i", colour).replace("%S", "/var/lib")
        told = told.replace("%t", "/run/user/1").replace("\0", "%")
        if name == "ExecStart":
            told = line(told)
        elif name == "TimeoutStopSec":
            told += "s"
        elif name == "EnvironmentFile":
            told = "\n".join([*facts.get("EnvironmentFiles", "").splitlines(), f"{told} (ignore_errors=no)"])
        facts[ALSO.get(name, name)] = told
    return facts


@pytest.mark.parametrize("application", ["shop.wsgi:application", "shop.asgi:application"])
@pytest.mark.parametrize("subfolder", ["", "site"])
@pytest.mark.parametrize("user", [False, True])
def test_the_units_that_we_write_have_no_finding(application: str, subfolder: str, user: bool) -> None:
    pair = (replace(GREEN, name="shop@.service"), Unit("shop-celery@.service", handover="blue-green"), BEAT)
    seen = 0
    for trio in ((WEB, WORKER, BEAT), pair):
        ours = tuple(replace(u, user=user, socket=u.socket and f"/run/user/1{u.socket}") for u in trio)
        app = replace(
            APP, units=ours, health=None if user else APP.health, application=application, subfolder=subfolder
        )
        who = units.People("deploy", "www-data", "www-data", "/opt/bb-release/bin/bb-release")
        files = {file.path.name: file.content for file in units.render(app, who, nginx=False)}
        for unit in ours:
            known = replace(unit, name=unit.name.replace("@.", "@green."))
            sockets = {name: as_shown(text) for name, text in files.items() if name.endswith(".socket")}
            said = list(audit(app, known, as_shown(files[unit.name], "green"), sockets))
            there = [fact.text for fact in said if fact.level is not Level.OK]
            # without another address the sockets of a user lie in that user's runtime folder
            assert all("below /run/user/1, which is closed" in text for text in there), there
            assert len(there) == (user and bool(sockets or unit.socket)), unit.name
            seen += 1
    assert 6 == seen


def test_the_environment_is_read_as_systemd_writes_it() -> None:
    # printed by systemd 252 for Environment="A=a b" B=plain "C=it's $HOME \"q\" back\\slash" "D=line\nbreak" and so on
    shown = (
        r""""A=a b" B=plain "C=it's \$HOME \"q\" back\\slash" "D=line\nbreak" E= "F=tab\there" "G=uml ü" "H=\`x\`" """
        r""""I=\$" "J=a*b" K=~ "L=a;b" M=#x "N=!x" "O=\001" A=again"""
    )
    assert {
        "A": "again", "B": "plain", "C": "it's $HOME \"q\" back\\slash", "D": "line\nbreak", "E": "", "F": "tab\there",
        "G": "uml ü", "H": "`x`", "I": "$", "J": "a*b", "K": "~", "L": "a;b", "M": "#x", "N": "!x", "O": "\x01",
    } == assignments(shown)  # fmt: skip
    assert {} == assignments("") == assignments("[unprintable]")
