"""Every format as its own tool wrote it, read and installed for real: uv and pip, Django from the real index."""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bb_release.errors import ReleaseError, RequirementsInvalid, RequirementsNotInstalled
from bb_release.tools import environment, installers, process, requirements, uv
from bb_release.tools.requirements import pins
from bb_release.tools.requirements.pins import Plan

LOCKS = Path(__file__).resolve().parents[1] / "locks"
BOTH = pytest.mark.parametrize("installer", ["uv", "pip"])
# the folder in tests/locks, the file in it, the group that has iniconfig, the extra that has idna
FORMATS = {
    "uv": ("uv.lock", "docs", "idn"),
    "poetry-1.1": ("poetry.lock", "dev", "idn"),
    "poetry-1.3": ("poetry.lock", "docs", "idn"),
    "poetry-1.8": ("poetry.lock", "docs", "idn"),
    "poetry-2": ("poetry.lock", "docs", "idn"),
    "pipenv": ("Pipfile.lock", "develop", ""),
    "pylock": ("pylock.toml", "", ""),
    "pip-lock": ("pylock.toml", "", ""),
    "pyproject": ("pyproject.toml", "docs", "idn"),
}
HASHED = [name for name in FORMATS if name != "pyproject"]
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    """Of this module alone: here the installers run as whoever runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="bb-cache-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Project:
    """A tree, and an environment to install it into."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.tree, self.venv, self.written, self.cache = folder / "app", folder / "venv", folder / "requirements", cache
        self.tree.mkdir()
        self.lines: list[str] = []
        passed = ("HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
        self.env = process.environment(passed=passed)
        # a Python as it was before anything is installed; no environment is needed to read a lock
        self.python = Path(sys.executable)

    def take(self, name: str) -> Project:
        shutil.copytree(LOCKS / name, self.tree, dirs_exist_ok=True)
        return self

    def write(self, name: str, text: str) -> Path:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.tree / name).read_text()
        assert old in text
        (self.tree / name).write_text(text.replace(old, new))

    def plan(self, *names: str, groups: Sequence[str] = (), extras: Sequence[str] = (), subfolder: str = "") -> Plan:
        return requirements.plan(
            tree=self.tree, subfolder=subfolder, names=names, groups=groups, extras=extras, python=self.python,
            folder=self.written, cache=self.cache, env=self.env, timeout_seconds=120, on_line=self.lines.append,
        )  # fmt: skip

    def refused(self, *names: str, groups: Sequence[str] = (), extras: Sequence[str] = (), subfolder: str = "") -> str:
        """The error's message and remedy."""
        with pytest.raises(RequirementsInvalid) as caught:
            self.plan(*names, groups=groups, extras=extras, subfolder=subfolder)
        assert caught.value.remedy.endswith("then run: bb-release deploy")
        assert str(self.tree) not in caught.value.message
        return f"{caught.value.message}\n{caught.value.details}\n{caught.value.remedy}"

    def install(self, installer: str, plan: Plan) -> dict[str, str]:
        """What is in the environment afterwards."""
        if not self.venv.exists():
            environment.create(self.venv, python="", cache=self.cache, seed_pip=installer == "pip")
        call = installers.Installer(
            installer, self.venv, self.tree, self.cache, self.env, timeout_seconds=300, on_line=self.lines.append
        )
        call.install(plan)
        call.require_django(plan)
        return environment.packages(self.venv)

    def pins(self, *names: str, groups: Sequence[str] = (), extras: Sequence[str] = ()) -> str:
        """What the generated files say."""
        plan = self.plan(*names, groups=groups, extras=extras)
        return "".join(file.read_text() for batch in plan.batches for file in batch.files)


@pytest.fixture
def project(tmp_path: Path, cache: Path) -> Project:
    return Project(tmp_path, cache)


# each format, by each installer


