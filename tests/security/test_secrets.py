"""Every kind of secret at once, in a site that shouts all it knows: none is to be seen anywhere afterwards."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from chat_room import ChatRoom
from example_site import Site
from git_servers import SECRET as GIT_PASSWORD
from git_servers import HttpsServer
from private_index import PASSWORD as INDEX_PASSWORD
from private_index import SECRETS as INDEX_FORMS
from private_index import USER, Index, write_wheel
from serving import serving
from small_shop import everything_kept, small_shop
from watching import watched_processes

PLANTED = {
    "env_file": "canary-of-the-secret-key-$`'",
    "env_file, in an address": "canary/of:the@database",
    "env_file, with several lines": "canary-first-line-of-a-key\ncanary-second-line-of-a-key",
    "build_env_file": "canary-of-the-build-token",
    "webhook_file": "canary-of-the-webhook-address",
    "git_credentials": GIT_PASSWORD,
    "index": INDEX_PASSWORD,
}
FORMS = {
    form
    for secret in PLANTED.values()
    for line in secret.splitlines()
    for form in (line, quote(line, safe=""))
} | set(INDEX_FORMS) | {base64.b64encode(f"deploy:{GIT_PASSWORD}".encode()).decode()}  # fmt: skip
AUTHORITIES = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
SHOUT = """
import sys
from urllib.parse import unquote
for name, value in os.environ.items():
    print(name, "is", value)
    print(f"{name}={value!r}", file=sys.stderr)
print("decoded:", unquote(os.environ.get("DATABASE_URL", "")))
"""
NOTHING = "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    operations = []\n"
MIGRATION = """
import os
from urllib.parse import unquote, urlsplit
from django.db import migrations


def tell(apps, editor):
    url = urlsplit(os.environ["DATABASE_URL"])
    raise ValueError(f"{os.environ['SECRET_KEY']} {unquote(url.password)} {os.environ['PRIVATE_KEY']}")


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_nothing")]
    operations = [migrations.RunPython(tell)]
"""


@pytest.fixture
def room() -> Iterator[ChatRoom]:
    with ChatRoom().open() as opened:
        opened.rude = True
        yield opened


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    server = Index(write_wheel(tmp_path))
    with serving(server):
        yield server


def private(site: Site, name: str, text: str) -> str:
    """As a value of the configuration."""
    return f'"{site.private(name, text)}"'


@pytest.fixture
def shop(cache: Path, index: Index, room: ChatRoom) -> Iterator[Site]:
    with small_shop(cache) as site:
        folder = site.folder / "https"
        folder.mkdir()
        server = HttpsServer(folder, site.folder)
        (site.folder / "authorities").write_text(Path(AUTHORITIES).read_text() + server.authority.read_text())
        settings = site.repository / "shop/settings.py"
        settings.write_text(settings.read_text() + "INSTALLED_APPS = ['shop']\n" + SHOUT)
        (site.repository / "shop/migrations").mkdir()
        (site.repository / "shop/migrations/__init__.py").write_text("")
        (site.repository / "shop/migrations/0001_nothing.py").write_text(NOTHING)
        site.edit("requirements.txt", "django>=5.2,<5.3\nhouse-thing==1.0\n")
        secret, password, key = (PLANTED[each] for each in list(PLANTED)[:3])
        quoted = secret.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
        site.write_config(
            repository=f'"{server.url(site.repository / ".git")}"', allow_file_url="false",
            git_credentials=private(site, "credentials", f"https://deploy:{GIT_PASSWORD}@127.0.0.1:{server.port}\n"),
            env_file=private(site, "site.env", (
                f'SECRET_KEY="{quoted}"\nDATABASE_PATH={site.root}/shared/db.sqlite3\nPRIVATE_KEY="{key}"\n'
                f"DATABASE_URL=postgres://shop:{quote(password, safe='')}@db.example.org/shop\n"
            )),
            build_env_file=private(site, "build.env", (
                f"BUILD_TOKEN={PLANTED['build_env_file']}\n"
                f"UV_DEFAULT_INDEX=http://{USER}:{quote(INDEX_PASSWORD, safe='')}@{index.address}\n"
            )),
            webhook_file=private(site, "webhook", (
                f"WEBHOOK_URL=http://127.0.0.1:{room.server_port}/{PLANTED['webhook_file']}\n"
            )),
        )  # fmt: skip
        site.settings["[run]"] = "".join(
            f'\n[[run]]\nat = "{at}"\ncommand = ["sh", "-c", "env; env >&2"]\n'
            for at in ("before-requirements", "before-migrate", "after-verify", "after-failure")
        )
        site.write_config()
        site.own()
        with server.running():
            yield site


HEALTH = """
import os
from django.http import HttpResponse
from django.urls import path

