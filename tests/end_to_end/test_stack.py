"""A site as it stands in production: PostgreSQL, Redis and a Celery worker, nginx before gunicorn's unix socket."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from example_site import PROJECT, TESTS, Site, free_port, unprivileged

PACKAGES = "nginx redis-server postgresql"
MORE_REQUIREMENTS = "packaging==26.3\npsycopg[binary]==3.3.9\nredis==8.1.0\n"
FAILING_MIGRATION = """
from django.db import migrations


def fail(apps, editor):
    raise ValueError("after the table was changed")


class Migration(migrations.Migration):
    dependencies = [("brackets", "0002_snippet_balanced_created")]
    operations = [
        migrations.RunSQL("ALTER TABLE brackets_snippet ADD COLUMN half text"),
        migrations.RunPython(fail),
    ]
"""


def find_programs() -> dict[str, str]:
    """The servers of this machine; Debian keeps PostgreSQL's programs out of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    path = ":".join(["/usr/sbin:/usr/bin", *(str(version) for version in versions[-1:])])
    names = ("nginx", "redis-server", "postgres", "initdb", "psql")
    return {name: found for name in names if (found := shutil.which(name, path=path))}


@pytest.fixture(scope="module")
def programs() -> dict[str, str]:
    """Installs what is missing where it may; nothing is started by that."""
    found, said = find_programs(), ""
    if len(found) < 5 and os.geteuid() == 0 and shutil.which("apt-get"):
        prepare = [PROJECT / "scripts/with-systemd", "--prepare", "--packages", PACKAGES]
        said = subprocess.run(prepare, capture_output=True, text=True).stderr
        found = find_programs()
    if len(found) < 5:
        missing = {"nginx", "redis-server", "postgres", "initdb", "psql"} - set(found)
        reason = f"skipped: not here: {', '.join(sorted(missing))}; apt-get install {PACKAGES}. {said}"
        assert not os.environ.get("REQUIRE_STACK"), reason
        pytest.skip(reason)
    return found


