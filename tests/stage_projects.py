"""Small real Django projects for the stage, one for each thing that projects do while they load."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bb_release.actions import answers
from bb_release.tools import django, process, stage
from bb_release.tools.process import ProcessFailed

PROJECT = Path(__file__).resolve().parents[1]

MANAGE = """\
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""
SETTINGS = """\
import os, sys
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "a-key-of-a-test-project-that-is-long-enough-to-satisfy-django"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.staticfiles", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL, STATIC_ROOT = "/static/", BASE_DIR / "collected"
USE_TZ = True
"""
# Loaded once in each process that starts the project, and not in a fork of one.
COUNT = """\
import os
with open("starts.txt", "a") as file:
    print(os.getpid(), file=file)
"""
URLS = """\
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("health/", lambda request: HttpResponse("well: %s" % request.build_absolute_uri()))]
"""
WSGI = """\
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
MODELS = "from django.db import models\nclass Note(models.Model):\n    text = models.TextField()\n"
MIGRATION = """\
from django.db import migrations, models
class Migration(migrations.Migration):
    operations = [migrations.CreateModel("Note", [
        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
        ("text", models.TextField()),
    ])]
"""
FILES = {
    "manage.py": MANAGE,
    "shop/__init__.py": COUNT,
    "shop/settings.py": SETTINGS,
    "shop/urls.py": URLS,
    "shop/wsgi.py": WSGI,
    "shop/models.py": MODELS,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": MIGRATION,
    "shop/static/shop/site.css": "body { color: black }\n",
}


def in_settings(text: str) -> dict[str, str]:
    return {"shop/settings.py": SETTINGS + text}


def when_ready(text: str) -> dict[str, str]:
    """Code that runs when Django is set up."""
    body = "".join(f"        {line}\n" for line in text.splitlines())
    app = "from django.apps import AppConfig\nclass Shop(AppConfig):\n    name = 'shop'\n    def ready(self):\n"
    return {"shop/apps.py": app + body}


def as_collectstatic(text: str, settings: str = "") -> dict[str, str]:
    """Another body for the command collectstatic; an app's command wins over Django's own."""
    body = "".join(f"        {line}\n" for line in text.splitlines())
    command = "import sys\nfrom django.contrib.staticfiles.management.commands.collectstatic import Command as Base\n"
    command += "class Command(Base):\n    def handle(self, **options):\n" + body
    apps = "INSTALLED_APPS = ['shop', 'django.contrib.contenttypes', 'django.contrib.staticfiles']\n"
    return {
        "shop/management/__init__.py": "",
        "shop/management/commands/__init__.py": "",
        "shop/management/commands/collectstatic.py": command,
        **in_settings(apps + settings),
    }


# Each Django that is supported, and the newest, with the Pythons that its release notes name.
SUPPORTED = {
    "django~=4.2.0": ("3.8", "3.9", "3.10", "3.11", "3.12"),
    "django~=5.2.0": ("3.10", "3.11", "3.12", "3.13", "3.14"),
    "django~=6.0.0": ("3.12", "3.13", "3.14"),
    "django>=6.1": ("3.12", "3.13", "3.14"),
}
EACH = [(python, requirement) for requirement, pythons in SUPPORTED.items() for python in pythons]
OLD_TO_NEW = [("3.8", "django~=4.2.0"), ("3.12", "django~=5.2.0"), ("3.13", "django>=6.1")]
VERSIONS = EACH if os.environ.get("BB_ALL") == "1" else OLD_TO_NEW


def environment(folder: Path, python: str, cache: Path, *requirements: str) -> Path:
    """A virtual environment with these packages; its Python."""
    uv, env = PROJECT / ".venv" / "bin" / "uv", {**os.environ, "UV_CACHE_DIR": str(cache)}
    subprocess.run([uv, "venv", "-q", "--python", python, folder], env=env, check=True)
    subprocess.run(
        [uv, "pip", "install", "-q", "--compile-bytecode", "--python", folder / "bin/python", *requirements],
        env=env,
        check=True,
    )
    return folder / "bin" / "python"


def python_of(version: str) -> str:
    """A Python of this version on this machine, "" for none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for python in sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True):
        return str(python)
    uv = PROJECT / ".venv" / "bin" / "uv"
    words = [uv, "python", "find", "--no-python-downloads", "--no-project", version]
    found = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    return found.stdout.strip() if found.returncode == 0 else ""


