"""What decides what collectstatic makes: each change of it is another key, and what is not known has none."""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

import pytest

from bb_release.tools import django
from stage_projects import VERSIONS, Place, both, environment, in_settings, python_of, require_python, when_ready

PLAIN = "django.contrib.staticfiles.storage.StaticFilesStorage"
MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
WHITENOISE = "whitenoise.storage.CompressedManifestStaticFilesStorage"
COMPRESSED = "whitenoise.storage.CompressedStaticFilesStorage"
STYLE = "shop/static/shop/site.css"


def stored(by: str, options: str = "", more: str = "") -> dict[str, str]:
    """A project with this storage for its static files."""
    return in_settings(
        "STORAGES = {'default': {'BACKEND': 'django.core.files.storage.FileSystemStorage'},\n"
        f"            'staticfiles': {{'BACKEND': '{by}', {options}}}}}\n{more}"
    )


CLASS = "class Own(Base):\n    pass\n"
PATCH = "from django.contrib.staticfiles.storage import HashedFilesMixin, StaticFilesStorage\n"
COMMAND = "from django.contrib.staticfiles.management.commands.collectstatic import Command\n"

OTHER: dict[str, dict[str, str]] = {
    "a changed file": {STYLE: "body { color: white }\n"},
    "one more file": {"shop/static/shop/more.css": "body { color: black }\n"},
    "a file of another name": {STYLE: "", "shop/static/shop/other.css": "body { color: black }\n"},
    "another storage": stored(PLAIN),
    "another url": stored(MANIFEST, more="STATIC_URL = '/assets/'\n"),
    "another mode": stored(MANIFEST, more="FILE_UPLOAD_PERMISSIONS = 0o600\n"),
    "another folder with a prefix": stored(MANIFEST, more="STATICFILES_DIRS = [('x', BASE_DIR / 'shop/static')]\n"),
    "debug": stored(MANIFEST, more="DEBUG = True\n"),
    "a class's value that is set anew": {
        **stored(MANIFEST),
        **when_ready(f"{PATCH}StaticFilesStorage.manifest_strict = False"),
    },
    "patterns that are set anew": {
        **stored(MANIFEST), **when_ready(f"{PATCH}HashedFilesMixin.patterns += (('*.html', ('x',)),)"),
    },
    "an app that has other ignored names": {
        **stored(MANIFEST),
        **when_ready("from django.apps import apps\napps.get_app_config('staticfiles').ignore_patterns = ['*.css']"),
    },
}  # fmt: skip

UNKNOWN: dict[str, tuple[dict[str, str], str]] = {
    "a storage of the project's own": (
        {**stored("shop.own.Own"), "shop/own.py": f"from {MANIFEST.rpartition('.')[0]} import *\n"
         + CLASS.replace("Base", "ManifestStaticFilesStorage")}, r"what shop\.own\.Own does is not known"),
    "a finder of the project's own": (
        {**stored(MANIFEST, more="STATICFILES_FINDERS = ['shop.own.Own']\n"),
         "shop/own.py": "from django.contrib.staticfiles.finders import AppDirectoriesFinder as Base\n" + CLASS},
        r"what shop\.own\.Own does"),
    "options of the storage": (stored(MANIFEST, options="'OPTIONS': {'base_url': '/x/'}"), "OPTIONS"),
    "a command of the project's own": (
        {"shop/management/__init__.py": "", "shop/management/commands/__init__.py": "",
         "shop/management/commands/collectstatic.py": COMMAND,
         **in_settings("INSTALLED_APPS = ['shop', 'django.contrib.staticfiles', 'django.contrib.contenttypes']\n")},
        "a command of the project's own"),
    "a method that is replaced": (
        {**stored(MANIFEST), **when_ready(f"{PATCH}HashedFilesMixin.file_hash = lambda *words: 'x'")},
        r"HashedFilesMixin\.file_hash is of shop\.apps"),
    "a method that is wrapped": (
        {**stored(PLAIN), **when_ready(
            f"{COMMAND}import functools\nbefore = Command.collect\n@functools.wraps(before)\n"
            "def collect(self):\n    return before(self)\nCommand.collect = collect")},
        r"Command\.collect is of shop\.apps"),
    "folders that are none": (stored(MANIFEST, more="STATICFILES_DIRS = [('a', 'b', 'c')]\n"), "ValueError"),
    "a setting of an unknown type": (
        stored(WHITENOISE, more="class X: pass\nWHITENOISE_SKIP_COMPRESS_EXTENSIONS = X()\n"), "a setting .* is a X"),
}  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return environment(tmp_path_factory.mktemp("python"), sys.executable, cache, "django~=5.2.0", "whitenoise")


