"""Secrets that do not come whole, or by a way of their own: cut at a limit, in a check's warning, in what was typed."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from example_site import Site
from serving import serving
from small_shop import everything_kept, small_shop

SECRET = "gulf-of-canaries-never-to-be-seen"
PARTS = {SECRET[at : at + 8] for at in range(len(SECRET) - 7)}  # also of one that was cut
MODELS = """
import os
from django.core.checks import Warning, register


@register()
def tell(app_configs, **kwargs):
    return [Warning("the key is " + os.environ["SECRET_KEY"], id="shop.W001")]
"""
SHOUT = "\nprint('a line without an end ' + os.environ['SECRET_KEY'] * 9_000, flush=True)\n"


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    with small_shop(cache) as site:
        site.edit("requirements.txt", "django>=5.2,<5.3\n")
        settings = site.repository / "shop/settings.py"
        site.edit("shop/models.py", MODELS)
        site.edit("shop/settings.py", settings.read_text() + "INSTALLED_APPS = ['shop']\n" + SHOUT)
        environment = site.root / "shared" / "site.env"
        environment.write_text(f"SECRET_KEY={SECRET}\nDATABASE_PATH={site.root}/shared/db.sqlite3\n")
        site.own()
        yield site


def seen_in(*texts: str) -> list[tuple[str, str]]:
    return [(part, text[max(0, at - 60) : at + 60]) for text in texts for part in PARTS if (at := text.find(part)) >= 0]


def test_a_checks_warning_a_reason_a_branch_and_a_line_that_is_cut_are_kept_and_told_without_the_secret_in_them(
    shop: Site,
) -> None:
    said: list[str] = []

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = shop.run(*words)
        said.extend([done.stdout, done.stderr])
        return done

    done = run("deploy", "-m", f"because of {SECRET}")
    assert 0 == done.returncode, done.stderr
    assert "manage.py check: (shop.W001) the key is ****" in done.stdout
    assert "shop.W001" not in run("deploy", "--force").stdout  # told once, also when it is compared without the secret
    shop.git("checkout", "-q", "-b", f"of/{SECRET}")
    shop.edit("NOTE", "another\n")
    assert 0 == run("deploy", f"of/{SECRET}").returncode, said[-1]
    held = json.loads((shop.root / "state/hold.json").read_text())
    assert "of/**** was deployed, not the branch main" == held["reason"]
    run("hold", "-m", f"for {SECRET}")
    for words in (("status",), ("list", "--json"), ("history", "--json"), ("log", "--json"), ("log",)):
        run(*words)
    for name in shop.states():
        run("show", name)
        run("log", name)
    kept = everything_kept(shop)
    assert "because of ****" in kept
    assert "for ****" in kept
    assert "a line without an end ****" in kept
    assert any("…****" in text for text in said)  # it was cut indeed, and in the secret
    assert [] == seen_in(*said, kept)


def test_what_an_older_version_left_in_a_manifest_is_shown_without_it(shop: Site) -> None:
    shop.ok("deploy", "--build-only")
    (name,) = shop.states()
    manifest = shop.root / "releases" / name / "release.json"
    facts = json.loads(manifest.read_text())
    facts["facts"]["warnings"] = [f"(shop.W001) {SECRET}"]
    manifest.write_text(json.dumps(facts))
    assert ["(shop.W001) ****"] == json.loads(shop.ok("show", name))["facts"]["warnings"]


class Cutting(BaseHTTPRequestHandler):
    """An unwell page: lines that have the secret at one column each."""

    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()
        columns = self.server.columns  # type: ignore[attr-defined]
        self.wfile.write("".join(f"{'.' * column}{SECRET}\n" for column in columns).encode())

    def log_message(self, *_: object) -> None:
        return


def test_a_health_page_whose_lines_are_cut_in_a_secret_is_told_without_its_beginning(cache: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Cutting)
    with small_shop(cache) as site, serving(server):
        site.edit("requirements.txt", "django>=5.2,<5.3\n")
        (site.root / "shared" / "site.env").write_text(
            f"SECRET_KEY={SECRET}\nDATABASE_PATH={site.root}/shared/db.sqlite3\n"
        )
        site.settings["[health]"] = f'\n[health]\nurl = "http://127.0.0.1:{server.server_port}/"\ntimeout_seconds = 1\n'
        site.write_config(rehearse="false")
        site.own()
        for first in (280, 290):
            server.columns = range(first, first + 10)  # type: ignore[attr-defined]
            done = site.deploy()
            assert 21 == done.returncode, done.stderr
            assert f"{'.' * first}****…" in done.stderr
            assert [] == seen_in(done.stdout, done.stderr, everything_kept(site), site.ok("log"))


FAULT = """
import sys, syslog
from pathlib import Path
from bb_release import console
from bb_release.actions.run import changing
from bb_release.errors import BugFound
from bb_release.model.app import App

root, secret = sys.argv[1], sys.stdin.read()
Path(root, "shared").mkdir(parents=True)
env = Path(root, "shared", "site.env")
env.write_text(f"SECRET_KEY={secret}\\n")
env.chmod(0o600)
sent = []
syslog.syslog = lambda level, text: sent.append(text)
app = App("shop", "git@git.example.org:a/b.git", Path(root), env_file=env)
try:
    with changing(app, "deploy", reason=f"of {secret}") as run:
        run.facts["to"] = "2026-01-01-00-00-00"
        run.facts["nested"] = {"migrations": [f"a {secret}"], secret: 1}
        raise KeyError("x" * 480 + secret)
except BugFound as error:
    console.print_error(error)
    print("\\n".join(sent))
"""


def test_a_fault_that_is_told_in_part_and_the_systems_log_show_nothing_of_a_secret(tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = subprocess.run([sys.executable, "-c", FAULT, root], input=SECRET, capture_output=True, text=True, check=True)
    assert f"{'x' * 100}****…" in done.stderr
    assert 2 == done.stdout.count('"reason": "of ****"'), done.stdout
    assert '{"migrations": ["a ****"], "****": 1}' in done.stdout
    kept = [path.read_text() for path in root.rglob("*") if path.is_file() and path.name != "site.env"]
    assert [] == seen_in(done.stdout, done.stderr, *kept)


def test_a_run_and_what_it_starts_leave_no_core_with_the_secrets_of_their_memory(shop: Site) -> None:
    shop.settings["[run]"] = '\n[[run]]\nat = "before-requirements"\ncommand = ["sh", "-c", "echo core $(ulimit -c)"]\n'
    shop.write_config()
    shop.own()
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if not hard:
        pytest.skip("skipped: no core can be had here anyway")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        shop.ok("deploy", "--build-only")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert "core 0\n" in shop.ok("log")