def require_python(version: str) -> None:
    if not python_of(version):
        assert not os.environ.get("REQUIRE_PYTHONS"), f"there is no Python {version}"
        pytest.skip(f"there is no Python {version} here; REQUIRE_PYTHONS=1 makes this a failure")


@dataclass
class Place:
    """One project in one folder, with or without a stage."""

    folder: Path
    python: Path
    staged: bool
    lines: list[str] = field(default_factory=list)
    env: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    manage_path: str = "manage.py"

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in {**FILES, **files}.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    @property
    def project(self) -> django.Project:
        path = f"{self.python.parent}:{process.PATH}"
        env = process.environment({"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", **self.env})
        return django.Project(
            self.python, self.folder, self.manage_path, env, self.pass_fds, self.lines.append, stage=self.staged
        )

    def manage(self, *words: str, **options: Any) -> process.Completed:
        return django.manage(self.project, *words, **{"timeout_seconds": 60, **options})

    def ask(self, question: str, **arguments: object) -> dict[str, Any]:
        return django.ask(
            self.project, question, self.folder / "answer.json", is_answer=answers.KINDS[question], timeout_seconds=60,
            **arguments,
        )  # fmt: skip

    def do(self, name: str) -> tuple[object, list[str]]:
        """One thing that the agent does: how it ended, and each line of what it said."""
        del self.lines[:]
        acts = {
            "check": lambda: self.manage(*django.CHECK_DEPLOY).returncode,
            "facts": lambda: self.ask("facts", application=""),
            "collectstatic": lambda: self.manage(*django.COLLECT_STATIC).returncode,
            "migrations": lambda: self.ask("migrations"),
            "migrate": lambda: self.manage(*django.MIGRATE, low_priority=False).returncode,
            "rehearse": lambda: self.rehearse("https"),
            "rehearse http": lambda: self.rehearse("http"),
            "extra steps": self.extra_steps,
        }
        try:
            ended: object = acts[name]()
        except ProcessFailed as error:
            ended = error.reason
        said = [line for line in self.lines if not line.startswith("no stage")]
        return self._plain(ended), sorted(self._plain(line) for line in said)

    def rehearse(self, scheme: str) -> dict[str, Any]:
        headers = {"host": "shop.example.org"}
        return self.ask("rehearse", application="", path="/health/?a=1", headers=headers, scheme=scheme)

    def extra_steps(self) -> int:
        """Commands of the site's own: one makes a static file, one is of Django and not the stage's."""
        self.write({"shop/static/shop/built.css": "a { color: red }\n"})
        return self.manage("createcachetable", "shop_cache").returncode

    def starts(self) -> int:
        """How often the project was loaded."""
        path = self.folder / "starts.txt"
        return len(path.read_text().split()) if path.exists() else 0

    def why_not(self) -> str:
        """Why the last project had no stage."""
        assert stage._stage is not None
        return stage._stage.against

    def left(self) -> dict[str, object]:
        """What is on the disk, and in the database."""
        files = {
            str(path.relative_to(self.folder)): self._plain(path.read_text())
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name not in ("db.sqlite3", "starts.txt")
        }
        database = []
        with contextlib.closing(sqlite3.connect(self.folder / "db.sqlite3")) as connection:
            database += connection.execute("select type, name, sql from sqlite_master order by 2").fetchall()
            if any(row[1] == "django_migrations" for row in database):
                database += connection.execute("select app, name from django_migrations order by id").fetchall()
        return {**files, "database": database}

    def _plain(self, value: Any) -> Any:
        return json.loads(json.dumps(value).replace(str(self.folder), "FOLDER"))


@contextlib.contextmanager
def both(folder: Path, python: Path, files: Mapping[str, str], **options: Any) -> Iterator[tuple[Place, Place]]:
    """The same project twice: each command by itself, and in a stage. Nothing is left running."""
    places = []
    for name, staged in (("alone.", False), ("staged", True)):
        (folder / name).mkdir()
        places.append(Place(folder / name, python, staged, **options))
        places[-1].write(files)
    try:
        yield places[0], places[1]
    finally:
        stage.end()
