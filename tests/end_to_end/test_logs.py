"""A log for each run, also where several begin in the same second; and `log` finds the one that is meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from example_site import Site
from small_shop import small_shop


@pytest.fixture(scope="module")
def shop(cache: Path) -> Iterator[Site]:
    with small_shop(cache) as made:
        made.edit("requirements.txt", "django>=5.2,<5.3\n")
        made.ok("deploy")
        yield made


def hint(said: str) -> str:
    """The log that an error block names."""
    return next(line.split()[-1] for line in said.splitlines() if line.startswith("  log:"))


def fill_a_minute(shop: Site) -> set[Path]:
    """As if a run had begun in each second of the next minute."""
    now = datetime.now(UTC)
    logs = {shop.root / "logs" / f"{now + timedelta(seconds=n):%Y-%m-%d-%H-%M-%S}-hold.log" for n in range(60)}
    for path in logs:
        path.touch(0o600)
    shop.own(shop.root / "logs")
    return logs


def test_runs_of_the_same_second_have_a_log_each_and_an_error_names_its_own(shop: Site) -> None:
    before = fill_a_minute(shop)
    failed = [shop.run("switch", f"2000-01-01-00-00-0{n}") for n in range(3)]
    assert [11] * 3 == [done.returncode for done in failed]
    assert [0] * len(before) == [path.stat().st_size for path in before]
    assert 3 == len({hint(done.stderr) for done in failed})
    for n, done in enumerate(failed):
        said = [json.loads(line) for line in shop.ok("log", "--json", hint(done.stderr)).splitlines()]
        assert ["switch_started", "failed", "switch_failed"] == [line["event"] for line in said]
        assert f"2000-01-01-00-00-0{n}" in said[1]["message"]


def test_the_log_of_a_release_is_that_of_its_last_deploy_whatever_the_times_in_the_names_are(shop: Site) -> None:
    fill_a_minute(shop)
    shop.edit("shop/urls.py", "raise ValueError('not yet')\n")
    failed = shop.deploy()
    assert 1 == failed.returncode, failed.stderr
    name = max(shop.states())
    assert f"release {name} from main" in shop.ok("log", name)
    assert shop.ok("log", name) == shop.ok("log", hint(failed.stderr))

    again = shop.deploy("--resume", name)
    assert 1 == again.returncode, again.stderr
    assert re.search(r"install-requirements +done before", again.stdout)
    assert hint(failed.stderr) != hint(again.stderr)
    assert shop.ok("log", name) == shop.ok("log", hint(again.stderr))