def health(request):
    secret = os.environ["SECRET_KEY"]
    said = "\\x1b]0;owned\\x07the key is %s\\nas it is: %r" % (secret, secret)
    return HttpResponse(said, status=301, headers={"Location": "/login?key=" + secret})

urlpatterns = [path("health/", health)]
"""


def test_a_health_page_that_shows_a_secret_is_told_without_it_and_without_orders_to_a_terminal(
    cache: Path, room: ChatRoom
) -> None:
    with small_shop(cache) as site:
        site.edit("requirements.txt", "django>=5.2,<5.3\n")
        secret = "canary-that-the-health-page-shows"
        environment = site.root / "shared" / "site.env"
        environment.write_text(f"SECRET_KEY={secret}\nDATABASE_PATH={site.root}/shared/db.sqlite3\n")
        site.edit("shop/urls.py", HEALTH)
        site.settings["[health]"] = '\n[health]\nurl = "http://127.0.0.1:1/health/"\n'
        site.write_config(webhook_file=private(site, "webhook", f"WEBHOOK_URL=http://127.0.0.1:{room.server_port}/x\n"))
        site.own()
        done = site.deploy()
        said = [done.stdout, done.stderr, site.ok("log"), site.ok("log", "--json"), site.ok("history", "--json"),
                site.ok("list", "--json"), site.ok("show", max(site.states()))]  # fmt: skip
        assert (4, "error: rehearsal-failed") == (done.returncode, done.stderr.splitlines()[0])
        assert "answers 301 to /login?key=****" in done.stderr
        assert "\\x1b]0;owned\\x07the key is ****" in done.stderr
        assert ["rehearsal-failed"] == [message["result"] for message in room.messages]
        shown = [*said, *(text for _, text in room.told)]
        assert [] == [text for text in (*shown, everything_kept(site)) if secret in text]
        assert [] == [text for text in shown if "\x1b" in text]


FAULT = """
import sys
from pathlib import Path
from bb_release import console
from bb_release.actions.run import changing
from bb_release.errors import BugFound
from bb_release.model.app import App

root, webhook, secret = sys.argv[1], sys.argv[2], sys.stdin.read()
app = App("shop", "git@git.example.org:a/b.git", Path(root), webhook_file=Path(webhook))
try:
    with changing(app, "deploy", reason="a fault") as run:
        run.log.add_secrets([secret])
        run.facts["to"] = "2026-01-01-00-00-00"
        run.log.say(f"so far with {secret}")
        raise KeyError(f"no {secret} in it")
except BugFound as error:
    console.print_error(error)
    console.print_json(console.error_facts(error))
    sys.exit(error.exit_code)