@BOTH
@pytest.mark.parametrize("name", FORMATS)
def test_a_project_of_each_format_is_installed(project: Project, name: str, installer: str) -> None:
    file, group, extra = FORMATS[name]
    plan = project.take(name).plan(groups=[group] if group else [], extras=[extra] if extra else [])
    installed = project.install(installer, plan)

    assert plan.shown == file
    assert installed["django"].startswith("5.2.")
    assert {"asgiref", "sqlparse"} <= installed.keys()
    assert ("iniconfig" in installed) == bool(group)
    assert ("idna" in installed) == (bool(extra) or name == "pylock")
    assert "colorama" not in installed  # only for Windows
    said = subprocess.run(
        [project.venv / "bin/python", "-m", "django", "--version"], capture_output=True, text=True, check=True
    )
    assert installed["django"] == said.stdout.strip()
    assert (project.written / "requirements.txt").read_text().startswith(f"# {file} for Python 3.")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "pylock"])
def test_without_groups_and_extras_only_the_main_packages_are_locked(project: Project, name: str) -> None:
    text = project.take(name).pins().replace('colorama; sys_platform == "win32"', "")  # a marker may stay
    assert "django" in text
    assert not re.search("iniconfig|idna|colorama|packaging", text)


@BOTH
@pytest.mark.parametrize("name", HASHED)
def test_a_tampered_hash_is_an_error_and_nothing_of_it_is_installed(
    project: Project, name: str, installer: str
) -> None:
    file = FORMATS[name][0]
    digests = re.findall(r"[0-9a-f]{64}", project.take(name).pins().split("\ndjango==")[1].split("==")[0])
    assert digests
    for digest in digests:
        project.edit(file, digest, "0" * 64)

    with pytest.raises(RequirementsNotInstalled) as caught:
        project.install(installer, project.plan())
    assert "hash" in caught.value.details.lower()
    assert "django" not in environment.packages(project.venv)


# what is looked at


def test_the_subfolder_is_looked_at_before_the_root(project: Project) -> None:
    project.write("requirements.txt", "django\n")
    project.write("site/requirements.txt", "django\n")
    assert "site/requirements.txt" == project.plan(subfolder="site").shown
    (project.tree / "site/requirements.txt").unlink()
    assert "requirements.txt" == project.plan(subfolder="site").shown


@pytest.mark.parametrize("name", ["requirements/production.txt", "requirements/prod.txt"])
def test_requirements_in_a_folder_are_found(project: Project, name: str) -> None:
    project.write("requirements/prod.txt", "django\n")
    project.write(name, "django\n")
    assert name == project.plan().shown


def test_two_lock_files_are_an_error_that_says_what_to_write(project: Project) -> None:
    project.take("uv").take("poetry-2").write("requirements.txt", "django\n")
    said = project.refused()
    assert "uv.lock, poetry.lock, requirements.txt" in said
    assert 'requirements = "uv.lock"' in said
    assert "poetry.lock" == project.plan("poetry.lock").shown


def test_nothing_found_is_an_error_that_says_what_was_looked_for(project: Project) -> None:
    project.write("pyproject.toml", "[tool.black]\nline-length = 100\n")
    said = project.refused()
    for name in (*requirements.LOCKS, *requirements.PLAIN, "pyproject.toml"):
        assert name in said


def test_a_configured_file_that_is_missing_is_an_error(project: Project) -> None:
    assert "none.txt is not there" in project.refused("none.txt")


def test_a_configured_file_is_found_in_the_subfolder_or_else_at_the_root(project: Project) -> None:
    project.write("site/manage.py", "")
    project.write("deps.txt", "django\n")
    assert "deps.txt" == project.plan("deps.txt", subfolder="site").shown
    project.write("site/deps.txt", "django\n")
    assert "site/deps.txt" == project.plan("deps.txt", subfolder="site").shown


def test_several_requirements_files_are_installed_together_and_locks_are_not(project: Project) -> None:
    project.take("uv").write("a.txt", "django\n")
    project.write("b.txt", "idna\n")
    assert "a.txt, b.txt" == project.plan("a.txt", "b.txt").shown
    assert "together" in project.refused("a.txt", "uv.lock")


def test_a_named_pylock_is_known_by_its_name(project: Project) -> None:
    project.take("pylock")
    (project.tree / "pylock.toml").rename(project.tree / "pylock.production.toml")
    assert "django==5.2" in project.pins("pylock.production.toml")


@pytest.mark.parametrize("name", FORMATS)
def test_an_unknown_group_or_extra_is_an_error_that_lists_what_there_is(project: Project, name: str) -> None:
    file, group, extra = FORMATS[name]
    said = project.take(name).refused(groups=["dosc"])
    assert f"{file} has no group dosc; it has: {'' if group else 'none'}" in said
    assert group in said
    said = project.refused(extras=["ind"])
    assert f"{file} has no extra ind; it has: {extra or 'none'}" in said


