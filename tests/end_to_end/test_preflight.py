"""What the units would refuse later is found before anything is built, and nothing is changed by asking."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_site import PROJECT, Site, running_site


@pytest.fixture(scope="module")
def two_units(cache: Path) -> Iterator[Site]:
    with running_site(cache=cache, worker=True) as made:
        made.ok("deploy")
        yield made


def configure(site: Site, *units: str) -> None:
    site.units = list(units)
    site.write_config()
    site.own(site.config)


def test_a_unit_that_nobody_knows_stops_deploy_and_switch_before_they_change_anything(two_units: Site) -> None:
    site, live = two_units, two_units.current()
    site.edit("NOTE", "not built")
    states = site.states()
    configure(site, "web", "worker", "nobody")
    for words in (("deploy",), ("switch", live, "--force")):
        if words[0] == "switch":
            # only what is not live and verified is switched to
            manifest = site.root / "releases" / live / "release.json"
            facts = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({**facts, "state": "bad"}))
        done = site.run(*words)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "error: preflight-failed" in done.stderr
        assert "BAD_NAME: nobody" in done.stderr
        assert "supervisorctl status" in done.stderr
        assert f"still on {live}" in done.stderr
    manifest.write_text(json.dumps(facts))
    assert (live, states) == (site.current(), site.states())
    built = site.run("deploy", "--build-only")  # restarts nothing, so needs no units
    assert built.returncode == 0, built.stderr
    configure(site, "web", "worker")


def test_a_unit_that_is_configured_no_more_but_runs_is_named_with_the_command_that_stops_it(two_units: Site) -> None:
    site, live = two_units, two_units.current()
    manifest = site.root / "releases" / live / "release.json"
    facts = json.loads(manifest.read_text())
    assert ["web", "worker"] == [unit["name"] for unit in facts["units"]]
    site.edit("NOTE", "without a worker")
    configure(site, "web")

    done = site.deploy()

    assert done.returncode == 1, done.stdout + done.stderr
    assert "worker still runs, but is no unit of broken_brackets any more" in done.stderr
    assert live == site.current()
    found = re.search(r"stop it: supervisorctl (.*?);", done.stderr)
    assert found, done.stderr

    # a manifest from before units were remembered knows of none: it stops nothing
    manifest.write_text(json.dumps({key: value for key, value in facts.items() if key != "units"}))
    site.ok("deploy")
    assert live != site.current()

    supervisorctl = [PROJECT / ".venv/bin/python", "-m", "supervisor.supervisorctl"]
    stopped = subprocess.run([*supervisorctl, *found[1].split()], capture_output=True, text=True)
    assert "worker: stopped" in stopped.stdout
    site.edit("NOTE", "once more")
    manifest = site.root / "releases" / site.current() / "release.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "units": facts["units"]}))
    site.ok("deploy")  # remembered, but stopped
    assert ["web"] == [unit["name"] for unit in json.loads(site.ok("show"))["units"]]
