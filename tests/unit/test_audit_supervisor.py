"""What is found in a program of Supervisor as supervisord tells it: one line each, and nothing in what docs/supervisor.md has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bb_release.actions.audit_supervisor import audit_programs
from bb_release.model.app import App, Unit
from bb_release.model.fact import Level

PAGE = (Path(__file__).resolve().parents[2] / "docs/supervisor.md").read_text()
ROOT = "/srv/shop"
BIN = f"{ROOT}/current/venv/bin"
ENV = f"{ROOT}/shared/site.env"
APP = App("shop", "git@git.example.org:a/b.git", Path(ROOT), env_file=Path(ENV))
WEB = Unit("shop", kind="supervisor", socket="/run/supervisor.sock")
BEFORE = f"set -a; . {ROOT}/current/release.env; . {ENV}; exec"
NAMES = {"SUPERVISOR_ENABLED", "PATH", "SECRET_KEY"}


def program(words: str = f"{BIN}/gunicorn --bind 127.0.0.1:8000 shop.wsgi", **more: Any) -> dict[str, Any]:
    """As getAllConfigInfo of Supervisor 4.3 has it."""
    return {"command": f"/bin/sh -c '{BEFORE} {words}'", "directory": f"{ROOT}/current/app", "stopwaitsecs": 45,
            "killasgroup": False, "group": "shop", "name": "shop", **more}  # fmt: skip


def celery(words: str, **more: Any) -> dict[str, Any]:
    return program(f"{BIN}/celery -A shop {words}", **{"stopwaitsecs": 600, "killasgroup": True, **more})


def found(
    *programs: dict[str, Any], unit: Unit = WEB, wanted: set[str] | None = None, names: set[str] = NAMES
) -> list[tuple[str, str]]:
    facts = audit_programs(APP, unit, programs, wanted or {"SECRET_KEY"}, [names] * len(programs))
    said = [fact for fact in facts if fact.level is not Level.OK]
    assert all(fact.level is Level.WARN for fact in said)
    return [(fact.text, fact.do) for fact in said]


def test_what_the_readme_has_is_without_any_finding() -> None:
    section = PAGE.partition("[program:shop]\n")[2].partition("```")[0]
    facts = dict(line.partition(" ;")[0].strip().split("=", 1) for line in section.splitlines())
    assert ENV in facts["command"]
    assert [] == found({**program(), **facts, "stopwaitsecs": int(facts["stopwaitsecs"])})


def test_the_next_program_of_a_group_in_turn_waits_until_the_one_before_has_imported_the_site() -> None:
    group = Unit("shop:*", kind="supervisor", socket="/run/supervisor.sock", handover="socket")
    ((text, do),) = found(program(startsecs=1), program(startsecs=1), unit=group)
    assert "shop:* has startsecs=1: a release that cannot be imported" in text
    assert do.endswith(" has: startsecs=10")
    assert [] == found(program(startsecs=5), unit=group)
    assert [] == found(program(startsecs=1))  # where all are stopped at once, that is told elsewhere


WRONG = [
    (program("/opt/bin/gunicorn shop.wsgi"), "does not start through /srv/shop/current",
     f"command={BIN}/gunicorn …"),
    (program(f"{ROOT}/releases/2026-01-01-00-00-00/venv/bin/gunicorn shop.wsgi"), "does not start through",
     f"command={BIN}/gunicorn …"),
    (program(f"/opt/bin/python -m gunicorn -c {ROOT}/current/app/c.py shop.wsgi"),
     "does not start through /srv/shop/current", f"command={BIN}/gunicorn …"),
    (program(command="/opt/start-shop"), "does not start through /srv/shop/current", f"command={BIN}/… …"),
    (program(f"{BIN}/python -m gunicorn shop.wsgi"), "starts as python -m gunicorn", f"command={BIN}/gunicorn …"),
    (program(f"{BIN}/gunicorn --chdir {ROOT}/current/app shop.wsgi"), "starts with --chdir",
     f"take --chdir out; directory={ROOT}/current/app"),
    (program(directory="none"), "works in /, not in the release", f"directory={ROOT}/current/app"),
    (program(directory=f"{ROOT}/releases/x/app"), "not in the release", f"directory={ROOT}/current/app"),
    (program(stopwaitsecs=10), "has stopwaitsecs=10, less than gunicorn's graceful timeout (30 s, unless",
     "stopwaitsecs=45"),
    (program(f"{BIN}/gunicorn --graceful-timeout=60 shop.wsgi"), "graceful timeout (60 s)", "stopwaitsecs=75"),
    (celery("worker --time-limit=900"), "the time limit of its tasks (900 s)", "stopwaitsecs=915"),
    (celery("worker", killasgroup=False), "has killasgroup=false", "killasgroup=true"),
    (celery("beat"), "keeps beat's schedule in the release", f"--schedule {ROOT}/shared/celerybeat-schedule"),
    (celery(f"beat -s {ROOT}/current/app/s"), "keeps beat's schedule", f"--schedule {ROOT}/shared/celerybeat-schedule"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "text", "change"), WRONG, ids=[w[1][:40] for w in WRONG])
def test_what_would_go_wrong_is_one_line_with_the_line_to_change(facts: dict[str, Any], text: str, change: str) -> None:
    ((said, do),) = found(facts)
    assert said.startswith("shop ") and text in said
    command, _, line = do.partition("   # once its section in Supervisor's configuration has: ")
    assert ("supervisorctl -s unix:///run/supervisor.sock update", True) == (command, line.startswith(change)), line


RIGHT = [
    celery("worker --pool=solo", killasgroup=False), celery("worker -P threads", killasgroup=False),
    celery("beat --schedule /var/lib/shop/schedule"), celery("beat -S django_celery_beat.schedulers:DatabaseScheduler"),
    program(f"cd {ROOT}/current/app && exec {BIN}/gunicorn shop.wsgi", directory="none"),
    program(command=f"{BIN}/gunicorn --graceful-timeout 20 shop.wsgi", stopwaitsecs=20),
    program(command=f"{BIN}/hypercorn shop.asgi", stopwaitsecs=10),
    program(f"{ROOT}/current/app/serve", directory=f"{ROOT}/current/app"),
    program(command="/bin/sh -c 'unclosed"), program(command=""),
]  # fmt: skip


@pytest.mark.parametrize("facts", RIGHT)
def test_what_is_right_or_cannot_be_known_is_not_spoken_of(facts: dict[str, Any]) -> None:
    assert [] == found(facts)


def test_a_group_is_told_once_and_one_that_does_not_run_the_release_not_at_all() -> None:
    pair = (program(stopwaitsecs=5), program(stopwaitsecs=5, name="shop_1"))
    assert 1 == len(found(*pair))
    assert [] == found(*pair, unit=Unit("nginx", kind="supervisor", runs_release=False))


def test_an_environment_that_lacks_what_manage_py_gets_is_told_by_its_names() -> None:
    wanted = {"SECRET_KEY", "A", "B", "C", "D"}
    ((said, do),) = found(program(), wanted=wanted)
    assert "runs without A, B, C and 1 more, which manage.py gets" in said
    assert "bb-release restart shop" == do  # its command reads the file: it was started before
    ((said, do),) = found(program(command=f"{BIN}/gunicorn shop.wsgi"), wanted={"A"})
    assert re.search(rf"set -a; \. {ENV}; exec {BIN}/gunicorn", do)
    for hidden in (set(), {"PATH"}):  # another user's, or overwritten by its title
        assert [] == found(program(), wanted=wanted, names=hidden)