def test_groups_and_extras_do_not_go_with_a_requirements_file(project: Project) -> None:
    project.write("requirements.txt", "django\n")
    assert "has no group docs; it has: none" in project.refused(groups=["docs"])
    assert "has no extra idn; it has: none" in project.refused(extras=["idn"])


# the interpreter

TOO_NEW = {
    "uv": ("pyproject.toml", '">=3.10"', '">=3.99"'),
    "poetry-1.3": ("poetry.lock", 'python-versions = "^3.10"\ncontent', 'python-versions = "^3.99"\ncontent'),
    "poetry-2": ("poetry.lock", 'python-versions = ">=3.10"\ncontent', 'python-versions = ">=3.99"\ncontent'),
    "pipenv": ("Pipfile.lock", '"requires": {}', '"requires": {"python_version": "3.99"}'),
    "pylock": ("pylock.toml", 'requires-python = ">=3.10"', 'requires-python = ">=3.99"'),
    "pyproject": ("pyproject.toml", '">=3.10"', '">=3.99"'),
}


@pytest.mark.parametrize("name", TOO_NEW)
def test_another_python_than_the_project_wants_is_an_error_before_anything_is_installed(
    project: Project, name: str
) -> None:
    project.take(name).edit(*TOO_NEW[name])
    said = project.refused()
    assert re.search(r"wants Python \S*3\.99", said)
    assert f"has Python {sys.version.split()[0]}" in said
    assert 'python = "3.12"' in said


def test_a_project_with_plain_requirements_tells_its_python_too(project: Project) -> None:
    project.write("requirements.txt", "django\n")
    project.write("pyproject.toml", '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.99"\n')
    assert "wants Python >=3.99" in project.refused()


@functools.cache
def other_pythons() -> list[str]:
    """Interpreters of this machine with another minor version than ours, that we may start."""
    places = ("/usr/bin", "/usr/local/bin", "/opt/*/bin", "~/.pyenv/versions/*/bin", "~/.local/share/uv/python/*/bin")
    found = {}
    for path in (one for place in places for one in glob.glob(os.path.expanduser(place) + "/python3.[0-9]*")):
        version = environment.wanted_version(path) if re.search(r"python3\.\d+$", path) else ""
        if version and version != environment.wanted_version("") and int(version[2:]) >= 10:
            found[version] = path
    return [found[version] for version in sorted(found)]


@BOTH
def test_another_interpreter_gets_what_the_lock_has_for_it(project: Project, installer: str) -> None:
    if not other_pythons():
        if os.environ.get("REQUIRE_PYTHONS") == "1":
            pytest.fail("no second Python on this machine")
        pytest.skip("skipped: this machine has no second Python (REQUIRE_PYTHONS=1 makes this a failure)")
    path = other_pythons()[0]
    environment.create(project.venv, python=path, cache=project.cache, seed_pip=installer == "pip")
    project.python = project.venv / "bin" / "python"
    installed = project.install(installer, project.take("uv").plan())
    minor = environment.wanted_version(path)
    assert minor == environment.python_version(project.venv).rpartition(".")[0]
    assert (minor == "3.10") == ("typing-extensions" in installed)
    assert ("3.12.1" if minor == "3.10" else "3.13.0") == installed["asgiref"]


# what does not fit


@pytest.mark.parametrize("name", ["uv", "poetry-1.1", "poetry-1.3", "poetry-1.8", "poetry-2"])
def test_a_lock_that_does_not_fit_pyproject_is_an_error(project: Project, name: str) -> None:
    old, new = ('"~5.2"', '"~5.1"') if name.startswith("poetry-1") else (">=5.2,<5.3", ">=5.1,<5.3")
    project.take(name).edit("pyproject.toml", old, new)
    said = project.refused()
    assert f"{FORMATS[name][0]} does not fit pyproject.toml" in said
    assert f"run {'uv' if name == 'uv' else 'poetry'} lock, commit" in said


