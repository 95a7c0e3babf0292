"""Package sets for real: uv and pip install small wheels made here, a set is made of them and linked into others.

The programs that then change one environment run as an unprivileged user, as a site's would.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from bb_release.actions import check_folders
from bb_release.model.app import App
from bb_release.tools import environment, filesystem, indexes, package_set, process, records, uv
from bb_release.tools.installers import Installer
from bb_release.tools.requirements.pins import Batch, Plan
from example_site import NOBODY, unprivileged
from programs import missing, required

BOTH = pytest.mark.parametrize("installer", ["uv", "pip"])
CHOICE = package_set.Choice({"one": "one==1.0", "two": "two==1.0", "django": "django==1.0"}, "by uv")
MANY = 400  # modules of one package, so that an installer can be killed in the middle
TREE = {
    "one": {
        "one/__init__.py": "def main():\n    import sys\n    print(sys.prefix)\n",
        "one/data.txt": "data\n",
        "one/both.py": "OWNER = 'one'\n",
        "space/first.py": "VALUE = 1\n",  # a namespace: no __init__.py
        "one-1.0.data/scripts/one-shell": "#!/bin/sh\necho shell\n",
        "one-1.0.data/scripts/one-script": "#!python\nimport sys\nprint('script', sys.prefix)\n",
        "one-1.0.data/data/share/one/page.txt": "a page\n",
        "one-1.0.dist-info/entry_points.txt": "[console_scripts]\none-tool = one:main\n",
    },
    "two": {
        "two/__init__.py": "",
        "two.pth": "import sys; sys.two_pth = True\n",
        "space/second.py": "VALUE = 2\n",
        **{f"two/module_{number}.py": f"VALUE = {number}\n" * 50 for number in range(MANY)},
    },
    "clash": {"one/both.py": "OWNER = 'clash'\n", "clash.py": ""},
    "django": {"django/__init__.py": ""},
}


def wheel(folder: Path, name: str, version: str = "1.0", needs: str = "", lie: str = "") -> None:
    """A wheel of what TREE has for a name; of the file `lie` its RECORD has a wrong hash."""
    info = f"{name}-{version}.dist-info"
    files = {path.replace("1.0", version): text for path, text in TREE[name].items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest[::-1] if path == lie else digest}", len(text)])
    rows.writerow([f"{info}/RECORD", "", ""])
    files[f"{info}/RECORD"] = record.getvalue()
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            archive.writestr(entry, text)


class Place:
    """Wheels, a cache, and environments named as those of releases."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wheels, self.cache, self.set = folder, folder / "wheels", folder / "cache", folder / "sets/s"
        for name, needs in (("one", "Requires-Dist: two\n"), ("two", ""), ("django", ""), ("clash", "")):
            wheel(self.wheels, name, needs=needs)
        wheel(self.wheels, "one", "2.0")
        wheel(self.wheels, "two", "2.0")
        self.uv = folder / "uv"
        shutil.copy(uv.program(), self.uv)  # a checkout may lie in a private folder
        self.lines: list[str] = []

    def venv(self, name: str, *, pip: bool) -> Path:
        folder = self.folder / "releases" / name / "venv"
        environment.create(folder, python="", cache=self.cache, seed_pip=pip)
        return folder

    def installed(self, name: str, installer: str, odd: Sequence[str] = ()) -> Path:
        """An ordinary environment: what the installer makes by itself; `odd` are files with another hash."""
        venv = self.venv(name, pip=installer == "pip")
        self.install(venv, installer, odd=odd)
        return venv

    def install(
        self, venv: Path, installer: str, *, one: str = "1.0", odd: Sequence[str] = (), but: Collection[str] = ()
    ) -> None:
        """Into an environment as it is."""
        file = self.folder / "requirements.txt"
        file.write_text(f"--no-index\n--find-links {self.wheels}\none=={one}\ntwo==1.0\ndjango==1.0\n")
        env = process.environment({"HOME": str(self.folder)})
        call = Installer(installer, venv, self.folder, self.cache, env, on_line=self.lines.append)
        plan = Plan("requirements.txt", (Batch((file,), complete=True),))
        found = call.install(plan, shared=True, thorough=True, but=but)
        assert [*odd] == [path.partition("site-packages/")[2] for path in found]

    def linked(self, name: str) -> Path:
        """An environment whose packages are those of the set."""
        venv = self.venv(name, pip="pip" in environment.packages(self.set / "venv"))
        package_set.put_into(venv, self.set)
        return venv

    def give_away(self) -> None:
        """From now on all of it is the unprivileged user's."""
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", self.folder], check=True)

    def run(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "UV_CACHE_DIR": str(self.cache / "uv"),
               "UV_NO_CONFIG": "1", "PIP_CONFIG_FILE": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        return subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, check=check, cwd="/", env=env, timeout=120,
            **unprivileged(),
        )  # fmt: skip

    def change(self, program: str, venv: Path, *words: str) -> list[str]:
        """The command line of pip or uv that changes an environment."""
        python = str(venv / "bin/python")
        verb, *rest = words
        links = [] if verb == "uninstall" else ["--no-index", "--no-deps", "--find-links", str(self.wheels)]
        if program == "pip":
            return [python, "-m", "pip", verb, *links, *(["-y"] if verb == "uninstall" else []), *rest]
        rest = ["--reinstall" if word == "--force-reinstall" else word for word in rest]
        return [str(self.uv), "pip", verb, "--python", python, *links, *rest]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="bb-sets-"))
    folder.chmod(0o755)
    monkeypatch.setattr(indexes, "SYSTEM_PIP_CONFIG", folder / "none")
    before = os.umask(0o022)
    yield Place(folder)
    os.umask(before)
    shutil.rmtree(folder)


