"""A hostile host: folders and files that others could have written, links where folders should be, words with teeth.

Each is refused with a remedy before anything is built, and the canaries that lie about stay as they are.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bb_release.actions import prune
from bb_release.model.layout import Layout
from bb_release.model.manifest import MANIFEST, State
from example_site import NOBODY, Site, unprivileged
from small_shop import small_shop

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can give a file away")


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    """A site that could be deployed, in a folder of its own, with a canary beside it."""
    with small_shop(cache) as made:
        made.edit("requirements.txt", "django>=5.2,<5.3\n")
        canary(made).mkdir()
        (canary(made) / "file").write_text("untouched")
        for name in ("releases", "state", "logs"):
            (made.root / name).mkdir(mode=0o755)
        made.own()
        yield made


def canary(site: Site) -> Path:
    return site.folder / "canary"


def become_link(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.symlink_to(to)
    if os.geteuid() == 0:
        os.lchown(path, NOBODY, NOBODY)


def become_pipe(path: Path) -> None:
    os.mkfifo(path)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def of_another(path: Path) -> None:
    os.chown(path, NOBODY - 1, NOBODY - 1)


Damage = Callable[[Site], object]
HOSTS: dict[str, tuple[Damage, int, str, str]] = {
    "the app root is writable by everyone": (
        lambda s: s.root.chmod(0o777), 1, "preflight-failed", "is writable by others"),
    "the app root is writable by its group": (
        lambda s: s.root.chmod(0o775), 1, "preflight-failed", "is writable by others"),
    "the folder above is writable by everyone": (
        lambda s: s.folder.chmod(0o777), 1, "preflight-failed", "could put another folder in the place of"),
    **{f"{name} is writable by others": (
        lambda s, name=name: (s.root / name).chmod(0o775), 1, "preflight-failed", "is writable by others")
       for name in ("releases", "state", "logs")},
    **{f"{name} is a link": (
        lambda s, name=name: become_link(s.root / name, canary(s)), 1, "preflight-failed", "not a folder of our own")
       for name in ("releases", "state", "logs", "shared", "reserve", "sets", "slots", "static-pool")},
    "the lock is a link": (
        lambda s: become_link(s.root / "state/lock", canary(s) / "file"), 1, "storage-failed", "lock"),
    "the journal is a link": (
        lambda s: become_link(s.root / "state/journal.jsonl", canary(s) / "file"), 1, "storage-failed", "journal"),
    **{f"{name} is a pipe": (
        lambda s, name=name: become_pipe(s.root / name), 1, "preflight-failed", "not a file of our own")
       for name in ("state/lock", "state/journal.jsonl")},
    **{f"{name} is a second name of another file": (
        lambda s, name=name: (s.root / name).hardlink_to(canary(s) / "file"), 1, "preflight-failed", "not a file of our own")
       for name in ("state/lock", "state/journal.jsonl")},
    **{f"{name} is a folder": (lambda s, name=name: (s.root / name).mkdir(), 1, "storage-failed", "Is a directory")
       for name in ("state/lock", "state/journal.jsonl")},
    "the hold is a pipe": (
        lambda s: become_pipe(s.root / "state/hold.json"), 21, "state-unreadable", "hold.json"),
    "the hold is a link": (
        lambda s: ((s.folder / "held").write_text('{"who": "x", "since": "2026-01-01T00:00:00+00:00", "reason": "x"}'),
                   become_link(s.root / "state/hold.json", s.folder / "held")), 21, "state-unreadable", "hold.json"),
    **{f"the app root has the mode {mode:o}": (
        lambda s, mode=mode: s.root.chmod(mode), 1, "preflight-failed", "is writable by others")
       for mode in (0o1777, 0o2775, 0o757)},
    "current leads out": (
        lambda s: become_link(s.root / "current", canary(s)), 21, "state-unreadable", "which is not a release"),
    "current leads to a link that bears a release's name": (
        lambda s: (become_link(s.root / "releases/2026-01-01-00-00-00", canary(s)),
                   become_link(s.root / "current", Path("releases/2026-01-01-00-00-00"))),
        21, "state-unreadable", "manifest"),
    "the hold is garbage": (
        lambda s: (s.root / "state/hold.json").write_text('{"who": 5}'), 21, "state-unreadable", "hold.json"),
    "the hold may not be read": (
        lambda s: (s.ok("hold"), (s.root / "state/hold.json").chmod(0)), 21, "state-unreadable", "hold.json"),
    "the state may not be entered": (
        lambda s: (s.root / "state").chmod(0), 1, "storage-failed", "Permission denied"),
    "the configuration is writable by everyone": (
        lambda s: s.config.chmod(0o666), 2, "configuration-invalid", "can be written by everyone"),
    "the environment file is open to everyone": (
        lambda s: (s.root / "shared/site.env").chmod(0o644), 2, "configuration-invalid", "open to others"),
    "the build environment file is open to everyone": (
        lambda s: (s.private("build.env", "").chmod(0o644), s.write_config(build_env_file=f'"{s.folder}/build.env"')),
        2, "configuration-invalid", "open to others"),
    "the git credentials are open to everyone": (
        lambda s: (s.private("login", "").chmod(0o644), s.write_config(
            repository='"https://127.0.0.1:1/x.git"', git_credentials=f'"{s.folder}/login"')),
        2, "configuration-invalid", "chmod"),
    "the environment file is a folder": (
        lambda s: s.write_config(env_file=f'"{canary(s)}"'), 2, "configuration-invalid", "Is a directory"),
}  # fmt: skip
GIVEN_AWAY: dict[str, tuple[Damage, int, str, str]] = {
    "the app root is another user's": (lambda s: of_another(s.root), 2, "not-the-owner", "belongs to"),
    "the configuration is writable by a group of others": (
        lambda s: (os.chown(s.config, -1, 4), s.config.chmod(0o664)),
        2, "configuration-invalid", "can be written by the group adm"),
    "the configuration is another user's": (lambda s: of_another(s.config), 2, "configuration-invalid", "another user"),
    "the folder above is another user's": (
        lambda s: of_another(s.folder), 1, "preflight-failed", "can put another folder in the place of"),
    "the folder above is writable by a group of others": (
        lambda s: (os.chown(s.folder, 0, 1), s.folder.chmod(0o775)), 1, "preflight-failed",
        "the group daemon can put another folder in the place of"),
    **{f"{name} is another user's": (
        lambda s, name=name: (s.root / name).parent.mkdir(exist_ok=True) or (s.root / name).touch() or of_another(s.root / name),
        1, "storage-failed", "Permission denied") for name in ("state/lock", "state/journal.jsonl")},
    **{f"{name} is another user's": (
        lambda s, name=name: of_another(s.root / name), 1, "preflight-failed", "not a folder of our own")
       for name in ("releases", "shared", "state", "logs")},
    "the releases are another user's, and closed": (
        lambda s: ((s.root / "releases").chmod(0o700), of_another(s.root / "releases")),
        1, "preflight-failed", "not a folder of our own"),
}  # fmt: skip


def refused(shop: Site, hostile: tuple[Damage, int, str, str]) -> None:
    damage, code, name, text = hostile
    damage(shop)
    done = shop.deploy()
    assert (code, f"error: {name}") == (done.returncode, (done.stderr.splitlines() or [""])[0])
    assert text in done.stderr
    assert "remedy:" in done.stderr
    assert "of our own" not in done.stderr or "site:    " in done.stderr
    assert "Traceback" not in done.stderr
    assert ["file"] == os.listdir(canary(shop))
    assert "untouched" == (canary(shop) / "file").read_text()
    built = [path.name for path in (shop.root / "releases").iterdir() if not path.is_symlink()]
    assert [] == built or (shop.root / "releases").is_symlink()


@pytest.mark.parametrize("name", HOSTS)
def test_a_hostile_host_is_refused_with_a_remedy(shop: Site, name: str) -> None:
    refused(shop, HOSTS[name])


@ROOT_ONLY
@pytest.mark.parametrize("name", GIVEN_AWAY)
def test_what_belongs_to_somebody_else_is_refused(shop: Site, name: str) -> None:
    refused(shop, GIVEN_AWAY[name])


LOOKS = {
    "releases": [("status",), ("list",), ("log",), ("show",), ("prune", "--dry-run"), ("deploy", "--if-changed")],
    "state": [("status",), ("list",), ("log",), ("history",), ("prune", "--dry-run")],
    "logs": [("status",), ("list",), ("log",), ("prune", "--dry-run")],
}


@ROOT_ONLY
@pytest.mark.parametrize(("name", "words"), [(name, words) for name, all_ in LOOKS.items() for words in all_])
def test_who_only_looks_is_told_what_is_closed_to_him(shop: Site, name: str, words: tuple[str, ...]) -> None:
    folder = shop.root / name
    (shop.root / "current").symlink_to("releases/2026-01-01-00-00-00")
    folder.chmod(0o700)
    of_another(folder)
    done = shop.run(*words)
    assert (1, "error: storage-failed") == (done.returncode, done.stderr.splitlines()[0])
    assert f"remedy:  see whose it is, and its mode: namei -l {folder}" in done.stderr
    assert "Traceback" not in done.stderr


@ROOT_ONLY
def test_a_timer_tells_once_what_is_closed_to_it(shop: Site) -> None:
    (shop.root / "current").symlink_to("releases/2026-01-01-00-00-00")
    (shop.root / "releases").chmod(0o700)
    of_another(shop.root / "releases")
    first, second = shop.deploy("--if-changed"), shop.deploy("--if-changed")
    assert (1, 1) == (first.returncode, second.returncode)
    assert "error: storage-failed" in first.stderr
    assert "site:    what is live cannot be seen" in first.stderr
    assert "" == second.stderr


@ROOT_ONLY
def test_a_manifest_that_is_closed_is_no_reason_to_move_the_live_link(shop: Site) -> None:
    shop.ok("deploy")
    manifest = shop.root / "releases" / shop.current() / MANIFEST
    os.chown(manifest, 0, 0)
    manifest.chmod(0o600)
    for words in (("status",), ("deploy",)):
        told = shop.run(*words)
        assert 21 == told.returncode, told.stderr
        assert f"namei -l {manifest}" in told.stdout + told.stderr
        assert "ln -sfn" not in told.stdout + told.stderr
        assert "removed" not in told.stdout + told.stderr


@ROOT_ONLY
def test_package_sets_that_root_made_are_told_and_check_has_the_remedy(shop: Site) -> None:
    sets = shop.root / "sets"
    sets.mkdir()
    failed = shop.deploy("--build-only")
    assert (1, "error: storage-failed") == (failed.returncode, failed.stderr.splitlines()[0])
    assert f"namei -l {sets}/" in failed.stderr
    checked = shop.run("check").stdout
    assert f"{sets} belongs to root" in checked
    assert f"sudo chown -R nobody {sets}" in checked
    shop.own(sets)
    shop.ok("deploy", "--build-only")
    assert f"{sets} belongs" not in shop.run("check").stdout


@ROOT_ONLY
def test_a_mirror_or_a_cache_that_root_wrote_to_is_told_as_closed(shop: Site) -> None:
    shop.ok("deploy", "--build-only")
    lines = shop.repository / "requirements.txt"
    for folder, error in (
        (shop.root / "mirror.git/objects", "mirror-not-updated"),
        (shop.cache / "uv", "requirements-not-installed"),
    ):
        shop.edit("requirements.txt", f"{lines.read_text()}\n# {error}\nsix==1.17.0\n")
        subprocess.run(["chown", "-R", "root:root", folder], check=True)
        try:
            failed, planned = shop.deploy("--build-only"), shop.deploy("--plan")
        finally:
            shop.own(folder)
        assert (1, f"error: {error}") == (failed.returncode, failed.stderr.splitlines()[0]), failed.stderr
        assert f"remedy:  see whose it is, and its mode: namei -l {folder}/" in failed.stderr
        assert error != "mirror-not-updated" or f"namei -l {folder}/" in planned.stderr
    shop.ok("deploy", "--build-only")


def test_what_lies_among_the_logs_and_is_none_does_not_make_a_failure_of_a_good_run(shop: Site) -> None:
    logs = shop.root / "logs"
    (logs / "x.log").mkdir()
    (logs / "y.log").symlink_to("nowhere")
    shop.own()
    for name in ("x.log", "y.log"):
        os.utime(logs / name, (0, 0), follow_symlinks=False)
    done = shop.deploy("--build-only")
    assert 0 == done.returncode, done.stderr
    assert f"warning: the old log {logs}/x.log could not be removed" in done.stdout
    assert (logs / "x.log").is_dir()
    assert not (logs / "y.log").is_symlink()


WORDS = ["../../etc", "..", ".", "/", "-rf", "--", "*", "releases/x", "a\nb", "\x1b[2J", "2026-01-01-00-00-00/../..",
         "٢٠٢٦-01-01-00-00-00", "2026-01-01-00-00-00\n", "$(touch CANARY)", "x" * 5000]  # fmt: skip


@pytest.mark.parametrize("command", ["switch", "show", "log", "pin"])
def test_a_word_with_teeth_is_no_release(shop: Site, command: str) -> None:
    for word in WORDS:
        done = shop.run(command, "--", word.replace("CANARY", str(shop.folder / "evil")))
        assert done.returncode in (2, 11), (word, done.stderr)
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stderr
    assert not (shop.folder / "evil").exists()
    assert ["file"] == os.listdir(canary(shop))


def test_a_link_that_bears_a_releases_name_is_nobodys_release(shop: Site) -> None:
    become_link(shop.root / "releases/2026-01-01-00-00-00", canary(shop))
    assert [] == json.loads(shop.ok("list", "--json"))
    shop.ok("prune")
    assert 11 == shop.run("switch", "2026-01-01-00-00-00").returncode
    assert ["file"] == os.listdir(canary(shop))


ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202emoc.live\x9b5i"


def test_nothing_that_a_repository_or_a_person_wrote_reaches_a_terminal_as_an_order(shop: Site) -> None:
    shop.ok("deploy", "--build-only", "-m", f"because {ESCAPES}")
    shop.write_config(branch='"other"')
    shop.git("checkout", "-q", "-b", "other")
    shop.edit("shop/urls.py", "urlpatterns = []\n# more\n", f"a subject {ESCAPES}")
    shop.edit("shop/settings.py", f"import sys\nprint({ESCAPES!r})\nsys.exit({ESCAPES!r})\n")
    shown = []
    for words in (("history",), ("deploy",), ("log",), ("list",), ("deploy", "--plan"), ("show", "2"), ("status",)):
        done = shop.run(*words)
        shown.append(done.stdout + done.stderr)
        assert "Traceback" not in done.stderr
    assert "because \\x1b]0;owned" in shown[0]
    assert any("\\x9b5i" in text for text in shown[1:3])
    assert [] == [text for text in shown for letter in "\x1b\x07\x9b\u202e" if letter in text]


def test_a_planted_environment_reaches_no_program_of_a_deploy(shop: Site) -> None:
    evil, ran = shop.folder / "evil", shop.folder / "evil/ran"
    evil.mkdir()
    programs = [evil / name for name in ("git", "uv", "ssh", "sh", "python", "python3", "pip")]
    for path in programs:
        path.write_text(f'#!/bin/sh\necho "{path.name}" >> {ran}\nexit 1\n')
        path.chmod(0o755)
    (evil / "start.sh").write_text(f"echo a shell >> {ran}\n")
    (evil / "sitecustomize.py").write_text(
        f"import sys\nopen({str(ran)!r}, 'a').write(' '.join(sys.orig_argv) + chr(10))\n"
    )
    shop.settings["[run]"] = "".join(
        f'\n[[run]]\nat = "{at}"\ncommand = ["bash", "-c", "env"]\n' for at in ("before-requirements", "after-verify")
    )
    shop.write_config()
    shop.own()
    planted = {
        "PATH": f"{evil}:/usr/bin:/bin", "PYTHONPATH": str(evil), "BASH_ENV": str(evil / "start.sh"),
        "ENV": str(evil / "start.sh"), "VIRTUAL_ENV": str(evil), "DJANGO_SETTINGS_MODULE": "evil.settings",
        "GIT_DIR": str(evil), "GIT_SSH_COMMAND": str(programs[0]), "GIT_EXEC_PATH": str(evil),
        "UV_DEFAULT_INDEX": f"http://127.0.0.1:1/{evil}", "UV_INDEX_URL": f"http://127.0.0.1:1/{evil}",
        "LD_PRELOAD": str(evil / "none.so"), "LD_LIBRARY_PATH": str(evil),
        "PIP_INDEX_URL": f"http://127.0.0.1:1/{evil}", "UV_PYTHON": str(evil / "python"), "SECRET_KEY": str(evil),
    }  # fmt: skip
    done = shop.run("deploy", **planted)
    assert 0 == done.returncode, done.stderr
    log = shop.ok("log")
    assert 2 == log.count(" VIRTUAL_ENV=")  # each command has told its environment
    assert str(evil) not in log
    assert [] == [
        line for line in ran.read_text().splitlines() if "bb-release" not in line and "bb_release" not in line
    ]


@ROOT_ONLY
def test_folders_above_that_nobody_else_can_write_are_no_hindrance(shop: Site) -> None:
    """Root's, sticky ones, and those of a group that has nobody in it, as Debian's /var/local."""
    listed = {gid for group in grp.getgrall() if group.gr_mem for gid in [group.gr_gid]}
    empty = {group.gr_gid for group in grp.getgrall()} - listed - {user.pw_gid for user in pwd.getpwall()}
    for owner, group, mode in ((0, 0, 0o755), (0, 0, 0o1777), (0, 1, 0o1775), (NOBODY, min(empty), 0o2775)):
        os.chown(shop.folder, owner, group)
        shop.folder.chmod(mode)
        shop.ok("hold")


NETWORKED = """
import sys
from pathlib import Path
from bb_release.actions import preflight
from bb_release.actions.run import changing
from bb_release.errors import PreflightFailed
from bb_release.model.app import App
from bb_release.tools import filesystem