def test_a_lock_that_fits_is_read_without_a_network(project: Project, tmp_path: Path) -> None:
    project.take("uv")
    project.cache = tmp_path / "empty"
    project.env |= {"UV_OFFLINE": "1", "UV_DEFAULT_INDEX": "https://mirror.invalid/simple"}
    assert "django==5.2" in project.pins()


def test_the_projects_own_settings_of_uv_count(project: Project) -> None:
    project.take("uv")
    project.write(
        "pyproject.toml", (project.tree / "pyproject.toml").read_text() + '\n[tool.uv]\nprerelease = "allow"\n'
    )
    assert "does not fit" in project.refused()
    subprocess.run([uv.program(), "lock", "-q"], cwd=project.tree, env=project.env, check=True)
    assert "django==5.2" in project.pins()


@pytest.mark.parametrize("name", HASHED)
def test_a_lock_that_cannot_be_read_is_an_error(project: Project, name: str) -> None:
    project.take(name).write(FORMATS[name][0], "{ broken")
    assert f"{FORMATS[name][0]} cannot be read" in project.refused()


@pytest.mark.parametrize("name", ["uv", "poetry-2"])
def test_a_lock_without_its_pyproject_is_an_error(project: Project, name: str) -> None:
    (project.take(name).tree / "pyproject.toml").unlink()
    assert "no pyproject.toml beside it" in project.refused()


@pytest.mark.parametrize("evil", ["django --index-url=https://evil.invalid", "django\\n-r /etc/passwd", "a;b"])
def test_a_name_that_is_none_is_refused(project: Project, evil: str) -> None:
    project.take("pipenv").edit("Pipfile.lock", '"django": {', f'"{evil}": {{')
    assert "Pipfile.lock cannot be used" in project.refused()


def test_a_version_with_more_in_it_is_refused(project: Project) -> None:
    project.take("pipenv").edit("Pipfile.lock", '"==5.2', '"==5.2 --pre ')
    assert "Pipfile.lock cannot be used" in project.refused()


# what a lock can hold besides packages of an index


def write_package(project: Project, folder: str, name: str) -> None:
    project.write(f"{folder}/src/{name}/__init__.py", "VALUE = 42\n")
    project.write(
        f"{folder}/pyproject.toml",
        f'[project]\nname = "{name}"\nversion = "1"\n[build-system]\nrequires = ["setuptools"]\n'
        'build-backend = "setuptools.build_meta"\n',
    )


@BOTH
def test_uv_packages_of_the_tree_and_the_project_itself_are_installed_beside_the_hashed_ones(
    project: Project, installer: str
) -> None:
    write_package(project, ".", "shop")
    write_package(project, "libs/inner", "inner")
    project.write(
        "pyproject.toml",
        (project.tree / "pyproject.toml").read_text().replace(
            'version = "1"', 'version = "1"\nrequires-python = ">=3.10"\ndependencies = ["django>=5.2,<5.3", "inner"]'
        ) + '\n[tool.uv.sources]\ninner = { path = "libs/inner", editable = true }\n',
    )  # fmt: skip
    subprocess.run([uv.program(), "lock", "-q"], cwd=project.tree, env=project.env, check=True)
    plan = project.plan()
    assert 2 == len(plan.batches)
    installed = project.install(installer, plan)
    assert {"django", "inner", "shop"} <= installed.keys()
    for name in ("inner", "shop"):
        file = next(project.venv.glob(f"lib/python3*/site-packages/{name}/__init__.py"))
        assert "VALUE = 42\n" == file.read_text()  # a copy, not a link to the tree


def test_a_project_without_a_build_system_is_not_installed_itself(project: Project) -> None:
    assert "shop" not in project.take("uv").pins()
    assert "shop @" not in project.take("pyproject").pins("pyproject.toml")


