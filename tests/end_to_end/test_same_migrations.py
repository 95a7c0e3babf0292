"""When a switch asks the database which migrations are applied, and when it knows without."""

from __future__ import annotations

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