def key(place: Place) -> tuple[str, str]:
    """What is said of the project's static files."""
    facts = place.ask("facts", application="", static=True)
    return facts["static_sources"], facts["static_unknown"]


def keys(folder: Path, python: Path, files: dict[str, str]) -> tuple[str, str]:
    """The same, asked in a stage and alone, in two folders: it has to be the same."""
    folder.mkdir()
    with both(folder, python, files) as (alone, staged):
        assert key(alone) == key(staged)
        return key(staged)


@pytest.fixture(scope="module")
def usual(python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return keys(tmp_path_factory.mktemp("usual") / "x", python, stored(MANIFEST))


@pytest.mark.parametrize("storage", [PLAIN, MANIFEST, WHITENOISE])
def test_the_same_sources_have_the_same_key_wherever_they_lie(storage: str, python: Path, tmp_path: Path) -> None:
    more = "WORDS = 1\nWHITENOISE_ROOT = BASE_DIR / 'root'\nWHITENOISE_IMMUTABLE_FILE_TEST = lambda *a: True\n"
    found = keys(tmp_path / "1", python, stored(storage, more=more))
    assert re.fullmatch("[0-9a-f]{64}", found[0]), found
    assert "" == found[1]
    code = {"shop/urls.py": "urlpatterns = []\n", "shop/own.py": "# another line of code\n"}
    assert found == keys(tmp_path / "2", python, stored(storage, more=more.replace("1", "2")) | code)


@pytest.mark.parametrize("change", OTHER)
def test_another_key_for(change: str, python: Path, tmp_path: Path, usual: tuple[str, str]) -> None:
    files = {**stored(MANIFEST), **OTHER[change]}
    found = keys(tmp_path / "x", python, files)
    assert ("", "") != usual
    assert "" == found[1]
    assert usual[0] != found[0] != ""


@pytest.mark.parametrize("change", UNKNOWN)
def test_no_key_for(change: str, python: Path, tmp_path: Path) -> None:
    files, why = UNKNOWN[change]
    found = keys(tmp_path / "x", python, files)
    assert "" == found[0]
    assert re.search(why, found[1]), found


def test_packages_that_decide_are_told_apart_by_version_and_need_to_be_of_an_index(
    tmp_path: Path, cache: Path, python: Path
) -> None:
    first = keys(tmp_path / "1", python, stored(MANIFEST))
    older = environment(tmp_path / "older", sys.executable, cache, "django==5.2.1", "whitenoise")
    second = keys(tmp_path / "2", older, stored(MANIFEST))
    assert first[0] != second[0] != ""
    info = next(older.parents[1].glob("lib/python3*/site-packages/[dD]jango-*.dist-info"))
    (info / "direct_url.json").write_text('{"url": "https://git.example.org/django.git", "vcs_info": {}}')
    assert ("", "Django is not from an index") == keys(tmp_path / "3", older, stored(MANIFEST))


def test_what_was_compressed_before_is_taken_for_the_same_bytes_whatever_their_name(
    python: Path, tmp_path: Path
) -> None:
    """Marks stand for the copies that the live release has: they show which of them were taken."""
    before = tmp_path / "before"
    before.mkdir()
    rule, other = "body { color: black }\n" * 50, "body { color: white }\n" * 50
    (before / "old-name.css").write_text(rule)
    (before / "old-name.css.gz").write_text("taken from before")
    (before / "shop.css").write_text("a file without a copy\n" * 50)
    files = {**stored(WHITENOISE), STYLE: rule, "shop/static/shop/other.css": other,
             "shop/static/shop/shop.css": "a file without a copy\n" * 50}  # fmt: skip
    with both(tmp_path, python, files) as (alone, staged):
        for place in (alone, staged):
            place.manage(*django.COLLECT_STATIC, collected=str(before))
        made = staged.folder / "collected" / "shop"
        assert b"taken from before" == (made / "site.css.gz").read_bytes()
        assert 2 == [path.read_bytes() for path in made.glob("*.gz")].count(b"taken from before")  # the hashed one too
        assert other == gzip.decompress((made / "other.css.gz").read_bytes()).decode()
        assert (made / "shop.css").read_bytes() == gzip.decompress((made / "shop.css.gz").read_bytes())
        # a process of its own takes nothing, and makes the rest alike
        there = alone.folder / "collected" / "shop"
        assert rule == gzip.decompress((there / "site.css.gz").read_bytes()).decode()
        assert (there / "other.css.gz").read_bytes() == (made / "other.css.gz").read_bytes()


@pytest.mark.parametrize("storage", [PLAIN, MANIFEST, WHITENOISE])
def test_what_would_be_saved_with_the_same_bytes_is_linked_and_nothing_is_another(
    storage: str, python: Path, tmp_path: Path
) -> None:
    files = {f"shop/static/shop/{number}.css": f"a {{ color: #00{number} }}\n" for number in range(6)}
    with both(tmp_path, python, {**stored(storage), **files}) as (alone, staged):
        alone.manage(*django.COLLECT_STATIC)
        before, made = alone.folder / "collected", staged.folder / "collected"
        (made / "shop").mkdir(parents=True)  # what is there already is left to Django, with all else
        (before / "shop/3.css").write_text("a { color: #004 }\n")
        (before / "shop/4.css").write_text("longer than it was\n")
        (before / "shop/5.css").unlink()
        staged.manage(*django.COLLECT_STATIC, collected=str(before))
        as_before = {p.name: p.stat().st_mode for p in (before / "shop").iterdir()}
        linked = {p.name for p in (made / "shop").iterdir() if p.stat().st_nlink > 1}
        # a folder is made by Django, with its first file
        assert len({"0.css", "1.css", "2.css"} - linked) <= 1
        assert not linked & {"3.css", "4.css", "5.css"}
        assert not {name for name in linked if name.endswith((".gz", ".br"))}  # WhiteNoise writes into these
        assert set(as_before) | {"5.css"} == {p.name for p in (made / "shop").iterdir()}
        for name, content in files.items():
            assert content == (made / name.removeprefix("shop/static/")).read_text()
        assert set(as_before.values()) == {p.stat().st_mode for p in (made / "shop").iterdir()}


def test_a_copy_that_the_project_brings_itself_is_none_of_whitenoise(python: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    files = {**stored(WHITENOISE), "shop/static/shop/site.css.gz": "brought"}
    with both(tmp_path / "x", python, files) as (place, _):
        facts = place.ask("static")
    assert ("", "") == (facts["static_way"], facts["static_unknown"])
    assert "" != facts["static_sources"]


def test_the_way_is_the_same_for_other_files_and_another_one_for_other_settings(python: Path, tmp_path: Path) -> None:
    ways = []
    for number, files in enumerate([{}, OTHER["a changed file"], OTHER["another url"]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with both(folder, python, {**stored(MANIFEST), **files}) as (place, _):
            ways.append(place.ask("static")["static_way"])
    assert ways[0] == ways[1] != ways[2]


@pytest.mark.parametrize(("version", "requirement"), VERSIONS, ids=[" ".join(v) for v in VERSIONS])
def test_each_supported_django_and_python_can_be_asked(
    version: str, requirement: str, tmp_path: Path, cache: Path
) -> None:
    require_python(version)
    python = environment(tmp_path / "venv", python_of(version), cache, requirement, "whitenoise")
    for number, storage in enumerate((PLAIN, MANIFEST, WHITENOISE)):
        found = keys(tmp_path / str(number), python, stored(storage))
        assert re.fullmatch("[0-9a-f]{64}", found[0]), found