def wait_until(wanted: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if wanted():
                return
        except (OSError, AssertionError):  # it listens, and is not ready yet
            pass
        assert time.monotonic() < deadline, f"{what} within {seconds} s"
        time.sleep(0.05)


class Stack:
    """The servers around one site, all of the unprivileged user, all in the site's folder."""

    def __init__(self, site: Site, programs: dict[str, str]) -> None:
        self.site, self.programs = site, programs
        self.running: list[subprocess.Popen[bytes]] = []
        self.web, self.nginx_port = site.folder / "w.sock", free_port()
        self.redis_port, self.postgres_port = free_port(), free_port()  # of PostgreSQL only the socket's name
        self.nginx_conf = site.folder / "nginx.conf"
        self.nginx_site = ""  # as `units` writes it

    def call(self, *words: str | Path) -> str:
        argv = [self.programs.get(str(words[0]), words[0]), *words[1:]]
        done = subprocess.run(argv, cwd=self.site.folder, capture_output=True, text=True, **unprivileged())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def start(self, *words: str | Path) -> None:
        argv = [self.programs[str(words[0])], *words[1:]]
        with open(self.site.folder / f"{words[0]}.log", "wb") as log:
            self.running.append(
                subprocess.Popen(
                    argv, cwd=self.site.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **unprivileged()
                )
            )

    def start_all(self) -> None:
        folder = self.site.folder
        self.call(
            "initdb", "-D", "postgres", "-U", "brackets", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"
        )
        self.start("postgres", "-D", "postgres", "-k", folder, "-p", str(self.postgres_port), "-c", "listen_addresses=")
        self.start("redis-server", "--bind", "127.0.0.1", "--port", str(self.redis_port), "--save", "", "--dir", folder)
        site = self.site.ok("units", "--nginx").replace("    listen [::]:80;\n", "")
        self.nginx_site = site.replace("listen 80;", f"listen 127.0.0.1:{self.nginx_port};")
        self.write_nginx("first")
        self.start("nginx", "-e", folder / "nginx-error.log", "-c", self.nginx_conf)
        wait_until(
            lambda: (folder / f".s.PGSQL.{self.postgres_port}").exists() and self.sql("SELECT 1", "postgres"),
            "a database",
        )
        self.sql("CREATE DATABASE brackets", "postgres")
        for port in (self.redis_port, self.nginx_port):
            wait_until(lambda port=port: socket.create_connection(("127.0.0.1", port)).close() is None, f"port {port}")

    def stop_all(self) -> None:
        """End what was started here, the web server first."""
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def write_nginx(self, generation: str) -> None:
        folder = self.site.folder
        temporary = "".join(f"  {kind}_temp_path {folder}/nginx-{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
        self.nginx_conf.write_text(
            f"daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nevents {{}}\nhttp {{\n{temporary}"
            f"  include /etc/nginx/mime.types;\n  access_log off;\n"
            f"  add_header X-Generation {generation} always;\n{self.nginx_site}}}\n"
        )

    def sql(self, query: str, database: str = "brackets") -> str:
        where = ("-h", self.site.folder, "-p", str(self.postgres_port), "-U", "brackets", "-d", database)
        return self.call("psql", "-X", "-q", *where, "-tAc", query)

    def get(self, path: str) -> http.client.HTTPResponse:
        """What nginx answers; the body is read by the caller."""
        answer: http.client.HTTPResponse = urllib.request.urlopen(
            f"http://127.0.0.1:{self.nginx_port}{path}", timeout=10
        )
        return answer

    def status_of(self, path: str) -> int:
        try:
            return self.get(path).status
        except urllib.error.HTTPError as error:
            return error.code

    def style_sheet(self) -> tuple[str, str]:
        """The path of the front page's style sheet, and what nginx serves there from the disk."""
        page = self.get("/").read().decode()
        found = re.search(r"/static/brackets/site\.[0-9a-f]+\.css", page)
        assert found, page
        answer = self.get(found[0])
        assert "text/css" == answer.headers["Content-Type"]
        return found[0], answer.read().decode()

    @contextmanager
    def asking_for(self, path: str) -> Iterator[Counter[int]]:
        """Ask nginx for one file without a pause, and count the answers by their status."""
        answers: Counter[int] = Counter()
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", self.nginx_port, timeout=10)
                try:
                    connection.request("GET", path)
                    answers[connection.getresponse().status] += 1
                except OSError:
                    answers[0] += 1
                finally:
                    connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield answers
        finally:
            done.set()
            thread.join()

    def ping(self) -> None:
        """Have the worker answer; it still connects when supervisord says that it runs."""
        words = ("exec", "--", "celery", "-A", "broken_brackets", "inspect", "ping")
        wait_until(lambda: "pong" in self.site.run(*words).stdout, "the worker answers")

    def recheck(self, wanted: str) -> None:
        """Have the worker look at the snippet again, and wait for what it writes into the database."""
        self.sql(f"UPDATE brackets_snippet SET balanced = {'false' if wanted == 't' else 'true'}")
        self.site.ok("exec", "--", "celery", "-A", "broken_brackets", "call", "brackets.tasks.recheck", "--args=[1]")
        wait_until(lambda: self.sql("SELECT balanced FROM brackets_snippet") == wanted, f"balanced = {wanted}")

    def configure(self, health: str) -> None:
        """The agent's configuration: nginx is a unit too, which only gets a reload."""
        site, folder = self.site, self.site.folder
        nginx = [self.programs["nginx"], "-e", f"{folder}/nginx-error.log", "-c", str(self.nginx_conf), "-s", "reload"]
        site.health = health
        words = ", ".join(f'"{word}"' for word in nginx)
        site.write_config(
            **{
                "[run]": f'\n[[units]]\nname = "nginx"\nkind = "command"\nruns_release = false\nreload = [{words}]\n'
                f'status = ["sh", "-c", "read pid <{folder}/nginx.pid && kill -0 $pid && echo $pid"]\n'
            }
        )
        site.own(site.config)


@pytest.fixture(scope="module")
def stack(programs: dict[str, str], cache: Path) -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="bb-"))  # short, for the sockets
    folder.chmod(0o755)
    site = Site(folder, cache=cache, worker=True)
    stack = Stack(site, programs)
    try:
        stack.configure(f"http+unix://{stack.web}:/health/")
        stack.start_all()
        env = site.root / "shared/site.env"
        env.write_text(
            f'SECRET_KEY="{"a-secret-that-must-not-be-shown-" * 2}"\n'
            f'DATABASE_URL="postgresql://brackets@/brackets?host={folder}"\nPGPORT={stack.postgres_port}\n'
            f'CELERY_BROKER_URL="redis://127.0.0.1:{stack.redis_port}/0"\n'
        )
        site.bind = f"unix:{stack.web}"
        site.start_supervisor()
        with open(site.repository / "requirements.txt", "a") as requirements:
            requirements.write(MORE_REQUIREMENTS)
        site.commit("for production")
        site.ok("deploy")
        yield stack
    finally:
        site.stop()
        stack.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_site_answers_through_nginx_with_its_database_its_static_files_and_its_worker(stack: Stack) -> None:
    facts = stack.get("/health/")
    assert stack.site.current() == facts.headers["X-Release"]
    assert "first" == facts.headers["X-Generation"]
    assert "color" in stack.style_sheet()[1]
    assert "1" == stack.sql("SELECT count(*) FROM django_migrations WHERE name = '0002_snippet_balanced_created'")
    stack.ping()
    stack.sql("INSERT INTO brackets_snippet (text, balanced, created_at) VALUES ('<', false, now())")
    stack.recheck("t")