root, mounts = map(Path, sys.argv[1:])
filesystem.MOUNTS = mounts
app = App("shop", "git@git.example.org:a/b.git", root)
try:
    with changing(app, "deploy", quiet=True) as run:
        preflight.preflight(app, run, keep=None)
except PreflightFailed as error:
    print(error.message)
"""


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "ext4"])
def test_a_root_on_a_disk_of_the_network_is_refused_before_anything_is_built(tmp_path: Path, kind: str) -> None:
    (tmp_path / "mounts").write_text(f"21 1 0:1 / / rw - ext4 /dev/x rw\n22 1 0:2 / {tmp_path} rw - {kind} x rw\n")
    said = subprocess.check_output([sys.executable, "-c", NETWORKED, tmp_path / "root", tmp_path / "mounts"], text=True)
    assert said == (
        "" if kind == "ext4" else f"{tmp_path}/root lies on {kind}: locks and renames are not those of a local disk\n"
    )


def test_a_link_that_is_moved_while_releases_are_removed_saves_the_one_that_it_leads_to(tmp_path: Path) -> None:
    layout, names = Layout(tmp_path), [f"2026-01-0{day}-00-00-00" for day in (1, 2, 3)]
    for name in names:
        (layout.releases / name).mkdir(parents=True)
    layout.current.symlink_to(f"releases/{names[2]}")

    def doomed() -> Iterator[str]:
        yield names[0]
        layout.current.unlink()
        layout.current.symlink_to(f"releases/{names[1]}")
        yield names[1]

    prune.remove(layout, doomed(), lambda text: None)
    assert names[1:] == sorted(os.listdir(layout.releases))


def test_a_reason_that_is_no_text_is_told_again_without_a_fault(shop: Site) -> None:
    words = [os.fsencode(word) for word in shop.command("hold", "-m")] + [b"caf\xe9"]
    done = subprocess.run(words, capture_output=True, cwd="/", env=shop.environment(), **unprivileged())
    assert 0 == done.returncode, done.stderr
    assert "caf\\udce9" in shop.ok("history")
    assert "caf\\udce9" in shop.run("status").stdout
    assert 12 == shop.deploy().returncode


def test_a_release_that_becomes_a_link_while_it_is_pruned_takes_nothing_else_with_it(tmp_path: Path) -> None:
    layout, name, over = Layout(tmp_path), "2026-01-01-00-00-00", threading.Event()
    sentinel = tmp_path / "sentinel"
    (sentinel / "inner").mkdir(parents=True)
    (sentinel / "inner" / "file").write_text("untouched")
    layout.releases.mkdir()
    folder, doomed = layout.releases / name, layout.releases / f"{prune.REMOVING}{name}"

    def race() -> None:
        while not over.is_set():
            for place in (folder, doomed, folder / "app", doomed / "app"):
                aside = tmp_path / "aside"
                try:
                    place.rename(aside)
                    place.symlink_to(sentinel)
                except OSError:
                    continue
                finally:
                    aside.unlink() if aside.is_symlink() else shutil.rmtree(aside, ignore_errors=True)

    removed = 0
    racer = threading.Thread(target=race)
    racer.start()
    try:
        for _ in range(10_000):
            for left in (folder, doomed):
                if left.is_symlink():
                    left.unlink(missing_ok=True)  # the racer may have moved it on
            shutil.rmtree(doomed, ignore_errors=True)
            try:
                for number in range(20):
                    (folder / "app" / f"d{number}").mkdir(parents=True)
                prune.remove(layout, [name], lambda text: None)
                prune.remove_leftovers(layout, lambda text: None)
                removed += 1
            except OSError:
                continue  # the racer was there first: refused is as good as done
    finally:
        over.set()
        racer.join()
    assert "untouched" == (sentinel / "inner" / "file").read_text()
    assert removed


def test_a_manifest_that_was_tampered_with_is_never_a_target(shop: Site) -> None:
    shop.ok("deploy", "--build-only")
    (name,) = shop.states()
    path = shop.root / "releases" / name / MANIFEST
    facts = json.loads(path.read_text())
    for key, value in (
        ("activations", [{"sequence": "1"}]),
        ("steps", 5),
        ("facts", {"pending": "x"}),
        ("state", "live"),
    ):
        path.write_text(json.dumps({**facts, "state": str(State.READY), key: value}))
        done = shop.run("switch", name)
        assert (11, "error: release-not-usable") == (done.returncode, done.stderr.splitlines()[0])
        assert {name: "unreadable"} == shop.states()
    assert not (shop.root / "current").exists()
