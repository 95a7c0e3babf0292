"""Static files outside of the release: they are the live site's, so nothing writes there before the link moves."""

from __future__ import annotations

import os

from example_site import Site

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
