"""When a switch asks the database which migrations are applied, and when it knows without."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_site import Site
from small_shop import FILES, small_shop

NOT_ASKED = "the database is not asked"
MIGRATION = (
    "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    dependencies = [{}]\n"
    "    operations = [migrations.RunSQL('CREATE TABLE stock_{} (id integer)')]\n"
)


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    """Two releases that differ in code alone, the second one live; one migration is applied."""
    with small_shop(cache) as made:
        folder = made.repository / "stock" / "migrations"
        folder.mkdir(parents=True)
        for package in (folder, folder.parent):
            (package / "__init__.py").touch()
        (folder / "0001_first.py").write_text(MIGRATION.format("", "first"))
        (made.repository / "requirements.txt").write_text("django==5.2.19\n")
        made.edit("shop/settings.py", FILES["shop/settings.py"] + "INSTALLED_APPS = ['stock']\n")
        made.ok("deploy")
        made.edit("shop/urls.py", "urlpatterns = []  # changed\n")
        made.ok("deploy")
        yield made


def test_a_switch_between_the_same_migrations_asks_no_database(shop: Site) -> None:
    first, second = sorted(shop.states())
    database = shop.root / "shared/db.sqlite3"
    database.rename(shop.root / "away")
    shop.ok("switch", first)
    assert not database.exists()  # a question would have made an empty one
    assert NOT_ASKED in shop.ok("log")
    assert first == shop.current() != second


def test_a_switch_asks_a_database_that_may_be_another_one(shop: Site) -> None:
    first, second = sorted(shop.states())
    file = shop.root / "shared/site.env"
    file.write_text(file.read_text().replace("db.sqlite3", "another.sqlite3"))
    refused = shop.run("switch", first)
    assert (11, second) == (refused.returncode, shop.current()), refused.stderr
    assert "has migrations that are not applied" in refused.stderr


def test_a_switch_back_over_a_migration_asks_and_says_that_the_database_is_ahead(shop: Site) -> None:
    _, second = sorted(shop.states())
    shop.edit("stock/migrations/0002_second.py", MIGRATION.format("('stock', '0001_first')", "second"))
    shop.ok("deploy")
    done = shop.run("switch", second)
    assert 0 == done.returncode, done.stderr
    assert "the database is ahead of this release by stock.0002_second" in done.stdout + done.stderr
    assert NOT_ASKED not in shop.ok("log")


OF_ANOTHER = """
DATABASES["legacy"] = {**DATABASES["default"], "NAME": DATABASES["default"]["NAME"].replace("db.sqlite3", "legacy.sqlite3")}
"""


@pytest.mark.parametrize("has_migrations_of_its_own", [False, True])
def test_a_database_that_migrate_does_not_see_to_stops_no_way_back(shop: Site, has_migrations_of_its_own: bool) -> None:
    """What a second database lacks is nobody's who deploys: it was so when the older release was live."""
    with sqlite3.connect(shop.root / "shared/legacy.sqlite3") as legacy:
        if has_migrations_of_its_own:
            legacy.execute("CREATE TABLE django_migrations (id integer, app text, name text, applied text)")
            legacy.execute("INSERT INTO django_migrations VALUES (1, 'wares', '0001_initial', '2020-01-01')")
    legacy.close()
    os.chmod(shop.root / "shared/legacy.sqlite3", 0o666)
    shop.edit("shop/settings.py", (shop.repository / "shop/settings.py").read_text() + OF_ANOTHER)
    shop.ok("deploy")
    older = shop.current()
    shop.edit("stock/migrations/0002_second.py", MIGRATION.format("('stock', '0001_first')", "second"))
    shop.ok("deploy")

    assert ["stock.0002_second"] == applied_by_live(shop)
    done = shop.run("switch", older)
    assert (0, older) == (done.returncode, shop.current()), done.stdout + done.stderr


def test_what_a_command_of_the_sites_own_migrates_is_noted_as_well(shop: Site) -> None:
    site_commands = '[[run]]\nat = "after-migrate"\ncommand = ["python", "manage.py", "migrate", "--database=legacy"]\n'
    shop.edit("shop/settings.py", (shop.repository / "shop/settings.py").read_text() + OF_ANOTHER)
    shop.ok("deploy")
    shop.ok("manage", "--", "migrate", "--database=legacy")
    shop.write_config(**{"[run]": site_commands})
    shop.edit("stock/migrations/0002_second.py", MIGRATION.format("('stock', '0001_first')", "second"))
    shop.ok("deploy")

    assert ["legacy:stock.0002_second", "stock.0002_second"] == sorted(applied_by_live(shop))


def applied_by_live(shop: Site) -> list[str]:
    """What its deploy did to the databases, as the manifest has it."""
    return list(json.loads((shop.root / "current/release.json").read_text())["migrations"])
