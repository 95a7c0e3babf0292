"""How often a deploy starts Django: what is counted here cannot become slow unseen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from example_site import TESTS, Site, running_site

# Each process that runs manage.py tells so; a fork of one does not, and what serves the site starts another way.
COUNTING = (TESTS / "broken_brackets" / "manage.py").read_text().replace(
    "def main():",
    'with open(os.environ["BB_ROOT"] + "/starts", "a") as file:\n    file.write("x")\n\n\ndef main():',
)  # fmt: skip


class Counted:
    """A live site whose starts of Django are counted."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.number = 0

    def starts(self, *words: str) -> int:
        """How often Django is started for one command of bb-release."""
        file = self.site.root / "starts"
        file.unlink(missing_ok=True)
        self.site.ok(*words)
        return len(file.read_text()) if file.exists() else 0

    def code(self) -> None:
        """A revision in which nothing but code has changed."""
        self.number += 1
        self.site.edit("brackets/balance.py", f"{self.source()}\n# {self.number}\n")

    def source(self) -> str:
        return (self.site.repository / "brackets" / "balance.py").read_text()

    def log(self) -> str:
        return self.site.ok("log")


@pytest.fixture(scope="module")
def counted(cache: Path) -> Iterator[Counted]:
    with running_site(cache=cache) as site:
        site.edit("manage.py", COUNTING)
        made = Counted(site)
        assert 2 == made.starts("deploy")  # what is loaded before migrate is not used after it
        yield made


def test_a_deploy_of_code_only_and_the_ways_back_and_forth_start_django_once(counted: Counted) -> None:
    counted.code()
    assert 1 == counted.starts("deploy")
    assert "no stage" not in counted.log()
    newest = counted.site.current()
    assert 1 == counted.starts("rollback")
    assert 1 == counted.starts("switch", newest, "--force")


def test_a_command_of_the_site_that_may_change_what_is_loaded_is_followed_by_a_new_start(counted: Counted) -> None:
    counted.code()
    run = '\n[[run]]\nat = "before-collect-static"\ncommand = ["true"]\n'
    try:
        counted.site.write_config(**{"[run]": run})
        assert 2 == counted.starts("deploy", "--force")
    finally:
        counted.site.settings.pop("[run]")
        counted.site.write_config()


def test_without_the_stage_each_command_starts_django(counted: Counted) -> None:
    counted.code()
    try:
        counted.site.write_config(stage="false")
        assert 4 == counted.starts("deploy", "--force")  # check, facts, plan, rehearsal
    finally:
        counted.site.write_config(stage="true")


def test_the_log_says_why_there_is_no_stage(counted: Counted) -> None:
    apps = counted.site.repository / "brackets" / "apps.py"
    before = apps.read_text()
    counted.site.edit("brackets/apps.py", before + "\nimport sys\n\nFIRST = sys.argv[1:][:1]\nprint(len(sys.argv))\n")
    try:
        assert 4 == counted.starts("deploy", "--force")
        assert "Django is started for each command: it reads sys.argv (apps.py:" in counted.log()
    finally:
        counted.site.edit("brackets/apps.py", before)
