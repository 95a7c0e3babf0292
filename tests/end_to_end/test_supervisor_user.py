"""A supervisord that root runs, programs of a site user's own, and a deploy user who is neither: as docs/supervisor.md."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from example_site import Site, running_site
from other_settings import configured, run_at

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root may start the programs of another user")
SITE_USER = pwd.getpwnam("daemon")


class TwoUsers(Site):
    """What the deploy user (nobody) builds is run by another user."""

    supervised_by_root = True

    def own(self, *paths: Path) -> None:
        super().own(*paths)
        shared = self.root / "shared"
        subprocess.run(["chgrp", "-R", str(SITE_USER.pw_gid), shared], check=True)
        shared.chmod(0o2770)
        (shared / "site.env").chmod(0o640)

    def program_of(self, unit: str) -> str:
        return f"{super().program_of(unit)}user={SITE_USER.pw_name}\n"


@pytest.fixture(scope="module")
def two_users(cache: Path) -> Iterator[Site]:
    with running_site(cache=cache, kind=TwoUsers) as made:
        made.ok("deploy")
        yield made


def told(site: Site) -> dict[str, Any]:
    """What `status` says of the one program."""
    unit: dict[str, Any]
    (unit,) = json.loads(site.ok("status", "--json"))["units"]
    return unit


def test_each_release_runs_as_the_site_user_and_is_proven_by_what_the_deploy_user_sees(two_users: Site) -> None:
    first = two_users.current()
    two_users.second_revision()
    two_users.ok("deploy")
    second = two_users.current()
    assert first != second == two_users.answering()["release"]
    assert SITE_USER.pw_uid == Path("/proc", str(told(two_users)["pid"])).stat().st_uid
    assert "its start and its command line" == told(two_users)["proof"]
    two_users.ok("switch", first)
    assert first == two_users.answering()["release"]
    before = told(two_users)["pid"]
    two_users.ok("restart")
    assert before != told(two_users)["pid"]


def test_a_release_that_cannot_start_goes_back(two_users: Site) -> None:
    live = two_users.current()
    two_users.edit("NOTE", "a release that cannot start\n")
    unfit = run_at("after-collect-static", "rm $BB_RELEASE_FOLDER/venv/bin/gunicorn")
    with configured(two_users, **{"[run]": unfit}):
        done = two_users.deploy()
    assert 20 == done.returncode, done.stdout + done.stderr
    assert live == two_users.current() == two_users.answering()["release"]
    assert "its start and its command line" == told(two_users)["proof"]
