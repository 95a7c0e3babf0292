"""A failure at each step in turn: what is live stays live, and the message says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from bb_release.actions.deploy import STEPS
from example_site import Site

SETTINGS = "broken_brackets/settings.py"


@dataclass(frozen=True)
class Break:
    """How to make one step fail for real, and what must be seen."""

    code: str
    exit_code: int = 1
    site: str = "nothing live was changed"
    files: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)  # text appended to a file of the repository
    config: dict[str, str] = field(default_factory=dict)
    act: Callable[[Site], None] | None = None


def add_escaping_link(site: Site) -> None:
    (site.repository / "evil").symlink_to("/etc/passwd")
    site.commit("a link out of the tree")


def make_shared_folder(site: Site) -> None:
    (site.root / "shared" / "manage.py" / "media").mkdir(parents=True, exist_ok=True)


def make_outer_static(site: Site) -> None:
    (site.root / "shared" / "static").mkdir(exist_ok=True)


PENDING = {
    "brackets/migrations/0009_more.py": (
        "from django.db import migrations\n\n\ndef go(apps, editor):\n    {body}\n\n\n"
        "class Migration(migrations.Migration):\n    dependencies = [('brackets', '0002_{second}')]\n"
        "    operations = [migrations.RunPython(go, go)]\n"
    )
}
HOOK = '\n[[run]]\nat = "{at}"\ncommand = ["sh", "-c", "{command}"]\n'

BREAKS = {
    "require-shared": Break("shared-missing", config={"shared_files": '["local.py"]'}),
    "checkout": Break("tree-not-exported", act=add_escaping_link),
    "create-environment": Break("environment-not-created", config={"python": '"3.99"'}),
    "install-requirements": Break("requirements-not-installed", added={"requirements.txt": "\nDjango==0.0.99\n"}),
    "link-shared": Break("shared-missing", config={"shared_folders": '["manage.py/media"]'}, act=make_shared_folder),
    "check-django": Break("application-not-importable", added={"broken_brackets/wsgi.py": "\nimport missing_module\n"}),
    "collect-static": Break("static-not-collected", added={SETTINGS: "\nSTATIC_ROOT = '/tmp/elsewhere'\n"}),
    "plan-migrations": Break(
        "migrations-not-planned", added={SETTINGS: "\nDATABASES['default']['NAME'] = '/nonexistent/x.sqlite3'\n"}
    ),
    "finish-build": Break(
        "storage-failed",
        config={"[run]": HOOK.format(at="after-collect-static", command="mkdir -m 000 $BB_RELEASE_FOLDER/closed")},
    ),
    "migrate": Break("migrate-failed", 4, "no migration was applied", files={"body": "raise ValueError('no')"}),
    "rehearse": Break(
        "rehearsal-failed", 4, "no migration was applied",
        added={"brackets/views.py": "\n\ndef health(request):\n    raise ValueError('unwell')\n"},
    ),
    "activate": Break(
        "storage-failed", 4, "applied to the database: brackets.0009_more", files={"body": "pass"},
        config={"[run]": HOOK.format(at="after-migrate", command="mkdir -p $BB_ROOT/.current.new/x")},
    ),
    "publish-static": Break(
        "static-not-collected", 20, "switched back to", config={"static_root_outside": "true"}, act=make_outer_static,
        files={"brackets/static/brackets/broken.css": "a { background: url(missing.png) }\n"},
        added={SETTINGS: "\nSTATIC_ROOT = os.path.dirname(os.environ['DATABASE_PATH']) + '/static'\n"},
    ),
    "restart-units": Break(  # it ends at once: what lives for a second has started
        "units-not-restarted", 20, "switched back to",
        config={"[run]": HOOK.format(at="after-migrate", command="rm $BB_RELEASE_FOLDER/venv/bin/gunicorn")},
        files={"body": "pass"},
    ),
    "verify": Break(
        "not-healthy", 20, "switched back to",
        added={"brackets/views.py": (
            "\n\ndef health(request):\n    import sys\n    from django.http import HttpResponse\n"
            "    return HttpResponse('unwell', status=500 if 'gunicorn' in sys.modules else 200)\n"
        )},
    ),
}  # fmt: skip


def test_every_step_of_the_pipeline_is_broken_here() -> None:
    assert [step.name for step in STEPS] == list(BREAKS)


def apply(site: Site, broken: Break) -> None:
    second = next((site.repository / "brackets/migrations").glob("0002_*.py")).stem.removeprefix("0002_")
    for name, content in broken.files.items():
        if name == "body":
            for path, text in PENDING.items():
                site.edit(path, text.format(body=content, second=second))
        else:
            site.edit(name, content)
    for name, text in broken.added.items():
        site.edit(name, (site.repository / name).read_text() + text)
    if broken.act:
        broken.act(site)
    site.edit("NOTE", broken.code)  # at the least, another revision
    if broken.config:
        site.settings.update(broken.config)
        site.write_config()
        site.own()


@pytest.mark.parametrize("step", list(BREAKS))
def test_a_failure_leaves_the_site_well_and_says_so(live_site: Site, step: str) -> None:
    site, broken = live_site, BREAKS[step]
    live, good = site.current(), site.git("rev-parse", "HEAD")
    database = site.root / "shared" / "db.sqlite3"
    before = database.read_bytes()
    settings = dict(site.settings)
    apply(site, broken)

    done = site.deploy()

    assert done.returncode == broken.exit_code, done.stdout + done.stderr
    assert f"error: {broken.code}" in done.stderr
    assert f"  {step:<22}  failed" in done.stdout
    site_line = next(line for line in done.stderr.splitlines() if line.strip().startswith("site:"))
    assert broken.site in site_line
    assert live in site_line
    assert "healthy" in site_line
    assert "remedy:" in done.stderr
    assert "log:" in done.stderr
    assert site.current() == live
    assert site.answering()["release"] == live
    newest = max(site.states())
    assert site.states()[newest] == {1: "failed", 4: "ready", 20: "bad"}[broken.exit_code]
    assert "Traceback (most recent call last)" not in done.stderr.split("site:")[1]
    assert not (site.root / "releases" / f".removing-{newest}").exists()

    # the remedy is followed: the next deploy is an ordinary one
    (site.root / ".current.new" / "x").exists() and (site.root / ".current.new" / "x").rmdir()
    (site.root / ".current.new").is_dir() and (site.root / ".current.new").rmdir()
    for closed in (site.root / "releases").glob("*/closed"):
        closed.chmod(0o755)
    site.settings.clear()
    site.settings.update(settings)
    site.write_config()
    site.git("reset", "-q", "--hard", good)
    site.git("clean", "-fdxq")
    site.edit("NOTE", f"after {step}")
    if broken.exit_code == 4:
        database.write_bytes(before)
    site.ok("unhold")
    site.ok("deploy")
    assert site.answering()["release"] == site.current() != live


def test_a_first_deploy_that_is_unhealthy_stays_and_the_next_one_is_ordinary(site: Site) -> None:
    views = (site.repository / "brackets/views.py").read_text()
    site.edit("brackets/views.py", views + BREAKS["verify"].added["brackets/views.py"])
    done = site.deploy()

    assert done.returncode == 21
    assert "there is nothing to go back to" in done.stderr
    assert site.states() == {site.current(): "bad"}

    site.edit("brackets/views.py", views)
    site.ok("deploy")
    assert site.answering()["release"] == site.current()
