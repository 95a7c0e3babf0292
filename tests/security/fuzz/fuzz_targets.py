"""One target for each parser of outside input: bytes go in, and only an error that says what to do may come out.

A target gets an empty folder of its own. `SEEDS` are inputs that reach far into each parser; they are what fuzzing
begins with, and what the ordinary tests call.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import socket
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import fuzz_answers

from bb_release import checked, config, console, envfile
from bb_release.actions import audit, prune, static_pool, status, survey, timer
from bb_release.errors import ReleaseError
from bb_release.model import activation, hold, journal, lock, manifest, retention
from bb_release.model import release as releases
from bb_release.model.app import App, Unit
from bb_release.model.layout import Layout
from bb_release.tools import (
    archive,
    git_access,
    health,
    lfs,
    nginx,
    package_set,
    pins,
    records,
    signature,
    submodules,
    systemctl,
)  # fmt: skip
from bb_release.tools.requirements import pipfile, poetry, pylock, pyproject, target, uv_lock
from bb_release.tools.units import properties

Target = Callable[[bytes, Path], None]
NAME = "2026-01-01-00-00-00"
BETWEEN = b"\n=====\n"  # between the files of a target that reads several


def text_of(data: bytes) -> str:
    """As an argument of a command line is read."""
    return data.decode("utf-8", "surrogateescape")


def two(data: bytes) -> tuple[bytes, bytes]:
    first, _, second = data.partition(BETWEEN)
    return first, second


def read_config(data: bytes, folder: Path) -> None:
    path = folder / "shop.toml"
    path.write_bytes(data)
    app = config.load(path)
    assert app.layout.current.is_relative_to("/")
    assert app.shape


def configuration_note(data: bytes, folder: Path) -> None:
    """What was noted of a configuration counts under its key and with its sum, or not at all."""
    file = folder / "configuration.json"
    file.write_bytes(data)
    file.chmod(0o600)
    assert checked.recall(file, "key") is None
    try:
        says = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(says, dict):
        checked.note(file, "key", says)
        assert json.dumps(says, sort_keys=True) == json.dumps(checked.recall(file, "key"), sort_keys=True)
        assert checked.recall(file, "another key") is None


def read_envfile(data: bytes, folder: Path) -> None:
    path = folder / "shop.env"
    path.write_bytes(data)
    path.chmod(0o600)
    for name, value in envfile.read(path).items():
        assert name.isidentifier()
        assert "\0" not in value


def check_ref(data: bytes, folder: Path) -> None:
    ref = text_of(data)
    git_access.check_ref(ref)
    assert ref.isascii()
    assert ref.isprintable()
    assert not ref.startswith("-")
    assert ".." not in ref


def check_url(data: bytes, folder: Path) -> None:
    base, relative = (text_of(each) for each in two(data))
    for allowed in (False, True):
        git_access.check_url(base, allow_file=allowed)
        assert not base.startswith("-")
        assert "::" not in base
        git_access.ssh_host(base)
        git_access.check_url(submodules.absolute_url(base, relative or "../other"), allow_file=allowed)


def release_names(data: bytes, folder: Path) -> None:
    layout, name = Layout(folder), text_of(data)
    (layout.releases / NAME).mkdir(parents=True)
    (layout.releases / NAME / manifest.MANIFEST).write_text(json.dumps(MANIFEST))
    if name not in ("", ".", "..", NAME) and "/" not in name and "\0" not in name and len(data) < 256:
        (layout.releases / name).mkdir()  # a stranger among the releases
    assert all(known.replace("-", "").isdigit() for known in releases.names(layout))
    releases.next_name(layout, prune.datetime.now(prune.UTC))
    assert releases.find(layout, name, None).folder.parent == layout.releases


def unpack(data: bytes, folder: Path) -> None:
    file, tree = folder / "archive", folder / "release" / "app"
    file.write_bytes(data)
    tree.mkdir(parents=True)
    try:
        archive.unpack(file, tree, revision=archive.digest(file), wanted="manage.py")
        for path in tree.rglob("*"):
            assert path.resolve().is_relative_to(tree.resolve()), path
    finally:
        assert {"archive", "release"} == set(os.listdir(folder))
        assert ["app"] == os.listdir(folder / "release")


def manifests(data: bytes, folder: Path) -> None:
    app = App(name="shop", repository="git@git.example.org:a/b.git", root=folder)
    layout, (first, second) = app.layout, two(data)
    for name, content in ((NAME, first), ("2026-01-02-00-00-00", second)):
        (layout.releases / name).mkdir(parents=True)
        (layout.releases / name / manifest.MANIFEST).write_bytes(content)
    everything, broken = releases.readable(layout)
    assert 2 == len(everything) + len(broken)
    for each in everything:
        each.describe()
        each.is_verified_for("", "")
        releases.before_current(everything, each)
        releases.last_good_before(everything, each)
    releases.next_sequence(everything)
    prune.left_live_lately(everything)
    retention.judge(everything, keep=1, current="", previous="", unreadable=list(broken))
    console.print_releases(status.listed(app)[0])
    layout.current.symlink_to(f"releases/{NAME}")
    live = activation.current(layout)
    assert live
    live.mark()
    assert releases.read(live.folder) == live


def state_files(data: bytes, folder: Path) -> None:
    layout = Layout(folder)
    layout.state.mkdir()
    for path in (layout.hold, layout.pins, layout.tries, layout.lock):
        path.write_bytes(data)
    app = App(name="shop", repository="git@git.example.org:a/b.git", root=folder)
    assert isinstance(lock.holder(layout), dict)
    lock.is_held(layout)
    for read in (
        lambda: hold.read(layout), lambda: hold.pins(layout), lambda: timer.waits(app, "0" * 40),
        lambda: timer.note_failure(app, "0" * 40, "some-code"),
    ):  # fmt: skip
        with contextlib.suppress(ReleaseError):
            read()
    held = hold.read(layout)
    if held:
        assert {"who", "since", "reason"} <= set(held)


def health_answers(data: bytes, folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)

        def answer() -> None:
            with contextlib.suppress(OSError):
                line, _ = server.accept()
                with line:
                    line.settimeout(1)
                    line.recv(65536)
                    line.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            health.wait_healthy(
                f"http+unix://{path}:/health/", expect=200, headers={}, body="ok", release_where="header:X-Release",
                release=NAME, timeout_seconds=0.5, interval_seconds=9,
            )  # fmt: skip
        finally:
            thread.join()


def unit_properties(data: bytes, folder: Path) -> None:
    facts = properties.read(data.decode("utf-8", "replace"))
    for value in facts.values():
        assert properties.number(value) >= 0
        span = properties.seconds(value)
        assert span is None or span >= 0


def journal_lines(data: bytes, folder: Path) -> None:
    path = folder / "journal.jsonl"
    path.write_bytes(data)
    lines = journal.read(path, 0)
    console.print_history(lines, len(lines))
    for line in data.decode("utf-8", "replace").split("\n"):
        console.print_log_line(line)


@cache
def here() -> dict[str, str]:
    return target.ask(Path("/usr/bin/python3") if Path("/usr/bin/python3").exists() else Path(os.sys.executable))


def reader(folder: Path, *, extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> target.Target:
    return target.Target(here(), folder, extras=extras, groups=groups)


def lock_files(data: bytes, folder: Path) -> None:
    """The kind of file is the first line: its name. A second file is the pyproject.toml beside it."""
    first, own = two(data)
    kind, _, content = first.partition(b"\n")
    if own:
        (folder / "pyproject.toml").write_bytes(own)
    wanted = reader(folder)
    if kind == b"poetry.lock" and own:  # without the right hash, nothing of the lock would be looked at
        made = poetry._content_hash(wanted.pyproject(folder), wanted.pyproject(folder).get("dependency-groups", {}))
        content = content.replace(b"CONTENT-HASH", made.encode())
    name = kind.decode("ascii", "replace") if kind in (b"poetry.lock", b"Pipfile.lock", b"pylock.toml") else "x.lock"
    path = folder / name
    path.write_bytes(content)
    known = {"poetry.lock": poetry.read, "Pipfile.lock": pipfile.read, "pylock.toml": pylock.read}
    if kind == b"uv.lock":
        uv_lock.checked(path, folder, wanted)
        return
    locked = known.get(name, pylock.read)(path, wanted)
    for pin in locked.pins:
        assert "\n" not in pin.text
        assert not pin.text.startswith("-")


def projects(data: bytes, folder: Path) -> None:
    path = folder / "pyproject.toml"
    path.write_bytes(data)
    found = reader(folder).pyproject(folder)
    if pyproject.has_dependencies(found):
        (batch,) = pyproject.read(path, reader(folder, extras=("a",), groups=("dev",)), folder / "made")
        lines = batch.files[0].read_text().splitlines()
        assert [] == [line for line in lines if line.startswith("-")]


def pins_of_text(data: bytes, folder: Path) -> None:
    text = data.decode("utf-8", "replace")
    for name in pins.NAMES:
        pins.pins(name, text)
    pins.included(text)


def sources(data: bytes, folder: Path) -> None:
    settings, urls = two(data)
    for name, content in (
        ("manage.py", b"DJANGO_SETTINGS_MODULE"), ("shop/wsgi.py", settings), ("shop/settings.py", settings),
        ("shop/urls.py", urls), ("pyproject.toml", urls), (".python-version", urls), ("requirements.txt", b""),
    ):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    survey.survey(folder)


def lfs_pointers(data: bytes, folder: Path) -> None:
    (folder / "file").write_bytes(data)
    lfs.pointer_at(folder / "file")


def signers(data: bytes, folder: Path) -> None:
    (folder / "signers").write_bytes(data)
    signature.read_signers([folder / "signers"], outside=folder / "root")


def unit_files(data: bytes, folder: Path) -> None:
    """What systemd has read of a unit: everybody who may write one writes this."""
    texts = text_of(data).split("\n")
    facts = dict(zip(("ExecStart", *audit.PROPERTIES), texts, strict=False)) | {"LoadState": "loaded"}
    app = App("a", "git@git.example.org:a/b.git", Path("/srv/a"), shared_folders=("media",))
    units = (Unit("a.service"), Unit("a@blue.service", handover="blue-green"))
    findings = [fact for unit in units for fact in audit.audit(app, unit, facts, {"a.socket": facts})]
    assert all(fact.text and (fact.do or fact.level == "ok") for fact in findings)
    systemctl.assignments(text_of(data))


def nginx_files(data: bytes, folder: Path) -> None:
    (folder / "nginx.conf").write_bytes(data)
    for way in nginx.served(nginx.read(folder / "nginx.conf")):
        assert way.folder is not None


def static_list(data: bytes, folder: Path) -> None:
    """Django's list of collected files: whatever it says, only files of the release get into the pool."""
    layout, static = Layout(folder), folder / "releases" / NAME / "static"
    for path in (static / "a.0123456789ab.css", folder / "b.0123456789ab.css"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (static / static_pool.LIST).write_bytes(data)
    with contextlib.suppress(OSError):
        static_pool.add(layout, static)
    pooled = [path for path in (layout.static_pool / static_pool.BELOW).rglob("*") if path.is_file()]
    assert all(path.samefile(static / path.name) for path in pooled)
    assert ["b.0123456789ab.css", "releases"] == sorted(set(os.listdir(folder)) - {layout.static_pool.name})


def package_records(data: bytes, folder: Path) -> None:
    """RECORD of an installed package; it is told what is wrong, and nothing outside of the environment is touched."""
    (folder / "canary").write_text("untouched")
    venv, fresh = folder / "venv", folder / "fresh"
    info = venv / "lib/python3.11/site-packages/x-1.dist-info"
    for path, content in ((venv / "bin/x", b"#!/x\n"), (info.parent / "x.py", b"x = 1\n"), (info / "RECORD", data),
                          (info / "METADATA", b"Name: x\nVersion: 1\n")):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (fresh / "lib/python3.11/site-packages").mkdir(parents=True)
    records.check_installed(venv, hashes=True)
    with contextlib.suppress(package_set.UnusableError, OSError):
        package_set.make(venv, folder / "set", package_set.Choice({"x": "x==1"}, "way"))
        package_set.put_into(fresh, folder / "set")
        package_set.put_into(fresh, folder / "set", only={"x"})
    assert "untouched" == (folder / "canary").read_text()
    assert {"canary", "venv", "fresh"} == set(os.listdir(folder)) - {"set"}


TARGETS: dict[str, Target] = {
    "config": read_config, "envfile": read_envfile, "ref": check_ref, "url": check_url, "release-name": release_names,
    "archive": unpack, "manifest": manifests, "state": state_files, "health": health_answers,
    "properties": unit_properties, "journal": journal_lines, "lock-file": lock_files, "pyproject": projects,
    "pins": pins_of_text, "source": sources, "lfs": lfs_pointers, "signers": signers,
    "unit": unit_files, "nginx": nginx_files, "configuration-note": configuration_note,
    "static-list": static_list, "record": package_records, **fuzz_answers.TARGETS,
}  # fmt: skip


def call(name: str, data: bytes) -> ReleaseError | None:
    """Give one input to a target. Whatever is no ReleaseError comes out as it is: that is a bug of ours."""
    folder = Path(tempfile.mkdtemp(prefix="bb-fuzz-"))
    try:
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")):
            TARGETS[name](data, folder)
    except ReleaseError as error:
        refused = error
    else:
        refused = None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert refused is None or (refused.remedy and refused.code)
    return refused


def a_tar(kind: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=kind) as tar:
        for name, type_, link in (("a/manage.py", tarfile.REGTYPE, ""), ("a/l", tarfile.SYMTYPE, "manage.py"),
                                  ("a/d", tarfile.DIRTYPE, "")):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = type_, link, 1 if type_ == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("manage.py", "x")
        made.writestr("d/", "")
    return buffer.getvalue()


EXAMPLE = Path(config.__file__).with_name("example.toml").read_bytes()
MANIFEST = {
    "format": 1, "name": NAME, "state": "verified", "revision": "1" * 40, "ref": "main", "sequence": 1,
    "activations": [{"sequence": 1, "at": "2026-01-01T00:00:00+00:00", "previous": ""}], "steps": {"checkout": 0.1},
    "facts": {"pending": [], "warnings": []}, "migrations": ["a.0001"], "size": [1, 1], "failure": {"message": "x"},
    "units": [{"name": "shop", "kind": "systemd"}], "proof": {"shop": "x"}, "proven": {"shop": "x 1"}, "packages": {"django": "5.2"},
}  # fmt: skip
HELD = {"who": "dev", "since": "2026-01-01T00:00:00+00:00", "reason": "x", "by_hand": True}
TRIES = {"revision": "0" * 40, "code": "x", "count": 3, "next_at": 0.5}
POETRY = b"""poetry.lock
[[package]]
name = "django"
version = "5.2"
optional = false
python-versions = ">=3.8"
groups = ["main"]
files = [{file = "d.whl", hash = "sha256:%s"}]
[metadata]
lock-version = "2.1"
python-versions = ">=3.8"
content-hash = "CONTENT-HASH"
""" % (b"a" * 64)
PROJECT = b'[project]\nname = "shop"\nversion = "1"\ndependencies = ["django>=5"]\nrequires-python = ">=3.8"\n'
PYLOCK = b"""pylock.toml
lock-version = "1.0"
created-by = "x"
[[packages]]
name = "django"
version = "5.2"
index = "https://pypi.org/simple"
wheels = [{name = "django-5.2-py3-none-any.whl", url = "https://files.pythonhosted.org/django-5.2-py3-none-any.whl", hashes = {sha256 = "%s"}}]
""" % (b"a" * 64)
PIPFILE = b"Pipfile.lock\n" + json.dumps({
    "_meta": {"requires": {"python_version": "3"}, "sources": [{"name": "pypi", "url": "https://pypi.org/simple"}]},
    "default": {"django": {"version": "==5.2", "hashes": ["sha256:" + "a" * 64], "markers": "python_version >= '3.8'"},
                "x": {"git": "https://git.example.org/x.git", "ref": "1" * 40}},
}).encode()  # fmt: skip
SEEDS: dict[str, list[bytes]] = {
    **fuzz_answers.SEEDS,
    "unit": [b"{ path=/srv/a ; argv[]=/srv/a/current/venv/bin/python -m celery -A a worker -B --time-limit=9 ; flags= ; }",
             b'argv[]=x/gunicorn --chdir /srv/a ; ignore_errors=no\nloaded\n"A=a \\"b\\001" B=c', b"\n" * 17],
    "nginx": [b"http { open_file_cache max=9; server { root '/srv/a/current'; location / { alias \"x\"; } } } # c", b"a;};{"],
    "config": [EXAMPLE, b'repository = "git@git.example.org:a/b.git"\nroot = "/srv/a"\nunits = ["a.service"]\n', b"a = 1e9"],
    "configuration-note": [b'{"key": "key", "says": {}, "sum": "x"}', b'{"a": {"b": [1, 1e999, NaN, "\\ud800"]}}', b"[" * 60_000, b"\xff", b"", b"5"],
    "envfile": [b"A=1\nB='x y'\nC=\"a\\\"b\"\\\n  c\n# note\n;\n", b"export A=1\n", b"A='open"],
    "ref": [b"main", b"v1.0", b"feature/x-1", b"a..b", b"-x", "ä".encode(), b"\xff"],
    "url": [b"git@git.example.org:a/b.git\n=====\n../c.git", b"https://h:80/a\n=====\n../../x", b"ssh://u@h/x", b"ext::sh -c x"],
    "release-name": [NAME.encode(), b"2026-13-01-00-00-00", b"previous", b"1111111", b"../../etc", b"9999-12-31-23-59-59"],
    "archive": [a_tar(), a_tar("w:gz"), a_tar("w:xz"), a_zip(), gzip.compress(a_tar())[:-9]],
    "manifest": [
        json.dumps(MANIFEST).encode() + BETWEEN + json.dumps({**MANIFEST, "name": "2026-01-02-00-00-00", "state": "bad"}).encode(),
        *(json.dumps({**MANIFEST, key: value}).encode() for key in MANIFEST for value in (None, 1, -1, "x", [1], [{}], {"x": 1}, [["x"]], {"at": []})),
        *(json.dumps({**MANIFEST, "activations": [{**MANIFEST["activations"][0], key: value}]}).encode()  # type: ignore[index]
          for key in ("at", "sequence", "previous") for value in (None, 1, "x", "2026-01-01", [], {})),
        b"[" * 100_000, b'{"format": ' + b"1" * 5000 + b"}",
    ],
    "state": [json.dumps(each).encode() for each in (HELD, TRIES, [NAME], {"x": 1}, [], [1], {}, 1, "x", None, True)]
             + [json.dumps({**TRIES, key: value}).encode() for key in TRIES for value in (None, "x", [], 10**400, -1, 1e308)]
             + [b"[" * 100_000, b"\xff", b"1" * 5000, b"NaN", b'{"next_at": NaN, "count": 5000, "revision": "' + b"0" * 40 + b'"}'],
    "health": [b"HTTP/1.1 200 OK\r\nX-Release: " + NAME.encode() + b"\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.1 302 x\r\nLocation: a\r\n\r\n",
               b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nx", b"", b"garbage\r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n",
               b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200, b"HTTP/1.1 200 " + b"x" * 70_000],
    "properties": [b"LoadState=loaded\nMainPID=12\nTimeoutStopUSec=1min 30s\nNRestarts=[not set]\nExecStart={ path=/x ; argv[]=/x }\n",
                   b"MainPID=" + b"9" * 5000, "MainPID=\u0663".encode(), b"TimeoutStopUSec=" + b"9" * 400 + b"s"],
    "journal": [b'{"at": "2026-01-01T00:00:00+00:00", "event": "deploy_finished", "who": "x"}\n', b'{"event": "output", "line": 1}\n{"torn',
                b'{"at": "x", "event": [1]}\n', b'{"at": 1}\n', b'{"event": "said", "timestamp": 5, "text": ["x"]}\n', b"[" * 100_000 + b"\n", b"\xff\n", b"1" * 5000,
                b'{"at": "0001-01-01T00:00:00+14:00", "event": "x"}\n', b'{"at": "2026-01-01\\ud800", "event": "x\\ud800"}\n'],
    "lock-file": [POETRY + BETWEEN + PROJECT, POETRY.replace(b"2.1", b"2.0") + BETWEEN + b'[tool.poetry.dependencies]\ndjango = "*"\n', PYLOCK, PIPFILE,
                  b"uv.lock\nversion = 1\n" + BETWEEN + PROJECT,
                  *(kind + b"\n" + content + BETWEEN + own for kind in (b"uv.lock", b"poetry.lock", b"pylock.toml", b"Pipfile.lock")
                    for content in (b"", b"package = 1", b"a = " + b"1" * 5000, b"[1]", b'{"_meta": 1}', b'{"_meta": {"requires": {"python_version": 3}}}',
                                    b'{"_meta": {"requires": 1}, "default": 5}', b"extras = 1\ndependency-groups = 1", b"requires-python = []")
                    for own in (PROJECT, b"tool = 1", b"[tool]\nuv = 1\npoetry = 1", b"project = 1", b"dependency-groups = 1", b"[project]\noptional-dependencies = 1"))],
    "pyproject": [PROJECT, PROJECT + b'[project.optional-dependencies]\na = ["b"]\n[dependency-groups]\ndev = ["c", {include-group = "x"}]\n',
                  b"project = 1", b"[project]\ndependencies = 1", b"[project]\ndependencies = [1]", b"[project]\ndynamic = 1", b"tool = 1", b"[tool]\nuv = 1",
                  b"a = " + b"1" * 5000, PROJECT + b"[project.optional-dependencies]\na = 1", PROJECT + b"dependency-groups = 1", PROJECT.replace(b'"shop"', b"1"),
                  b'[project]\ndependencies = ["-r x"]', b'[project]\nname = "shop"\ndependencies = ["shop[a]"]\n[project.optional-dependencies]\na = ["shop[b]"]',
                  b'[project]\ndependencies = []\n[dependency-groups]\ndev = [1, {x = 2}]\n[project.optional-dependencies]\na = []', b"[build-system]\n[project]\nname = []\ndependencies = []",
                  b'build-system = 1\n[project]\nname = "shop"\ndependencies = []\noptional-dependencies = {a = []}\n[dependency-groups]\ndev = []\n'],
    "pins": [b"django==5.2 \\\n  --hash=sha256:a\n-r other.txt\n", POETRY.partition(b"\n")[2], PROJECT, PIPFILE.partition(b"\n")[2], b"packages = [1]", b"a = " + b"1" * 5000],
    "source": [b'import os\nfrom .base import *\nBASE = Path(__file__).parents[1]\nSTATIC_ROOT = BASE / "static"\nSECRET_KEY = os.environ["SECRET_KEY"]\n'
               b'ROOT_URLCONF = "shop.urls"\nDATABASES = {"default": {"ENGINE": "sqlite3", "NAME": BASE / "db"}}\nMEDIA_ROOT = "m"\n'
               b'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n' + BETWEEN + b'urlpatterns = [path("health/", x), path("x", include("shop.urls"))]',
               b'os.environ.setdefault("DJANGO_SETTINGS_MODULE", ".etc.passwd")', b'os.environ["DJANGO_SETTINGS_MODULE"] = "a\\0b"', b'os.environ["DJANGO_SETTINGS_MODULE"] = "' + b"a." * 3000 + b'"',
               b"(" * 500, b"x = " + b"-" * 5000 + b"1", b"x = " + b"1" * 5000, b"\0", b"a = " + b"b." * 3000 + b"parent",
               b'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\nDATABASES = {**x, "a": {**y}}\nINSTALLED_APPS = 1\nSTATIC_ROOT = "\\0"\nMEDIA_ROOT = "/"\nROOT_URLCONF = "\\ud800"\n'],
    "static-list": [b'{"paths": {"a.css": "a.0123456789ab.css"}, "version": "1.1", "hash": ""}', b"[" * 200_000, b'{"paths": []}', b'{"paths": 1}',
                    b'{"paths": {"a.css": "../../../b.0123456789ab.css", "b": "/etc/b.0123456789ab.css", "c": "\\ud800.0123456789ab.css"}}',
                    b'{"paths": {"a": "a\\u0000.0123456789ab.css", "b": ["a.0123456789ab.css"], "c": "' + b"c" * 300 + b'.0123456789ab.css"}}', b"\xff", b"1" * 5000],
    "record": [b"x.py,sha256=h,6\nx-1.dist-info/RECORD,,\n../../../bin/x,,5\n", b"x.py,,6\n\n\r\n,,\n", b"\0,,1\nx.py,sha256=,6\n", b"/dev/zero,sha256=x,0\n",
               b"../../../../canary,,9\n", b"/etc/passwd,,1\n", b"\xff,,1\n", b'"' + b"x" * 200_000, b"../../../bin/x,sha256=x,5\nx-1.dist-info/METADATA,,22\nx.py,,6\n", b""],
    "lfs": [b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n",
            b"version https://git-lfs.github.com/spec/v1\next-0-x sha256:a\noid sha256:" + b"a" * 64 + b"\nsize 12\n",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize " + b"9" * 900],
    "signers": [b'dev@example.org namespaces="git" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\n', b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", b"\xff\0\n"],
}  # fmt: skip
