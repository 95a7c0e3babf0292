"""A Django site of any size, in a git repository: apps with migrations, templates, modules, static files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from benchmark.packages import module_of, names, requirements
from benchmark.sizes import Size
from benchmark.text import Text

MIGRATIONS_EACH = 12  # of one app; a project with more migrations has more apps
MEAN_CODE, MEAN_STATIC, MEAN_TEMPLATE = 3_500, 11_000, 3_000
FIXED = "2026-01-01T00:00:00+00:00"  # the same hashes for the same seed

MANAGE = """import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
"""

SETTINGS = """import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "generated-for-a-benchmark-and-for-nothing-else-0123456789"
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
{apps}
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "shop.urls"
TEMPLATES = [
    {{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {{
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        }},
    }}
]
WSGI_APPLICATION = "shop.wsgi.application"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE_PATH"]}}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "assets"]
STORAGES = {{
    "default": {{"BACKEND": "django.core.files.storage.FileSystemStorage"}},
    "staticfiles": {{"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}},
}}
USE_TZ = True
"""

URLS = """from django.contrib import admin
from django.http import HttpResponse
from django.urls import path

from shop.revision import NUMBER

urlpatterns = [path("admin/", admin.site.urls), path("version", lambda request: HttpResponse(str(NUMBER)))]
"""

WSGI = """import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
"""


class Project:
    """The repository that every contestant deploys from."""

    def __init__(self, repository: Path, size: Size, unprivileged: dict[str, Any]) -> None:
        self.repository, self.size = repository, size
        self._unprivileged = unprivileged
        self.number = 0  # of the revision: what shop/revision.py says
        self.changed = 0  # how often the pin changed
        self._written = 0
        self.apps = [f"area_{n:02}" for n in range(-(-size.own_migrations // MIGRATIONS_EACH))]

    def _write(self, path: str, content: str | bytes) -> None:
        target = self.repository / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._written += not target.exists()
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def make(self, text: Text) -> None:
        """Write every file of the first revision."""
        size = self.size
        self._write("manage.py", MANAGE)
        self._write("shop/__init__.py", "")
        self._write("shop/settings.py", SETTINGS.format(apps="\n".join(f'    "{app}",' for app in self.apps)))
        self._write("shop/urls.py", URLS)
        self._write("shop/wsgi.py", WSGI)
        self._write("shop/libraries.py", "".join(f"import {module_of(name)}  # noqa: F401\n" for name in names(size)))
        self._write("shop/revision.py", "NUMBER = 0\n")
        self._write("requirements.txt", requirements(size, 0))
        left = size.own_migrations
        for app in self.apps:
            self._make_app(app, min(MIGRATIONS_EACH, left))
            left -= MIGRATIONS_EACH
        for number in range(size.static_files):
            self._make_static(number, text)
        for number in range(size.files - self._written):
            self._make_other(number, text)

    def _make_app(self, app: str, migrations: int) -> None:
        """One model; the first migration makes it, each other one adds a field."""
        first = app == self.apps[0]
        fields = [f"field_{n:02}" for n in range(1, migrations)]
        head = "import shop.libraries  # noqa: F401\n" if first else ""
        model = f"{head}from django.db import models\n\n\nclass Thing(models.Model):\n"
        model += "    name = models.CharField(max_length=80)\n"
        model += "".join(f"    {field} = models.IntegerField(null=True)\n" for field in fields)
        self._write(f"{app}/__init__.py", "")
        self._write(f"{app}/models.py", model)
        self._write(f"{app}/migrations/__init__.py", "")
        begin = "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n"
        self._write(
            f"{app}/migrations/0001_initial.py",
            f"{begin}    initial = True\n    dependencies = []\n    operations = [\n"
            '        migrations.CreateModel("Thing", [\n'
            '            ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False,'
            ' verbose_name="ID")),\n'
            '            ("name", models.CharField(max_length=80)),\n        ]),\n    ]\n',
        )
        before = "0001_initial"
        for number, field in enumerate(fields, 2):
            name = f"{number:04}_thing_{field}"
            self._write(
                f"{app}/migrations/{name}.py",
                f'{begin}    dependencies = [("{app}", "{before}")]\n    operations = [\n'
                f'        migrations.AddField("thing", "{field}", models.IntegerField(null=True)),\n    ]\n',
            )
            before = name

    def _make_static(self, number: int, text: Text) -> None:
        """Pictures, scripts, and style sheets that name pictures."""
        folder = f"assets/part_{number // 100:03}"
        kind = number % 10
        size = text.size(MEAN_STATIC)
        if kind < 3:
            self._write(f"{folder}/{number}.png", text.noise(size))
        elif kind < 7:
            self._write(f"{folder}/{number}.js", text.script(size))
        else:
            rule = f"/* {text.prose(size)} */\n.a{number} {{ background: url('{number - kind}.png'); }}\n"
            self._write(f"{folder}/{number}.css", rule)

    def _make_other(self, number: int, text: Text) -> None:
        """Templates, modules that no start imports, and texts."""
        kind = number % 3
        if kind == 0:
            content = f"{{% load static %}}<p>{text.prose(text.size(MEAN_TEMPLATE))}</p>\n"
            self._write(f"templates/part_{number // 100:03}/{number}.html", content)
        elif kind == 1:
            self._write(f"shop/more_{number // 100:03}/module_{number}.py", text.code(text.size(MEAN_CODE)))
        else:
            self._write(f"texts/part_{number // 100:03}/{number}.txt", text.prose(text.size(MEAN_TEMPLATE)))

    def begin(self) -> None:
        """The first revision, at the end of a history."""
        self._git("init", "-q", "-b", "main")
        commits = (
            f"commit refs/heads/main\nmark :{number}\ncommitter Dev <dev@example.org> {number} +0000\n"
            f"data 7\nhistory\n{f'from :{number - 1}{chr(10)}' if number > 1 else ''}"
            f"M 100644 inline HISTORY\ndata {len(str(number))}\n{number}\n"
            for number in range(1, self.size.commits + 1)
        )
        self._git("fast-import", "--quiet", said="".join(commits))
        self._commit("the site")

    def change_code(self) -> None:
        """One line of one module."""
        self.number += 1
        (self.repository / "shop/revision.py").write_text(f"NUMBER = {self.number}\n")
        self._commit(f"code {self.number}")

    def change_static(self) -> None:
        """One style sheet."""
        name = next((self.repository / "assets").rglob("*.css"))
        with name.open("a") as sheet:
            sheet.write(f".b{self.number} {{ color: red; }}\n")
        self.change_code()

    def change_requirements(self) -> None:
        """One pin."""
        self.changed += 1
        (self.repository / "requirements.txt").write_text(requirements(self.size, self.changed))
        self.change_code()

    def _commit(self, message: str) -> None:
        self._git("add", "-A")
        self._git("commit", "-q", "-m", message)

    def _git(self, *words: str, said: str = "") -> None:
        settings = ("user.name=Dev", "user.email=dev@example.org", "commit.gpgsign=false", "gc.auto=0")
        argv = ["git", *(word for setting in settings for word in ("-c", setting)), *words]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_AUTHOR_DATE": FIXED,
            "GIT_COMMITTER_DATE": FIXED,
        }
        subprocess.run(
            argv, cwd=self.repository, env=env, check=True, capture_output=True, input=said.encode(),
            **self._unprivileged,
        )  # fmt: skip
