"""What `init` makes of repositories of many shapes: it always loads, nothing of it is run, nothing is overwritten."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bb_release import config
from bb_release.actions import init as subject
from bb_release.errors import (
    AlreadyThere,
    ConfigurationInvalid,
    NoDjangoProject,
    RefNotFound,
    ReleaseError,
    UsageInvalid,
)
from bb_release.model.app import App, Health
from bb_release.tools import places

TESTS = Path(__file__).resolve().parents[1]
MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "{}")\n'


class Repository:
    """A repository to begin with, and a canary that must never appear."""

    def __init__(self, top: Path) -> None:
        self.top, self.folder, self.canary = top, top / "My.Shop", top / "canary"
        self.folder.mkdir()
        self.git("init", "-q", "-b", "trunk")

    def git(self, *words: str) -> None:
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        names = ("-c", "user.name=Dev", "-c", "user.email=dev@example.org")
        subprocess.run(["git", *names, *words], cwd=self.folder, check=True, env=env, capture_output=True)

    def add(self, **files: str) -> None:
        for name, content in files.items():
            path = self.folder / name.replace("__", "/").replace("_py", ".py").replace("_txt", ".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.commit()

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.commit()

    def commit(self) -> None:
        self.git("add", "-A", "--force")
        self.git("commit", "-q", "-m", "a commit")

    def init(self, **more: str) -> tuple[App, subject.Begun, str]:
        out = self.top / f"{more.pop('name', 'shop')}.toml"
        begun = subject.init(str(self.folder), output=out, **more)
        assert not self.canary.exists()
        return config.load(out), begun, out.read_text()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_the_example_site_is_understood_whole(repository: Repository) -> None:
    shutil.copytree(TESTS / "broken_brackets", repository.folder, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    repository.commit()
    app, begun, text = repository.init(name="broken_brackets")
    assert app.health == Health(
        "http+unix:///run/broken_brackets/web.sock:/health/", release="header:X-Release"
    )  # fmt: skip
    assert [("broken_brackets.service", ""), ("broken_brackets-celery.service", "broken_brackets")] == [
        (unit.name, unit.celery) for unit in app.units
    ]
    assert ("trunk", Path("/srv/broken_brackets"), True) == (app.branch, app.root, app.allow_file_url)
    assert ("broken_brackets.settings", "broken_brackets.wsgi:application") == (app.settings, app.application)
    assert ((), ("db.sqlite3",), ()) == (app.requirements, app.shared_files, app.shared_folders)
    assert app.env_file == Path("/srv/broken_brackets/shared/site.env")
    assert "#   CELERY_BROKER_URL\n#   DATABASE_PATH\n#   DATABASE_URL\n#   SECRET_KEY\n" in text
    systemd = Path("/run/systemd/system").is_dir()
    assert ([] if systemd else [subject.NO_SYSTEMD]) == begun.missing
    assert begun.commands[-1].startswith("bb-release --config ")


def test_the_file_is_the_example_with_values_in_the_same_order(repository: Repository) -> None:
    repository.write({"manage.py": MANAGE.format("a.settings"), "a/settings.py": "X = 1\n"})
    _, _, text = repository.init()
    example = subject.EXAMPLE.read_text()
    keys = [line.lstrip("#").partition(" = ")[0] for line in example.splitlines() if subject._KEY.match(line)]
    assert keys == [line.lstrip("#").partition(" = ")[0] for line in text.splitlines() if subject._KEY.match(line)]


def test_a_project_in_a_subfolder_with_split_settings_and_all_that_production_has(repository: Repository) -> None:
    repository.write({
        "README": "", "src/site/manage.py": MANAGE.format("conf.settings.dev"),
        "tests/manage.py": MANAGE.format("tests.settings"),
        "src/site/conf/settings/__init__.py": "", "src/site/conf/settings/dev.py": "from .base import *\nDEBUG = True\n",
        "src/site/conf/settings/production.py":
            "from .base import *\nfrom .local import *\nSECURE_SSL_REDIRECT = env.bool('SSL', default=True)\n"
            "ALLOWED_HOSTS = ['.shop.example.org']\nSECRET_KEY = os.environ['SECRET_KEY']\n",
        "src/site/conf/settings/base.py":
            "import os, environ\nfrom pathlib import Path\nenv = environ.Env()\n"
            "BASE_DIR = Path(__file__).resolve().parents[2]\nMEDIA_ROOT = os.path.join(BASE_DIR, 'var', 'media')\n"
            "STATIC_ROOT = str(BASE_DIR / 'collected')\nROOT_URLCONF = 'conf.urls'\n"
            "INSTALLED_APPS = ['django.contrib.staticfiles', 'channels']\nASGI_APPLICATION = 'conf.asgi.app'\n"
            "WSGI_APPLICATION = 'conf.wsgi.application'\nDATABASES = {'default': env.db('DATABASE_URL')}\n"
            "CELERY_BEAT_SCHEDULE = {}\nREGION = os.getenv('REGION', 'eu')\n",
        "src/site/conf/urls.py":
            "from django.urls import include, path, re_path\nurlpatterns = [path('', None), path('shop/<int:n>/', None),\n"
            "    path('api/', include('conf.api'))]\n",
        "src/site/conf/api.py": "urlpatterns = [re_path(r'^healthz$', None), path('orders/', None)]\n",
        "src/site/conf/celery.py": "from celery import Celery\napp = Celery('conf')\n",
        "src/site/api/celery.py": "from celery import Celery\napp = Celery('api')\n",
        "src/site/celery.py": "# like this: Celery('none')\n",
        "src/site/requirements/production.txt": "Django\n", ".python-version": "3.11.4\n",
    })  # fmt: skip
    app, begun, text = repository.init(branch="trunk", root="/srv/elsewhere")
    assert ("src/site", "conf.settings.production") == (app.subfolder, app.settings)
    assert ("conf.asgi:app", "3.11") == (app.application, app.python)
    assert ((), ("var/media",)) == (app.requirements, app.shared_folders)
    assert [("shop.service", ""), ("shop-celery.service", "conf"), ("shop-beat.service", "")] == [
        (unit.name, unit.celery) for unit in app.units
    ]
    assert app.health
    assert "http+unix:///run/shop/web.sock:/api/healthz" == app.health.url
    assert {"Host": "shop.example.org", "X-Forwarded-Proto": "https"} == dict(app.health.headers)
    assert "# The settings need these:\n#   DATABASE_URL\n#   SECRET_KEY\n" in text
    assert "conf.settings.dev" in text  # the other one, beside the reason
    assert any("local.py" in line for line in begun.missing)
    assert app.env_file == Path("/srv/elsewhere/shared/site.env")


def test_what_cannot_be_found_is_told_and_the_file_still_loads(repository: Repository) -> None:
    repository.write({"manage.py": MANAGE.format("local_settings")})
    app, begun, _ = repository.init()
    told = "\n".join(begun.missing)
    assert "settings: local_settings, but there is no such file" in told
    assert "neither a requirements.txt nor a lock file" in told
    assert app.health and app.health.url.endswith(":/")


@pytest.mark.parametrize(
    ("files", "expected"),
    [({"uv.lock": ""}, ()), ({"uv.lock": "", "pyproject.toml": "dependencies"}, ("uv.lock",)),
     ({"uv.lock": "", "requirements.txt": ""}, ("requirements.txt",)), ({"requirements/base.txt": ""}, ("requirements/base.txt",))],
)  # fmt: skip
def test_a_requirements_file_is_named_only_where_deploy_would_not_find_it_alone(
    repository: Repository, files: dict[str, str], expected: tuple[str, ...]
) -> None:
    repository.write({"manage.py": MANAGE.format("a"), "a.py": "", **files})
    app, begun, _ = repository.init()
    assert expected == app.requirements
    assert [] == [line for line in begun.missing if line.startswith("requirements")]


def test_a_repository_that_names_no_requirements_is_told_so(repository: Repository) -> None:
    repository.write({"manage.py": MANAGE.format("a"), "a.py": "", "pyproject.toml": "[tool.ruff]"})
    app, begun, _ = repository.init()
    assert () == app.requirements
    assert any(line.startswith("requirements") for line in begun.missing)


def test_settings_without_a_static_root_do_not_collect(repository: Repository) -> None:
    repository.write({
        "manage.py": MANAGE.format("a"), "a.py": "INSTALLED_APPS = ['django.contrib.staticfiles']\n",
    })  # fmt: skip
    app, begun, _ = repository.init()
    assert app.collect_static is False
    assert any(line.startswith("STATIC_ROOT") for line in begun.missing)


def test_code_of_the_repository_is_never_run_and_its_words_never_become_configuration(repository: Repository) -> None:
    touch = f"open({str(repository.canary)!r}, 'w')\n"
    repository.write({
        "manage.py": touch + MANAGE.format("a.settings"), "setup.py": touch, "a/__init__.py": touch,
        "a/settings.py": touch + "import os\nMEDIA_ROOT = '\\x1b[31m\\n[evil]'\nSTATIC_ROOT = '/x\\n[evil]\\n'\n"
        "WSGI_APPLICATION = 'a.wsgi\\n[evil].x'\nX = os.environ['A\\nroot = 1']\nROOT_URLCONF = '../../x'\n",
        "a/broken.py": "def (", "a/celery.py": "\x00",
    })  # fmt: skip
    app, begun, _ = repository.init()
    assert (Path("/srv/shop"), "trunk", (), "") == (app.root, app.branch, app.shared_folders, app.application)
    told = "\n".join(begun.missing)
    assert "shared_folders: " in told
    assert "application: " in told
    assert "\x1b" not in told + "".join(begun.found)


@pytest.mark.parametrize(
    "source", ["(" * 5000, "x = " + "-" * 100_000 + "1\n", "\xff\xfe", "a = b = c = d\nb = a\na = b\n"]
)
def test_source_that_breaks_parsers_breaks_nothing_here(repository: Repository, source: str) -> None:
    repository.write({"manage.py": MANAGE.format("a"), "a.py": source + "\nMEDIA_ROOT = MEDIA_ROOT\n"})
    repository.init()


def test_a_variable_that_is_read_only_where_it_is_set_is_not_needed(repository: Repository) -> None:
    repository.write({
        "manage.py": MANAGE.format("a"),
        "a.py": "import os\nif os.environ.get('SENTRY'):\n    X = os.environ['SENTRY'] + os.environ['TAG']\n"
        "if 'CACHE' in os.environ:\n    Y = os.environ['CACHE']\nelse:\n    Y = os.environ['OTHER']\n"
        "Z = os.environ['ZONE'] if os.getenv('ZONE') else ''\n",
    })  # fmt: skip
    _, _, text = repository.init()
    assert "# The settings need these:\n#   OTHER\n#   TAG\n" in text
    assert "# They read these, which have a default:\n#   CACHE\n#   SENTRY\n#   ZONE\n" in text


def test_nothing_is_overwritten(repository: Repository) -> None:
    repository.write({"manage.py": MANAGE.format("a"), "a.py": ""})
    out = repository.top / "shop.toml"
    out.symlink_to(repository.top / "nowhere")
    with pytest.raises(AlreadyThere):
        repository.init()
    assert not (repository.top / "nowhere").exists()


def test_the_name_comes_from_the_repository_and_the_place_from_the_working_folder(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write({"manage.py": MANAGE.format("a"), "a.py": ""})
    clone = repository.top / "work"
    subprocess.run(["git", "clone", "-q", repository.folder, clone], check=True)
    monkeypatch.chdir(clone)
    monkeypatch.setattr(config, "FOLDER", repository.top / "etc")
    begun = subject.init("")
    assert clone / "my-shop.toml" == begun.file
    assert begun.commands[0].startswith("sudo install -D -m 644 ")
    (repository.top / "etc").mkdir()
    assert repository.top / "etc" / "other.toml" == subject.init("", name="other").file


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [({"root": "relative"}, ConfigurationInvalid), ({"root": "/"}, ConfigurationInvalid), ({"name": "Shop"}, ReleaseError),
     ({"branch": "nowhere"}, RefNotFound), ({"branch": "--upload-pack=x"}, ReleaseError)],
)  # fmt: skip
def test_wrong_wishes_are_refused_and_leave_no_file(
    repository: Repository, wrong: dict[str, str], kind: type[ReleaseError]
) -> None:
    repository.write({"manage.py": MANAGE.format("a"), "a.py": ""})
    with pytest.raises(kind):
        repository.init(**wrong)
    assert [] == list(repository.top.glob("*.toml"))


def test_what_is_no_django_project_or_no_repository_is_refused(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(RefNotFound, match="empty"):
        repository.init()
    repository.write({"README": "", "node_modules/x/manage.py": MANAGE.format("a")})
    with pytest.raises(NoDjangoProject):
        repository.init()
    with pytest.raises(UsageInvalid, match="no git repository"):
        subject.git_remote.origin_of(tmp_path)
    for url in ("ext::sh -c x", "https://me:secret@git.example.org/a", "-x", "http://git.example.org/a"):
        with pytest.raises(ConfigurationInvalid):
            subject.init(url, output=tmp_path / "a.toml")


def test_submodules_and_git_lfs_are_switched_on_for_a_repository_that_has_them(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    library = Repository(tmp_path / "other")
    library.write({"library.py": "X = 1\n"})
    repository.write({"manage.py": MANAGE.format("a.settings"), "a/settings.py": "X = 1\n",
                      ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n"})  # fmt: skip
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.folder), "library")
    repository.commit()
    app, begun, _ = repository.init()
    assert (True, True) == (app.submodules, app.lfs)
    assert "submodules = true  (the repository has .gitmodules)" in begun.found


def test_a_module_of_an_odd_name_is_looked_for_nowhere(tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside.py"
    (project / "shop").mkdir(parents=True)
    for path in (outside, project / "shop" / "settings.py"):
        path.write_text("")
    assert project / "shop" / "settings.py" == places.file_of(project, "shop.settings")
    for odd in (str(outside)[:-3].replace("/", "."), "", ".shop", "shop.", "shop/settings", "a." * 3000 + "b", "a\0"):
        assert places.file_of(project, odd) is None
