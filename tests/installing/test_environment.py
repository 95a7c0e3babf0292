"""Real virtualenv, uv and pip, with small wheels made here; nothing needs a network."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import time
import zipfile
from pathlib import Path

import pytest

from bb_release.errors import EnvironmentNotCreated, RequirementsNotInstalled
from bb_release.tools import environment, indexes, installers, process, records
from bb_release.tools.requirements.pins import Batch, Index, Plan

BOTH = pytest.mark.parametrize("installer", ["uv", "pip"])


def wheel(folder: Path, name: str, version: str, content: str = "VALUE = 1\n", lie: int = 0, needs: str = "") -> Path:
    """A wheel with a correct RECORD, or with one whose size of the module is wrong by `lie`."""
    info = f"{name}-{version}.dist-info"
    inside = {
        f"{name}/__init__.py": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-tool = {name}:main\n",
    }
    record = ""
    for path, text in inside.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        size = len(text) + (lie if path.endswith("__init__.py") else 0)
        record += f"{path},sha256={digest},{size}\n"
    inside[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    folder.mkdir(exist_ok=True)
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in inside.items():
            archive.writestr(path, text)
    return target


class Place:
    """A project with requirements.txt, a folder of wheels, a cache and an environment."""

    def __init__(self, root: Path) -> None:
        self.root, self.wheels, self.cache, self.venv = root, root / "wheels", root / "cache", root / "venv"
        self.env = process.environment({"HOME": str(root)})
        self.lines: list[str] = []
        self.complete = False  # whether the requirements name everything
        self.django = wheel(self.wheels, "django", "0.0.1")

    def create(self, installer: str) -> None:
        environment.create(self.venv, python="", cache=self.cache, seed_pip=installer == "pip")

    def install(self, installer: str, *requirements: str, index_url: str = "", shared: bool = False) -> None:
        if not self.venv.exists():
            self.create(installer)
        head = f"--no-index\n--find-links {self.wheels}\n"
        (self.root / "requirements.txt").write_text(head + "\n".join(requirements) + "\n")
        call = installers.Installer(
            installer, self.venv, self.root, self.cache, self.env, index_url, 120, self.lines.append
        )
        plan = Plan("requirements.txt", (Batch((self.root / "requirements.txt",), self.complete),))
        call.install(plan, shared=shared)
        call.require_django(plan)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(indexes, "SYSTEM_PIP_CONFIG", tmp_path / "none")
    return Place(tmp_path)


@BOTH
def test_install(place: Place, installer: str) -> None:
    place.install(installer, "django==0.0.1")
    assert environment.packages(place.venv)["django"] == "0.0.1"
    assert ("pip" in environment.packages(place.venv)) == (installer == "pip")
    assert records.check_installed(place.venv) == []
    assert (place.venv / "bin" / "django-tool").exists()
    assert not (place.venv / ".gitignore").exists()


def test_version_is_that_of_the_interpreter(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    (place.root / "pyproject.toml").touch()
    place.create("uv")
    assert not (place.root / ".venv").exists()  # newer versions of virtualenv leave a redirect there
    said = process.run([place.venv / "bin" / "python", "-V"], capture=True).output
    assert said.strip() == f"Python {environment.python_version(place.venv)}"
    assert environment.packages(place.venv) == {}
    assert (place.venv / "bin" / "python").is_symlink()
    assert capfd.readouterr() == ("", "")


def test_no_version_without_pyvenv_cfg(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentNotCreated, match=r"pyvenv\.cfg"):
        environment.python_version(tmp_path)


@pytest.mark.parametrize("python", ["3.99", "/nowhere/python3"])
def test_no_such_interpreter(place: Place, python: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EnvironmentNotCreated) as caught:
        environment.create(place.venv, python=python, cache=place.cache, seed_pip=False)
    assert f'"{python}"' in caught.value.message
    assert "those found" in caught.value.remedy
    assert capfd.readouterr() == ("", "")


def test_an_interpreter_that_hangs_is_not_waited_for_longer_than_the_limit(place: Place) -> None:
    hanging = place.root / "python3"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    began = time.monotonic()
    with pytest.raises(EnvironmentNotCreated) as caught:
        environment.create(place.venv, python=str(hanging), cache=place.cache, seed_pip=False, timeout_seconds=0.5)
    assert "did not end within 0.5 s" in caught.value.details
    assert time.monotonic() - began < 30


def test_a_folder_in_use_is_refused(place: Place) -> None:
    with pytest.raises(EnvironmentNotCreated, match="not empty"):
        environment.create(place.wheels, python="", cache=place.cache, seed_pip=False)


@BOTH
def test_hashes_are_enforced(place: Place, installer: str) -> None:
    digest = hashlib.sha256(place.django.read_bytes()).hexdigest()
    place.install(installer, f"django==0.0.1 --hash=sha256:{digest}")
    wheel(place.wheels, "other", "1.0")
    with pytest.raises(RequirementsNotInstalled) as caught:
        place.install(installer, f"django==0.0.1 --hash=sha256:{digest}", "other==1.0")
    assert "hash" in caught.value.details.lower()


@BOTH
def test_a_wrong_hash_is_refused(place: Place, installer: str) -> None:
    with pytest.raises(RequirementsNotInstalled) as caught:
        place.install(installer, f"django==0.0.1 --hash=sha256:{'0' * 64}")
    assert "hash" in caught.value.details.lower()
    assert "django" not in environment.packages(place.venv)


@BOTH
def test_a_bad_pin(place: Place, installer: str) -> None:
    with pytest.raises(RequirementsNotInstalled) as caught:
        place.install(installer, "django==9.9.9")
    assert caught.value.message == f"{installer} could not install requirements.txt"
    assert "django==9.9.9" in caught.value.details
    assert len(caught.value.details.splitlines()) <= installers.DETAIL_LINES
    assert caught.value.remedy == "correct the pin and push, then run: bb-release deploy"


@BOTH
def test_nothing_installed_is_refused(place: Place, installer: str) -> None:
    with pytest.raises(RequirementsNotInstalled, match="exit code 0, but Django is not"):
        place.install(installer, 'django==0.0.1; python_version < "3.0"')


@BOTH
def test_a_complete_list_is_installed_as_it_is_and_another_with_what_it_needs(place: Place, installer: str) -> None:
    wheel(place.wheels, "django", "0.0.1", needs="Requires-Dist: left-out\n")
    place.complete = True
    place.install(installer, "django==0.0.1")
    assert "django" in environment.packages(place.venv)
    place.complete = False
    with pytest.raises(RequirementsNotInstalled, match="could not install") as caught:
        place.install(installer, "django==0.0.1", "django[x]==0.0.1")
    assert "left-out" in caught.value.details
    assert not (place.venv / "pip.log").exists()


@BOTH
def test_a_damaged_file_is_found_and_installed_again(place: Place, installer: str) -> None:
    place.install(installer, "django==0.0.1")
    module = next(place.venv.glob("lib/python3*/site-packages/django/__init__.py"))
    os.truncate(module, 0)  # with uv this damages the cache too: they are one file
    assert records.check_installed(place.venv) == [str(module.relative_to(place.venv))]
    place.install(installer, "django==0.0.1")
    assert records.check_installed(place.venv) == []
    assert any("without the cache" in line for line in place.lines)


def test_a_missing_file_and_a_missing_record_are_found(place: Place) -> None:
    place.install("uv", "django==0.0.1")
    site = next(place.venv.glob("lib/python3*/site-packages"))
    (site / "django" / "__init__.py").unlink()
    assert records.check_installed(place.venv) == [str((site / "django/__init__.py").relative_to(place.venv))]
    (site / "django-0.0.1.dist-info" / "RECORD").unlink()
    assert records.check_installed(place.venv)[0].endswith("RECORD")


@BOTH
def test_what_stays_damaged_is_refused(place: Place, installer: str) -> None:
    wheel(place.wheels, "django", "0.0.1", lie=1)
    with pytest.raises(RequirementsNotInstalled, match="missing or not as") as caught:
        place.install(installer, "django==0.0.1")
    assert caught.value.details.endswith("site-packages/django/__init__.py")


@BOTH
def test_variables_around_us_are_ignored(place: Place, installer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = place.root / "virtualenv.ini"
    config.write_text("[virtualenv]\nsystem-site-packages = true\n")
    for name, value in {
        "VIRTUALENV_CONFIG_FILE": str(config), "VIRTUALENV_SYSTEM_SITE_PACKAGES": "1",
        "VIRTUALENV_PYTHON": "3.99", "VIRTUALENV_OVERRIDE_APP_DATA": str(place.root / "elsewhere"),
        "PYTHONHOME": "/nowhere", "PIP_REQUIRE_VIRTUALENV": "no", "PIP_TARGET": str(place.root / "target"),
        "PIP_CACHE_DIR": str(place.root / "elsewhere"), "UV_CACHE_DIR": str(place.root / "elsewhere"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    place.install(installer, "django==0.0.1")
    assert "django" in environment.packages(place.venv)
    assert "include-system-site-packages = false" in (place.venv / "pyvenv.cfg").read_text()
    assert not (place.root / "elsewhere").exists()
    assert not (place.root / "target").exists()


@pytest.mark.parametrize("shared", [True, False])
def test_only_what_nobody_writes_to_is_linked_from_the_cache(place: Place, shared: bool) -> None:
    place.install("uv", "django==0.0.1", shared=shared)
    module = next(place.venv.glob("lib/python3*/site-packages/django/__init__.py"))
    place.venv = place.root / "second"
    place.install("uv", "django==0.0.1", shared=shared)
    second = next(place.venv.glob("lib/python3*/site-packages/django/__init__.py"))
    links = len({module.stat().st_ino, second.stat().st_ino}) == 1
    assert links == shared or os.geteuid() == 0  # root's share their blocks instead, where that can be
    assert links <= shared
    kept = list(place.cache.glob("uv/archive-v*/*/django/__init__.py"))
    assert kept
    with second.open("a") as file:
        file.write("# more\n")
    changed = ["# more" in path.read_text() for path in (module, *kept)]
    assert shared or not any(changed)
    assert (place.cache / "virtualenv").is_dir()


def test_what_is_installed_has_byte_code_and_what_was_there_keeps_its_own(place: Place) -> None:
    wheel(place.wheels, "other", "1.0")
    place.install("uv", "django==0.0.1")
    site = environment.sites(place.venv)[0]
    compiled = f"__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    (site / "django" / compiled).unlink()
    place.install("uv", "django==0.0.1", "other==1.0")
    assert (site / "other" / compiled).exists()
    assert not (site / "django" / compiled).exists()  # nobody has gone through it again
    flags = int.from_bytes((site / "other" / compiled).read_bytes()[4:8], "little")
    assert 0 == flags  # valid by time and size: PEP 552


def test_uv_takes_the_index_of_pips_configuration(place: Place) -> None:
    other = place.root / "other"
    wheel(other, "inner", "1.0")
    config = place.root / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text(f"[global]\nindex-url = https://me:100%25secret@a.invalid/\nfind-links =\n  {other}\n")
    place.install("uv", "django==0.0.1", "inner==1.0")
    assert environment.packages(place.venv)["inner"] == "1.0"
    added, _ = indexes.choose("uv", place.env, "")
    assert "https://me:100%25secret@a.invalid/" == added["UV_DEFAULT_INDEX"]


def test_uv_leaves_pips_configuration_alone_when_an_index_is_configured(place: Place) -> None:
    (place.root / ".pip").mkdir()
    (place.root / ".pip" / "pip.conf").write_text("[install]\nindex-url = https://b.invalid/\nno-index = true\n")
    assert ({"UV_DEFAULT_INDEX": "https://b.invalid/"}, ["--no-index"]) == indexes.choose("uv", place.env, "")
    assert ({"UV_DEFAULT_INDEX": "https://u:p@c.invalid/"}, []) == indexes.choose(
        "uv", place.env, "https://u:p@c.invalid/"
    )


def test_an_index_of_the_environment_counts_for_both_installers_and_below_the_configured_one(place: Place) -> None:
    one, two = "https://u:p@one.invalid/simple", "https://two.invalid/simple"
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        env = {**place.env, name: one}
        assert {"PIP_INDEX_URL": one} == indexes.choose("pip", env, "")[0]
        assert {"UV_DEFAULT_INDEX": one} == indexes.choose("uv", env, "")[0]
        assert {"UV_DEFAULT_INDEX": two} == indexes.choose("uv", env, two)[0]
    env = {**place.env, "UV_INDEX": f"ours={two}"}
    assert {"PIP_INDEX_URL": one, "PIP_EXTRA_INDEX_URL": two} == indexes.choose("pip", env, one)[0]
    assert {"UV_DEFAULT_INDEX": one, "UV_INDEX": f"ours={two}"} == indexes.choose("uv", env, one)[0]


def test_the_indexes_of_a_lock_are_asked_too_with_the_credentials_of_their_names(place: Place) -> None:
    pypi, ours = Index("https://pypi.org/simple"), Index("https://i.invalid/simple/", "our-own")
    url = "https://me:a%2Fb@i.invalid/simple/"
    for prefix in ("UV_INDEX_OUR_OWN", "POETRY_HTTP_BASIC_OUR_OWN"):
        env = {**place.env, f"{prefix}_USERNAME": "me", f"{prefix}_PASSWORD": "a/b"}
        assert {"PIP_EXTRA_INDEX_URL": url} == indexes.choose("pip", env, "", [pypi, ours])[0]
        assert {"UV_INDEX": url} == indexes.choose("uv", env, "", [pypi, ours])[0]
        assert {"PIP_INDEX_URL": url} == indexes.choose("pip", env, "", [ours])[0]  # no other is needed
        assert {"UV_DEFAULT_INDEX": "https://i.invalid/simple"} == indexes.choose(
            "uv", env, "https://i.invalid/simple", [ours]
        )[0]  # the configured one already


def test_the_default_python_is_our_own(place: Place) -> None:
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" == environment.wanted_version("")
    assert environment.wanted_version("") == environment.wanted_version(sys.executable)
    assert "3.12" == environment.wanted_version("3.12.4")
    assert "" == environment.wanted_version("/nowhere/python3")


@BOTH
@pytest.mark.parametrize("line", ["-i {}", "--index-url={}", "--index-url {}"])
def test_an_index_inside_the_file_is_named(place: Place, installer: str, line: str) -> None:
    url = "https://token-of-many-letters@d.invalid/simple"
    with pytest.raises(RequirementsNotInstalled) as caught:
        place.install(installer, line.format(url), "django==9.9.9", index_url="https://e.invalid/simple")
    assert "d.invalid" in caught.value.remedy
    assert ("it overrides the configured index_url" in caught.value.remedy) == (installer == "pip")
    assert "token-of-many" not in "\n".join([caught.value.remedy, caught.value.details, *place.lines])
