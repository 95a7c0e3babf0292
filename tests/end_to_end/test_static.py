"""Static files outside of the release: they are the live site's, so nothing writes there before the link moves."""

from __future__ import annotations

import json
import os
import re

import pytest

from example_site import Site
from other_settings import run_at

SETTINGS = "broken_brackets/settings.py"
STYLE = "brackets/static/brackets/site.css"


def test_an_outer_static_root_is_collected_after_the_switch_and_again_on_the_way_back(site: Site) -> None:
    outer = site.root / "shared" / "static"
    line = "\nSTATIC_ROOT = os.path.dirname(os.environ['DATABASE_PATH']) + '/static'\n"
    site.edit(SETTINGS, (site.repository / SETTINGS).read_text() + line)
    refused = site.deploy()
    assert refused.returncode == 1
    assert "static_root_outside = true" in refused.stderr

    site.write_config(static_root_outside="true")
    refused = site.deploy()
    assert f"STATIC_ROOT is no folder that can be written: {outer}" in refused.stderr
    outer.mkdir()
    site.own()
    site.ok("deploy")
    first = site.current()
    old = (outer / STYLE.removeprefix("brackets/static/")).read_text()
    assert os.readlink(site.root / "current" / "static") == str(outer)

    site.edit(STYLE, "body { color: green }\n")
    site.ok("deploy", "--build-only")
    assert old == (outer / "brackets" / "site.css").read_text()
    site.ok("deploy", "--force")
    assert "body { color: green }\n" == (outer / "brackets" / "site.css").read_text()

    site.ok("switch", first)
    assert old == (outer / "brackets" / "site.css").read_text()
    if os.geteuid() != 0:
        pytest.skip("skipped: only root can give a file away")
    # what somebody else has collected there could not be replaced, on the way back neither
    os.chown(outer / "brackets" / "site.css", 1, 1)
    site.edit(STYLE, "body { color: blue }\n")
    refused = site.deploy()
    assert (1, first) == (refused.returncode, site.current())
    assert "site.css belongs to daemon" in refused.stderr
    site.own()
    site.ok("deploy")


def test_files_that_a_command_of_the_site_builds_are_linked_when_they_came_out_the_same(site: Site) -> None:
    site.bare = True
    built = "brackets/static/brackets/built.css"
    site.write_config(**{"[run]": run_at("before-collect-static", f"cat brackets/*.py | wc -c > {built}")})
    site.edit("brackets/balance.py", (site.repository / "brackets/balance.py").read_text() + "\n# 1\n")
    site.ok("deploy")
    first = site.root / "releases" / site.current()
    site.edit("NOTE", "nothing for the command\n")
    site.ok("deploy")
    assert re.search(rf"all \d+ static files are unchanged: linked to those of {first.name}", site.ok("log"))
    second = site.root / "releases" / site.current()
    assert (first / "static/brackets/built.css").samefile(second / "static/brackets/built.css")

    site.edit("brackets/balance.py", (site.repository / "brackets/balance.py").read_text() + "\n# 1 more\n")
    site.ok("deploy")
    assert "all" not in [line.split()[1] for line in site.ok("log").splitlines() if "are unchanged" in line]
    third = site.root / "releases" / site.current()
    assert (third / "app" / built).read_text() == (third / "static/brackets/built.css").read_text()
    assert (third / "app" / built).read_text() != (second / "static/brackets/built.css").read_text()


def test_a_command_after_collectstatic_may_write_into_what_is_there(site: Site) -> None:
    site.bare = True
    site.write_config(**{"[run]": run_at("after-collect-static", "echo '/* more */' >> staticfiles/brackets/site.css")})
    site.ok("deploy")
    first = site.root / "releases" / site.current() / "static/brackets/site.css"
    was = first.read_text()
    site.ok("deploy", "--force")
    second = site.root / "releases" / site.current() / "static/brackets/site.css"
    assert was == first.read_text() == second.read_text()
    assert not first.samefile(second)
    assert "collected anew with each release: a command of the site's own comes after" in site.ok("log")


def test_a_storage_of_the_project_is_asked_to_collect_each_time(site: Site) -> None:
    site.bare = True
    own = "from django.contrib.staticfiles.storage import ManifestStaticFilesStorage\n\n\n"
    own += "class Lenient(ManifestStaticFilesStorage):\n    manifest_strict = False\n"
    site.edit("broken_brackets/lenient.py", own)
    usual = (site.repository / SETTINGS).read_text()
    name = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    site.edit(SETTINGS, usual.replace(name, "broken_brackets.lenient.Lenient"))
    site.write_config()
    site.ok("deploy")
    first = site.root / "releases" / site.current() / "static/brackets/site.css"
    site.ok("deploy", "--force")
    assert not first.samefile(site.root / "current" / "static/brackets/site.css")
    assert "what broken_brackets.lenient.Lenient does is not known" in site.ok("log")


def test_a_collectstatic_that_was_cut_short_leaves_nothing_half_written_to_the_one_that_goes_on(site: Site) -> None:
    site.bare = True
    site.write_config()
    broken = site.root / "shared" / "broken"
    folder = "os.path.dirname(os.environ['DATABASE_PATH']) + '/broken'"
    line = f"\nSTATICFILES_DIRS = [{folder}] if os.path.isdir({folder}) else []\n"
    site.edit(SETTINGS, (site.repository / SETTINGS).read_text() + line)
    broken.mkdir()
    (broken / "broken.css").write_text("a { background: url(missing.png) }\n")
    failed = site.deploy("--build-only")
    assert "error: static-not-collected" in failed.stderr
    release = max((site.root / "releases").iterdir())
    style = release / "app" / "staticfiles" / "brackets" / "site.css"
    whole = style.read_text()
    style.write_text(
        whole[:5]
    )  # what a kill in the middle leaves: newer than its source, which collectstatic would skip
    (broken / "broken.css").unlink()

    site.ok("deploy", "--resume", release.name)

    assert whole == style.read_text()
    manifest = json.loads((release / "app/staticfiles/staticfiles.json").read_text())
    assert whole == (release / "app/staticfiles" / manifest["paths"]["brackets/site.css"]).read_text()
    assert not list(release.glob(".*"))