"""


def test_a_fault_of_our_own_leaves_a_traceback_without_the_secret_that_is_in_it(tmp_path: Path, room: ChatRoom) -> None:
    secret, webhook = "canary-in-the-traceback", tmp_path / "webhook"
    webhook.write_text(f"WEBHOOK_URL=http://127.0.0.1:{room.server_port}/hook\n")
    webhook.chmod(0o600)
    root = tmp_path / "root"
    done = subprocess.run(
        [sys.executable, "-c", FAULT, root, webhook], input=secret, capture_output=True, text=True, check=False
    )
    assert (3, "error: bug") == (done.returncode, done.stderr.splitlines()[0])
    kept = "\n".join(path.read_text() for path in root.rglob("*") if path.is_file())
    assert "no **** in it" in kept
    assert "Traceback (most recent call last)" in kept
    assert "no **** in it" in done.stderr
    assert ["bug"] == [message["result"] for message in room.messages]
    assert [] == [text for text in (done.stdout, done.stderr, kept, *(text for _, text in room.told)) if secret in text]


def test_no_secret_of_any_kind_is_seen_in_what_is_said_written_sent_or_run(
    shop: Site, room: ChatRoom, strace: str
) -> None:
    authorities = {"SSL_CERT_FILE": str(shop.folder / "authorities")}
    trace = shop.folder / "trace"  # of each program that is started, however short it lives
    shop.prefix = (strace, "-f", "--seccomp-bpf", "-q", "-A", "-s", "65535", "-e", "trace=execve", "-o", str(trace))
    said: list[str] = []

    def run(*words: str) -> int:
        done = shop.run(*words, **authorities)
        said.extend([done.stdout, done.stderr])
        return done.returncode

    with watched_processes() as commands:  # what a program calls itself later is seen here alone
        assert 0 == run("deploy", "-m", "with all secrets"), said
        shop.edit("shop/migrations/0002_tells.py", MIGRATION)
        assert 4 == run("deploy"), said
        assert 4 == run("deploy", "--json")
        for words in (("status",), ("status", "--json"), ("check",), ("check", "--json"), ("config",), ("list", "--json"),
                      ("show",), ("history", "--json"), ("log",), ("log", "--json"), ("deploy", "--plan")):  # fmt: skip
            run(*words)
        for name in json.loads(shop.ok("list", "--json")):
            run("show", name["name"])
            run("log", name["name"])

    kept, told = everything_kept(shop), room.told
    # what would hold them was there to be looked at
    assert "SECRET_KEY is ****" in kept
    assert "BUILD_TOKEN=****" in kept
    assert "ValueError: ****" in kept
    assert any("ValueError: ****" in text for text in said)
    assert [f"/{PLANTED['webhook_file']}"] * 3 == [path for path, _ in told]
    assert any(" pip install " in line or "uv" in line for line in commands)
    started = trace.read_text(errors="replace").splitlines()
    assert all(any(f'"{word}"' in line for line in started) for word in ("fetch", "install", "env; env >&2"))
    places = {"said": said, "kept": [kept], "sent": [text for _, text in told], "run": [*commands, *started]}
    assert [] == [(place, form) for place, texts in places.items() for form in FORMS for text in texts if form in text]


class Echo(BaseHTTPRequestHandler):
    """A health page that tells whatever its server has been told to tell, in its header and in its body."""

    def do_GET(self) -> None:
        said = self.server.says  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("X-Release", said)
        self.end_headers()
        self.wfile.write(f"{said}\n".encode())

    def log_message(self, *_: object) -> None:
        return


UNIT = """#!/bin/sh
[ ! -e {folder}/tells ] || {{ cat {folder}/tells; sleep 60; }}
echo $PPID
"""
KEPT_BY_THE_SITE = ["canary-in-the-environment", "canary-in-the-health-header", GIT_PASSWORD, "canary-in-the-webhook"]


@pytest.fixture
def echoing(cache: Path, room: ChatRoom) -> Iterator[tuple[Site, HTTPServer]]:
    """A live site; its health page, and its unit's status command, will say what they are told to."""
    server = HTTPServer(("127.0.0.1", 0), Echo)
    with small_shop(cache) as site, serving(server):
        environment, header, password, path = KEPT_BY_THE_SITE
        site.edit("requirements.txt", "django>=5.2,<5.3\n")
        script = site.folder / "unit"
        script.write_text(UNIT.format(folder=site.folder))
        script.chmod(0o755)
        (site.root / "shared" / "site.env").write_text(
            f"SECRET_KEY={environment}\nDATABASE_PATH={site.root}/shared/db.sqlite3\n"
        )
        site.settings["[health]"] = (
            f'\n[health]\nurl = "http://127.0.0.1:{server.server_port}/"\nrelease = "header:X-Release"\n'
            f'timeout_seconds = 1\nheaders = {{ Host = "shop.example.org", X-Monitor = "{header}" }}\n'
            '\n[[units]]\nname = "beside"\nkind = "command"\nruns_release = false\nstop_seconds = 1\n'
            f'reload = ["true"]\nstatus = ["{script}"]\n'
        )
        site.write_config(
            rehearse="false",
            git_credentials=private(site, "credentials", f"https://deploy:{password}@git.example.org\n"),
            webhook_file=private(site, "webhook", f"WEBHOOK_URL=http://127.0.0.1:{room.server_port}/{path}\n"),
        )
        site.own()
        server.says = ", ".join(f"{datetime.now(UTC) + timedelta(seconds=n):%Y-%m-%d-%H-%M-%S}" for n in range(90))  # type: ignore[attr-defined]
        site.ok("deploy")
        server.says = " ".join(["hello from shop.example.org", *KEPT_BY_THE_SITE])  # type: ignore[attr-defined]
        private(site, "tells", f"{server.says}\n")  # type: ignore[attr-defined]
        yield site, server


def test_what_is_no_run_tells_what_the_site_echoes_without_the_secrets_in_it(
    echoing: tuple[Site, HTTPServer], room: ChatRoom
) -> None:
    site, _ = echoing
    site.edit("NOTE", "more to plan\n")
    told = {}
    for words in (("status",), ("status", "--json"), ("check",), ("check", "--json"), ("config",), ("deploy", "--plan"),
                  ("deploy", "--plan", "--json"), ("deploy",), ("log",), ("log", "--json"), ("history", "--json")):  # fmt: skip
        done = site.run(*words)
        told[words] = done.stdout + done.stderr
    # what would hold them was there to be looked at
    for words in (("status",), ("check",), ("deploy",), ("log",)):
        assert "hello from shop.example.org ****" in told[words], told[words]
    assert ["verified", "preflight-failed"] == [message["result"] for message in room.messages]
    note = site.root / "state" / "configuration.json"  # a copy of the file that has the header, for the same eyes
    assert 0o600 == note.stat().st_mode & 0o777
    note.unlink()
    places = {**{" ".join(words): text for words, text in told.items()}, "kept": everything_kept(site),
              "sent": "\n".join(text for _, text in room.told)}  # fmt: skip
    assert [] == [(place, secret) for place, text in places.items() for secret in KEPT_BY_THE_SITE if secret in text]