def listed(venv: Path, *, general: bool = True) -> dict[str, tuple[str, str]]:
    """Each file of an environment, with its kind, mode and content; the environment's own path is left out of these.

    `general`: without the write bits, and without byte code.
    """
    found = {}
    for path in sorted(venv.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if general and "__pycache__" in path.parts:
            continue
        content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
        if path.suffix == ".pyc":
            content = b""  # it names the path for which it was made, which Python corrects
        if path.name == "RECORD":  # the hash of a script is another one for each path
            content = re.sub(rb"(?m)^(\.\./[^,]*/bin/[^,]*),[^,\r\n]*", rb"\1,HASH", content)
        content = content.replace(os.fsencode(venv), b"VENV")
        mode = path.lstat().st_mode & (~0o222 if general else ~0)
        found[str(path.relative_to(venv))] = (f"{mode:o}", hashlib.sha256(content).hexdigest())
    return found


def states(*folders: Path) -> dict[str, tuple[int, int, int, str]]:
    """Everything below: mode, inode, time and content. Links are no change, and so is no reading."""
    found = {}
    for path in (one for folder in folders for one in folder.rglob("*")):
        facts = path.lstat()
        content = "" if path.is_dir() or path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path)] = (facts.st_mode, facts.st_ino, facts.st_mtime_ns, content)
    return found


# what is linked is an ordinary environment


@BOTH
def test_a_linked_environment_is_what_the_installer_would_have_made(place: Place, installer: str) -> None:
    ordinary = place.installed("2026-01-01-00-00-01", installer)
    first = place.installed("2026-01-01-00-00-02", installer)
    package_set.make(first, place.set, CHOICE)
    linked = place.linked("2026-01-01-00-00-03")
    place.give_away()

    assert listed(ordinary) == listed(linked)
    assert listed(first, general=False) == listed(linked, general=False)  # one that made a set is like all others
    assert [] == records.check_installed(linked, hashes=True)  # the scripts too, which are written anew
    for script, said in (("one-tool", f"{linked}\n"), ("one-script", f"script {linked}\n"), ("one-shell", "shell\n")):
        assert said == place.run(linked / "bin" / script).stdout
    assert "a page\n" == (linked / "share/one/page.txt").read_text()
    code = (
        "import json, sys, space.first, space.second, importlib.metadata as m, importlib.resources as r\n"
        "print(json.dumps([sys.two_pth, space.first.VALUE + space.second.VALUE, (r.files('one') / 'data.txt')"
        ".read_text(), m.version('two'), sorted(e.name for e in m.distribution('one').entry_points)]))"
    )
    assert [True, 3, "data\n", "1.0", ["one-tool"]] == json.loads(place.run(linked / "bin/python", "-c", code).stdout)