def test_a_second_revision_migrates_and_runs_everywhere_and_a_switch_takes_it_back(stack: Stack) -> None:
    site, first, old_css = stack.site, stack.site.current(), stack.style_sheet()
    shutil.copytree(TESTS / "broken_brackets_second", site.repository, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    with open(site.repository / "requirements.txt", "a") as requirements:
        requirements.write(MORE_REQUIREMENTS)
    balance = site.repository / "brackets/balance.py"
    balance.write_text(balance.read_text().replace('"}": "{"', '"}": "{", ">": "<"'))
    site.commit("angle brackets too")
    stack.write_nginx("second")
    stack.configure(f"http://127.0.0.1:{stack.nginx_port}/health/")  # the whole way, from now on

    with stack.asking_for(old_css[0]) as answers:  # by a page that was rendered before
        site.ok("deploy")

    assert {200} == set(answers)
    second = site.current()
    assert first != second == stack.get("/health/").headers["X-Release"]
    assert "language" in stack.sql(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'brackets_snippet'"
    )
    new_css = stack.style_sheet()
    assert old_css[0] != new_css[0]
    assert old_css[1] != new_css[1]
    assert old_css[1] == stack.get(old_css[0]).read().decode()
    assert 404 == stack.status_of("/static/brackets/site.000000000000.css")
    wait_until(lambda: stack.get("/health/").headers["X-Generation"] == "second", "nginx is reloaded")
    stack.ping()
    stack.recheck("f")  # "<" is not closed, says the new code
    assert site.run("status").returncode == 0

    with stack.asking_for(new_css[0]) as answers:
        said = site.ok("switch", first)

    assert {200} == set(answers)
    assert new_css[1] == stack.get(new_css[0]).read().decode()
    pool = site.root / "static-pool" / "static"
    assert all(re.search(r"\.[0-9a-f]{12}\.", path.name) for path in pool.rglob("*.*")), list(pool.rglob("*"))
    assert "the database is ahead of this release by brackets.0003_snippet_language" in said
    assert first == stack.get("/health/").headers["X-Release"]
    assert old_css == stack.style_sheet()
    stack.recheck("t")
    site.ok("unhold")
    site.git("reset", "-q", "--hard", "HEAD~1")


def test_a_migration_that_fails_is_rolled_back_by_the_database_and_the_site_serves_on(stack: Stack) -> None:
    site, live = stack.site, stack.site.current()
    site.edit("brackets/migrations/0009_half.py", FAILING_MIGRATION)

    done = site.deploy()

    assert done.returncode == 4, done.stdout + done.stderr
    assert "error: migrate-failed" in done.stderr
    assert "ValueError: after the table was changed" in done.stderr
    assert f"still on {live}" in done.stderr
    assert "healthy; no migration was applied" in done.stderr
    assert "half" not in stack.sql(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'brackets_snippet'"
    )
    assert live == site.current() == stack.get("/health/").headers["X-Release"]
