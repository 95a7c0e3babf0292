"""scripts/bench as a developer runs it, at its smallest: every contestant really deploys. No test asserts a time."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from example_site import NOBODY, unprivileged

PROJECT = Path(__file__).resolve().parents[2]
SIZES = {"files": 120, "static_files": 40, "migrations": 24}
SCENARIOS = {"cold", "code", "requirements", "static", "nothing", "back", "rollback"}
# where each keeps its tree and its environment, below `current`
PLACES = {
    "bb-release": ("app", "venv"), "article": (".", "venv"), "fabric": (".", "venv"), "capistrano": (".", "venv"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[tuple[Path, dict[str, Any]]]:
    """One short run; the folder that it worked in, and its numbers."""
    scratch = Path(tempfile.mkdtemp(prefix="bb-bench-test-"))
    scratch.chmod(0o755)
    folder, numbers = scratch / "kept", scratch / "numbers.json"
    try:
        done = subprocess.run(
            [PROJECT / "scripts" / "bench", "--size", "small", "--rounds", "1", "--releases", "20",
             "--json", numbers, "--keep", folder],
            cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1500,
        )  # fmt: skip
        assert 0 == done.returncode, done.stdout + done.stderr
        yield folder, json.loads(numbers.read_text())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def contestants(facts: dict[str, Any]) -> dict[str, str]:
    """Names, and the folders of their roots."""
    return {name: name.lower().split("'")[0] for name in facts["results"]}


def test_who_takes_part_is_there_and_who_does_not_is_named(bench: tuple[Path, dict[str, Any]]) -> None:
    _, facts = bench
    wanted = ["bb-release", "Article's script", "Fabric"]
    if shutil.which("cap"):
        wanted.append("Capistrano")
    else:
        assert any("Capistrano" in text for text in facts["left_out"])
    assert wanted == list(facts["results"])


def test_each_contestant_was_measured_in_every_scenario(bench: tuple[Path, dict[str, Any]]) -> None:
    _, facts = bench
    assert [SCENARIOS] * len(facts["results"]) == [set(found) for found in facts["results"].values()]


def test_each_live_release_imports_from_its_own_packages_and_has_its_static_files(
    bench: tuple[Path, dict[str, Any]],
) -> None:
    folder, facts = bench
    script = (
        "import sys, django, shop.wsgi, shop.libraries, bench_lib_000.version\n"
        "from django.contrib.staticfiles.storage import staticfiles_storage\n"
        "from django.db import connection\n"
        "from django.db.migrations.recorder import MigrationRecorder\n"
        "own = django.__file__.startswith(sys.prefix) and shop.wsgi.__file__.startswith(sys.argv[1])\n"
        "static = staticfiles_storage.path(staticfiles_storage.stored_name('part_000/0.png'))\n"
        "print(own, open(static, 'rb').read(1) != b'', MigrationRecorder(connection).migration_qs.count())\n"
    )
    for name, root in contestants(facts).items():
        tree, venv = PLACES[root]
        live = (folder / root / "current").resolve(strict=True)
        assert folder / root / "releases" == live.parent, name
        done = subprocess.run(
            [live / venv / "bin" / "python", "-B", "-c", script, live], cwd=live / tree, capture_output=True, text=True,
            env={"DATABASE_PATH": f"{folder}/{root}/shared/db.sqlite3", "PYTHONPATH": str(live / tree)},
            **unprivileged(),
        )  # fmt: skip
        assert f"True True {SIZES['migrations']}\n" == done.stdout, f"{name}: {done.stdout}{done.stderr}"
        collected = [file for _, _, files in os.walk(live / tree / "staticfiles") for file in files]
        assert SIZES["static_files"] < len(collected), name
        assert os.geteuid() != 0 or NOBODY == live.stat().st_uid, name


def test_the_site_has_the_size_that_it_says(bench: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = bench
    tracked = subprocess.run(
        ["git", "-c", f"safe.directory={folder}/repository", "ls-files"], cwd=folder / "repository",
        capture_output=True, text=True, check=True, **unprivileged(),
    ).stdout.split()  # fmt: skip
    assert SIZES["files"] == len(tracked) == facts["size"]["files"]
    assert SIZES["static_files"] == len([path for path in tracked if path.startswith("assets/")])
    packages = list((folder / "bb-release/current/venv").glob("lib/python3*/site-packages/*.dist-info"))
    assert facts["size"]["packages"] == len(packages)


def test_the_floor_was_measured_step_by_step_in_the_same_run(bench: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = bench
    assert (folder / "floor" / "current").resolve(strict=True).parent == folder / "floor" / "releases"
    assert {"fetch", "tree", "packages, hard links", "Django start", "collectstatic", "syncfs"} <= set(facts["floor"])
    assert all(0 <= found["min"] <= found["median"] for found in facts["floor"].values())


def test_packages_that_are_hard_linked_are_counted_once(bench: tuple[Path, dict[str, Any]]) -> None:
    _, facts = bench
    disk = facts["disk"]
    assert {*facts["results"], "bb-release, beside the live one: for the next"} == set(disk)
    assert disk["bb-release"]["mb"] < disk["Article's script"]["mb"]


def test_many_releases_were_there_and_are_pruned(bench: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = bench
    assert 20 == facts["many"]["releases"]
    left = os.listdir(folder / "many" / "releases")
    assert len(left) == facts["many"]["left_after_prune"] < 20


def test_nothing_is_left_running(bench: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = bench
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()) or process.cwd().startswith(str(folder)):
                found.append(process.cmdline())
        except psutil.Error:
            continue
    assert [] == found


def test_the_readme_and_the_page_show_what_was_measured() -> None:
    sys.path.insert(0, str(PROJECT / "scripts"))
    from benchmark import plot, report

    known = json.loads((PROJECT / "docs" / "speed.json").read_text())
    readme = (PROJECT / "README.md").read_text()
    assert report.readme_table(known["standard"]) in readme
    assert report.described(known["standard"]) in readme
    assert report.page(known) == (PROJECT / "docs" / "speed.md").read_text()
    assert plot.drawn(known) == (PROJECT / "docs" / "speed.svg").read_text()


def test_the_same_seed_makes_the_same_site(tmp_path: Path, bench: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = bench
    script = (
        "import sys; from pathlib import Path; from benchmark.project import Project\n"
        "from benchmark.packages import package_files; from benchmark.sizes import SIZES; from benchmark.text import Text\n"
        "text, size = Text(1), SIZES['small']\n"
        "each = size.package_files // size.own_packages\n"
        "[package_files(f'bench-lib-{n:03}', each, text) for n in range(size.own_packages)]\n"
        "Project(Path(sys.argv[1]), size, {}).make(text)\n"
    )
    subprocess.run(
        [PROJECT / ".venv/bin/python", "-c", script, tmp_path / "again"],
        check=True,
        env={"PYTHONPATH": PROJECT / "scripts"},
    )
    differing = [
        str(path.relative_to(tmp_path / "again"))
        for path in (tmp_path / "again").rglob("*")
        if path.is_file()
        and path.read_bytes() != (folder / "repository" / path.relative_to(tmp_path / "again")).read_bytes()
    ]
    style, *others = sorted(differing)
    assert ["requirements.txt", "shop/revision.py"] == others
    assert re.fullmatch(r"assets/.*\.css", style)