@BOTH
@pytest.mark.parametrize("ahead", [False, True])
def test_where_one_pin_changes_the_others_are_linked_and_it_is_what_the_installer_would_have_made(
    place: Place, installer: str, ahead: bool
) -> None:
    first, second, third = (f"2026-01-01-00-00-0{number}" for number in (1, 2, 3))
    package_set.make(place.installed(first, installer), place.set, CHOICE)
    site = environment.sites(place.set / "venv")[0]
    if ahead:
        package_set.make_spare(place.set)
    (site / "nobody-recorded-this.py").touch()
    folder = ((place.set / "spare/0") if ahead else site) / "two"
    inode = folder.stat().st_ino
    other = package_set.Choice({**CHOICE.pins, "one": "one==2.0"}, CHOICE.way)
    same = package_set.same(place.set, other)
    assert {"two", "django"} == same
    assert not package_set.same(place.set, package_set.Choice(CHOICE.pins, "by pip"))
    assert not package_set.same(place.folder / "nowhere", CHOICE)

    mixed = place.venv(second, pip=installer == "pip")
    package_set.put_into(mixed, place.set, only=same)
    assert not list(mixed.glob("lib/python3*/site-packages/one*")) + list(mixed.glob("bin/one*"))
    assert ahead == (inode == (environment.sites(mixed)[0] / "two").stat().st_ino)
    place.install(mixed, installer, one="2.0", but=same)
    ordinary = place.venv(third, pip=installer == "pip")
    place.install(ordinary, installer, one="2.0")
    assert listed(ordinary) == listed(mixed)
    assert listed(ordinary, general=False).keys() == listed(mixed, general=False).keys()
    module = site / "two/module_3.py"
    assert module.stat().st_ino == (mixed / module.relative_to(place.set / "venv")).stat().st_ino


@BOTH
def test_what_installers_say_of_a_linked_environment_is_what_they_say_of_an_ordinary_one(
    place: Place, installer: str
) -> None:
    ordinary = place.installed("2026-01-01-00-00-01", installer)
    package_set.make(place.installed("2026-01-01-00-00-02", installer), place.set, CHOICE)
    linked = place.linked("2026-01-01-00-00-03")
    place.give_away()
    questions: list[Sequence[str]] = [
        ["{uv}", "pip", "list", "--python", "{venv}/bin/python", "--format", "json"],
        ["{uv}", "pip", "freeze", "--python", "{venv}/bin/python"],
        ["{uv}", "pip", "check", "--python", "{venv}/bin/python"],
        ["{uv}", "pip", "show", "--files", "--python", "{venv}/bin/python", "one", "two"],
    ]
    if installer == "pip":
        pip = ["{venv}/bin/python", "-m", "pip"]
        questions += [[*pip, "list"], [*pip, "check"], [*pip, "inspect"], [*pip, "show", "-f", "one", "two"],
                      ["{venv}/bin/pip", "freeze"]]  # fmt: skip

    for question in questions:
        answers = []
        for venv in (ordinary, linked):
            done = place.run(*(word.format(uv=place.uv, venv=venv) for word in question))
            said = (done.stdout + done.stderr).replace(str(venv), "VENV").splitlines()
            answers.append([line for line in said if "Checked" not in line and ".pyc" not in line])
        assert answers[0] == answers[1], question
        assert "check" in question or any("one" in line for line in answers[0])