@BOTH
def test_a_pyproject_with_a_build_system_is_installed_with_its_extras(project: Project, installer: str) -> None:
    project.take("pyproject").write("shop/__init__.py", "")
    text = (project.tree / "pyproject.toml").read_text()
    project.write(
        "pyproject.toml", text + '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    )
    installed = project.install(installer, project.plan(extras=["idn"], groups=["docs"]))
    assert {"shop", "django", "idna", "iniconfig"} <= installed.keys()


def test_groups_of_a_pyproject_may_include_each_other(project: Project) -> None:
    project.write(
        "pyproject.toml",
        '[project]\nname = "shop"\nversion = "1"\ndependencies = ["django"]\n'
        '[project.optional-dependencies]\nall = ["shop[slug]", "idna"]\nslug = ["python-slugify>=8"]\n'
        '[dependency-groups]\nprod = [{include-group = "web"}, "psycopg"]\nweb = ["gunicorn>=20"]\n',
    )
    text = project.pins(extras=["all"], groups=["prod"])
    assert ["django", "gunicorn>=20", "idna", "psycopg", "python-slugify>=8"] == sorted(text.splitlines()[1:])


def test_sources_of_uv_without_a_lock_are_an_error(project: Project) -> None:
    project.write(
        "pyproject.toml",
        '[project]\nname = "shop"\nversion = "1"\ndependencies = ["django", "inner"]\n'
        '[tool.uv.sources]\ninner = { path = "libs/inner" }\n',
    )
    assert "run uv lock" in project.refused()


def test_pylock_extras_and_groups_are_chosen_and_default_groups_are_the_default(project: Project) -> None:
    def package(name: str, marker: str) -> str:
        return (
            f'[[packages]]\nname = "{name}"\nversion = "1.0"\nmarker = "{marker}"\nindex = "https://x.invalid/simple"\n'
            f'wheels = [{{url = "https://x.invalid/{name}-1.0-py3-none-any.whl", hashes = {{sha256 = "{"1" * 64}"}}}}]\n'
        )

    project.write(
        "pylock.toml",
        'lock-version = "1.0"\ncreated-by = "test"\nextras = ["idn"]\ndependency-groups = ["docs", "prod"]\n'
        'default-groups = ["prod"]\n'
        + package("one", "'idn' in extras") + package("two", "'docs' in dependency_groups")
        + package("three", "'prod' in dependency_groups"),
    )  # fmt: skip
    assert ["three==1.0"] == re.findall(r"\w+==1\.0", project.pins())
    assert ["one==1.0", "two==1.0"] == re.findall(r"\w+==1\.0", project.pins(extras=["idn"], groups=["docs"]))
    assert "https://x.invalid/simple" == project.plan().indexes[0].url


def test_pylock_files_folders_and_git_become_addresses(project: Project) -> None:
    write_package(project, "libs/inner", "inner")
    project.write("wheels/near-1.0-py3-none-any.whl", "")
    project.write(
        "pylock.toml",
        'lock-version = "1.0"\ncreated-by = "test"\n'
        '[[packages]]\nname = "inner"\ndirectory = {path = "libs/inner"}\n'
        f'[[packages]]\nname = "far"\nvcs = {{type = "git", url = "https://g.invalid/far.git", commit-id = "{COMMIT}",'
        ' subdirectory = "py"}\n'
        f'[[packages]]\nname = "near"\nversion = "1.0"\nwheels = [{{path = "wheels/near-1.0-py3-none-any.whl",'
        f' hashes = {{sha256 = "{"2" * 64}"}}}}]\n'
        f'[[packages]]\nname = "zip"\narchive = {{url = "https://g.invalid/zip.zip", hashes = {{sha256 = "{"3" * 64}"}}}}\n',
    )
    text = project.pins()
    assert f"inner @ {(project.tree / 'libs/inner').as_uri()}\n" in text
    assert f"far @ git+https://g.invalid/far.git@{COMMIT}#subdirectory=py\n" in text
    assert re.search(r"near @ file://\S+/wheels/near-1.0-py3-none-any.whl \\\n    --hash=sha256:2{64}\n", text)
    assert re.search(r"zip @ https://g.invalid/zip.zip \\\n    --hash=sha256:3{64}\n", text)


def test_pylock_a_path_out_of_the_repository_is_refused(project: Project) -> None:
    project.write(
        "pylock.toml",
        'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "x"\ndirectory = {path = "../x"}\n',
    )
    (project.tree.parent / "x").mkdir()
    assert "not in the repository" in project.refused()


def test_pipenv_git_files_markers_and_sources_are_read(project: Project) -> None:
    write_package(project, "libs/inner", "inner")
    project.take("pipenv")
    lock = json.loads((project.tree / "Pipfile.lock").read_text())
    lock["default"] = {
        "django": lock["default"]["django"],
        "far": {"git": "git@g.invalid:team/far.git", "ref": COMMIT, "subdirectory": "py"},
        "0fe1a2b3c4": {"editable": True, "path": "./libs/inner"},
        "old": {"version": "==1.0", "markers": "python_version < '3'", "hashes": []},
        "bare": {"version": "*"},
    }
    lock["_meta"]["sources"].append({"name": "ours", "url": "https://${OUR_USER}:${OUR_PASSWORD}@i.invalid/simple"})
    project.write("Pipfile.lock", json.dumps(lock))
    assert "OUR_USER is not set; put it into build_env_file" in project.refused()
    project.env |= {"OUR_USER": "me", "OUR_PASSWORD": "a-long-password"}
    text = project.pins()
    assert f"far @ git+ssh://git@g.invalid/team/far.git@{COMMIT}#subdirectory=py\n" in text
    assert f"inner @ {(project.tree / 'libs/inner').as_uri()}\n" in text
    assert "\nbare\n" in text
    assert "old" not in text
    assert "a-long-password" not in text
    assert "https://me:a-long-password@i.invalid/simple" == project.plan().indexes[1].url


def with_hash(pyproject: str) -> str:
    """poetry.lock's content-hash for a [tool.poetry] of dependencies only, as Poetry 1 made it."""
    import hashlib
    import tomllib

    poetry = tomllib.loads(pyproject)["tool"]["poetry"]
    content = {key: poetry.get(key) for key in ("dependencies", "source", "extras", "dev-dependencies")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def test_poetry_git_folders_files_and_addresses_are_read(project: Project) -> None:
    """And extras of a package: what `far` needs for its extra `x` is installed, for `y` it is not."""
    write_package(project, "libs/inner", "inner")
    pyproject = (
        '[tool.poetry]\nname = "shop"\n[tool.poetry.dependencies]\npython = "^3.8"\n'
        'inner = { path = "libs/inner", develop = true }\n'
        'far = { git = "https://g.invalid/far.git", branch = "main", extras = ["x"] }\n'
        'zip = { url = "https://g.invalid/zip.zip" }\n'
    )
    head = 'description = ""\noptional = false\npython-versions = "*"\n'

    def package(name: str, source: str, files: str = "", more: str = "") -> str:
        return f'[[package]]\nname = "{name}"\nversion = "1.0"\n{head}files = [{files}]\n{more}{source}\n'

    files = f'{{file = "f", hash = "sha256:{"4" * 64}"}}'
    project.write("pyproject.toml", pyproject)
    project.write(
        "poetry.lock",
        package("inner", '[package.source]\ntype = "directory"\nurl = "libs/inner"')
        + package(
            "far",
            '[package.source]\ntype = "git"\nurl = "https://g.invalid/far.git"\nreference = "main"\n'
            f'resolved_reference = "{COMMIT}"',
            more='[package.dependencies]\nwanted = {version = ">=1", optional = true, markers = "extra == \\"x\\""}\n'
            'other = {version = ">=1", optional = true, markers = "extra == \\"y\\""}\n',
        )
        + package("zip", '[package.source]\ntype = "url"\nurl = "https://g.invalid/zip.zip"', files)
        + package(
            "wanted", '[package.source]\ntype = "legacy"\nurl = "https://i.invalid/simple"\nreference = "ours"', files
        )
        + package("other", "", files)
        + f'[metadata]\nlock-version = "2.0"\npython-versions = "^3.8"\ncontent-hash = "{with_hash(pyproject)}"\n',
    )
    text = project.pins()
    assert f"inner @ {(project.tree / 'libs/inner').as_uri()}\n" in text
    assert f"far @ git+https://g.invalid/far.git@{COMMIT}\n" in text
    assert re.search(r"zip @ https://g.invalid/zip.zip \\\n    --hash=sha256:4{64}\n", text)
    assert re.search(r"wanted==1\.0 \\\n    --hash=sha256:4{64}\n", text)
    assert "other" not in text
    assert [pins.Index("https://i.invalid/simple", "ours")] == list(project.plan().indexes)


def test_an_interpreter_that_does_not_start_is_an_error(project: Project) -> None:
    project.write("requirements.txt", "django\n")
    project.python = Path("/nowhere/python")
    with pytest.raises(ReleaseError, match="does not answer"):
        project.plan()