def test_the_byte_code_of_a_linked_environment_is_valid_and_tracebacks_name_its_own_path(place: Place) -> None:
    package_set.make(place.installed("2026-01-01-00-00-01", "uv"), place.set, CHOICE)
    linked = place.linked("2026-01-01-00-00-02")
    place.give_away()
    site = environment.sites(linked)[0]
    assert {path.stem for path in site.glob("two/*.py")} == {
        path.name.split(".")[0] for path in site.glob("two/__pycache__/*.pyc")
    }
    code = "import two.module_7 as m, one; print(m.__cached__, one.main.__code__.co_filename)"
    done = place.run(linked / "bin/python", "-v", "-c", code)
    compiled = site / "two/__pycache__" / f"module_7.{sys.implementation.cache_tag}.pyc"
    assert f"{compiled} {site / 'one/__init__.py'}\n" == done.stdout
    assert f"# {compiled} matches {site / 'two/module_7.py'}" in done.stderr


# what one does is nothing to the others


CHANGES = {
    "an upgrade": ("install", "--upgrade", "two==2.0"),
    "the same once more": ("install", "--force-reinstall", "one==1.0", "two==1.0"),
    "a removal": ("uninstall", "one", "two"),
    "a package with a file of another": ("install", "clash"),
}


@pytest.mark.parametrize("program", ["uv", "pip"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_installers_do_in_one_environment_changes_no_other(place: Place, program: str, change: str) -> None:
    first = place.installed("2026-01-01-00-00-01", "pip")
    package_set.make(first, place.set, CHOICE)
    second, third = place.linked("2026-01-01-00-00-02"), place.linked("2026-01-01-00-00-03")
    place.give_away()
    before, own = states(first, third, place.set), states(second)
    place.run(*place.change(program, second, *CHANGES[change]))
    assert own != states(second)
    assert before == states(first, third, place.set)
    place.run(second / "bin/python", "-m", "compileall", "-q", "-f", environment.sites(second)[0])
    assert before == states(first, third, place.set)


@pytest.mark.parametrize("program", ["uv", "pip"])
def test_an_installer_killed_in_the_middle_changes_no_other_environment(place: Place, program: str) -> None:
    first = place.installed("2026-01-01-00-00-01", "pip")
    package_set.make(first, place.set, CHOICE)
    halves = 0
    for number in range(2, 8):
        victim = place.linked(f"2026-01-01-00-00-{number:02}")
        place.give_away()
        before, own = states(first, place.set), states(victim)
        command = place.change(program, victim, "install", "--upgrade", "one==2.0", "two==2.0")
        modules = environment.sites(victim)[0] / "two"
        running = subprocess.Popen(
            command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={
                "PATH": "/usr/bin:/bin", "HOME": str(place.folder), "TMPDIR": str(place.folder),
                "UV_CACHE_DIR": str(place.cache / "uv"),
            },
            **unprivileged(),
        )  # fmt: skip
        folder, time_of = modules.stat(), time.monotonic()
        while running.poll() is None and time.monotonic() < time_of + 60:
            try:
                if modules.stat().st_mtime_ns != folder.st_mtime_ns:
                    break
            except FileNotFoundError:
                break
        time.sleep(0.004 * (number - 2))
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        halves += states(victim) != own and environment.packages(victim).get("two") != "2.0"
        assert before == states(first, place.set)
    assert halves, "no installer was killed in the middle: this proves nothing"


def test_what_is_written_into_packages_stays_in_the_environment_in_which_it_is_written(place: Place) -> None:
    first = place.installed("2026-01-01-00-00-01", "uv")
    package_set.make(first, place.set, CHOICE)
    place.give_away()
    before = states(first, place.set)
    second = place.linked("2026-01-01-00-00-02")  # its scripts, and their hashes in RECORD, are written too
    place.give_away()
    site = environment.sites(second)[0]
    place.run("/bin/sh", "-c", f"echo new > {site}/one/new.txt; echo x > {site}/y && mv {site}/y {site}/one/data.txt")
    assert "new\n" == (site / "one/new.txt").read_text()
    assert "x\n" == (site / "one/data.txt").read_text()
    refused = place.run("/bin/sh", "-c", f"echo damage >> {site}/two/module_1.py", check=False)
    assert "Permission denied" in refused.stderr
    assert before == states(first, place.set)


def test_a_set_that_is_removed_takes_nothing_from_the_environments(place: Place) -> None:
    package_set.make(place.installed("2026-01-01-00-00-01", "uv"), place.set, CHOICE)
    linked = place.linked("2026-01-01-00-00-02")
    before = states(linked)
    shutil.rmtree(place.set)
    assert before == states(linked)


# a set that is not whole


def damage(place: Place, how: str) -> None:
    kept = place.set / "venv"
    site = environment.sites(kept)[0]
    match how:
        case "a file is shorter":
            (site / "one/data.txt").chmod(0o644)
            os.truncate(site / "one/data.txt", 1)
        case "a file is gone":
            (site / "two/module_3.py").unlink()
        case "byte code is gone":
            next(site.glob("two/__pycache__/*.pyc")).unlink()
        case "a package is gone":
            shutil.rmtree(next(site.glob("two-*.dist-info")))
        case "a script is gone":
            (kept / "bin/one-tool").unlink()
        case "its facts are gone":
            (place.set / "set.json").unlink()
        case "its facts are half":
            text = (place.set / "set.json").read_text()
            (place.set / "set.json").write_text(text[: len(text) // 2])


HARMS = (
    "a file is shorter", "a file is gone", "byte code is gone", "a package is gone", "a script is gone",
    "its facts are gone", "its facts are half",
)  # fmt: skip


@pytest.mark.parametrize("how", HARMS)
def test_of_a_set_that_is_not_whole_nothing_is_installed(place: Place, how: str) -> None:
    package_set.make(place.installed("2026-01-01-00-00-01", "uv"), place.set, CHOICE)
    damage(place, how)
    venv = place.venv("2026-01-01-00-00-02", pip=False)
    before = listed(venv)
    with pytest.raises(package_set.UnusableError):
        package_set.put_into(venv, place.set)
    assert before == listed(venv)
    assert package_set.is_fresh(venv)


def test_damage_that_leaves_a_file_its_size_is_found_before_another_set_takes_it_over(place: Place) -> None:
    package_set.make(place.installed("2026-01-01-00-00-01", "uv"), place.set, CHOICE)
    module = environment.sites(place.set / "venv")[0] / "two/module_3.py"
    module.chmod(0o644)
    with module.open("r+") as file:
        file.write("\0" * module.stat().st_size)
    venv = place.venv("2026-01-01-00-00-02", pip=False)
    with pytest.raises(package_set.UnusableError, match="not what their packages recorded"):
        package_set.put_into(venv, place.set, only={"two"})
    assert package_set.is_fresh(venv)
    package_set.put_into(venv, place.set, only={"one", "django"})
    assert {"one", "django"} == environment.packages(venv).keys()


@BOTH
def test_a_file_that_its_package_recorded_with_another_hash_is_told_and_stops_nothing(
    place: Place, installer: str
) -> None:
    wheel(place.wheels, "one", lie="one/data.txt")
    venv = place.installed("2026-01-01-00-00-01", installer, odd=["one/data.txt"])
    assert "1.0" == environment.packages(venv)["one"]


def test_a_file_full_of_zeros_in_the_cache_is_found_by_its_hash_and_installed_again(place: Place) -> None:
    first = place.installed("2026-01-01-00-00-01", "uv")
    module = environment.sites(first)[0] / "two/module_9.py"
    with module.open("r+") as file:  # it is the cache's file too
        file.write("\0" * module.stat().st_size)
    second = place.installed("2026-01-01-00-00-02", "uv")
    assert any("installing once more without the cache" in line for line in place.lines)
    assert "VALUE = 9\n" * 50 == (environment.sites(second)[0] / "two/module_9.py").read_text()


def test_a_killed_linking_leaves_a_fresh_environment_that_can_be_linked_again(place: Place) -> None:
    package_set.make(place.installed("2026-01-01-00-00-01", "uv"), place.set, CHOICE)
    cut = 0
    for number in range(2, 7):
        venv = place.venv(f"2026-01-01-00-00-{number:02}", pip=False)
        site = environment.sites(venv)[0]
        code = "import sys; from pathlib import Path; from bb_release.tools import package_set\n"
        code += "package_set.put_into(Path(sys.argv[1]), Path(sys.argv[2]))"
        running = subprocess.Popen([sys.executable, "-c", code, venv, place.set])
        while running.poll() is None and not site.with_name(package_set.ASIDE).exists():
            pass
        time.sleep(0.005 * (number - 2))
        running.kill()
        running.wait()
        whole = environment.packages(venv) == environment.packages(place.set / "venv")
        assert whole or package_set.is_fresh(venv)
        if not whole:
            cut += 1
            package_set.put_into(venv, place.set)
        assert [] == records.check_installed(venv, hashes=True)
        assert not site.with_name(package_set.ASIDE).exists()
    assert cut, "each had ended before it was killed"


def test_no_set_is_made_of_a_package_with_a_file_outside_of_the_environment(place: Place) -> None:
    venv = place.installed("2026-01-01-00-00-01", "uv")
    record = next(environment.sites(venv)[0].glob("one-*.dist-info/RECORD"))
    with record.open("a") as file:
        file.write("../../../../../../elsewhere.txt,,\n")
    with pytest.raises(package_set.UnusableError, match=r"outside of the environment: .*elsewhere\.txt"):
        package_set.make(venv, place.set, CHOICE)


# root


def test_check_tells_root_that_read_only_does_not_hold(tmp_path: Path) -> None:
    def told(root: Path) -> bool:
        facts = check_folders.file_systems(App("shop", "git@git.example.org:a/b.git", root))
        return any("read-only does not stop root" in fact.text for fact in facts)

    assert (filesystem.kind(Path("/usr")) not in filesystem.REFLINKS) == told(Path("/usr"))
    if os.geteuid() == 0:
        os.chown(tmp_path, NOBODY, NOBODY)
    assert not told(tmp_path)


def test_for_root_files_share_their_blocks_where_the_file_system_can(place: Place) -> None:
    """On XFS: the files of a release are its own, so that not even root writes into another one's."""
    if os.geteuid() != 0:
        missing("only root mounts a file system", "REQUIRE_REFLINKS")
    image, top = place.folder / "image", place.folder / "xfs"
    program = required("mkfs.xfs", "xfsprogs", "REQUIRE_REFLINKS")
    subprocess.run(["truncate", "-s", "400M", image], check=True)
    subprocess.run([program, "-q", "-m", "reflink=1", image], check=True)
    top.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", image, top], capture_output=True, text=True)
    if mounted.returncode != 0:
        missing(f"XFS cannot be mounted here: {mounted.stderr}", "REQUIRE_REFLINKS")
    try:
        inside = Place(top)
        first = inside.installed("2026-01-01-00-00-01", "uv")
        package_set.make(first, inside.set, CHOICE, share_blocks=True)
        second = inside.venv("2026-01-01-00-00-02", pip=False)
        package_set.put_into(second, inside.set, share_blocks=True)
        assert listed(first) == listed(second)
        before = states(first, inside.set)
        for path in environment.sites(second)[0].rglob("*.py"):
            with path.open("a") as file:
                file.write("# root's own\n")
        assert before == states(first, inside.set)
        assert "root's own" in (environment.sites(second)[0] / "one/__init__.py").read_text()
    finally:
        subprocess.run(["umount", top], check=True)
