"""Hostile refs, urls, links and plants for git: refused before git sees them, or seen and of no effect."""

from __future__ import annotations

import os
import pwd
import threading
from pathlib import Path

import pytest

from bb_release import errors
from bb_release.tools import mirror as subject
from bb_release.tools.git_access import Access, check_secret, check_url, secrets_of
from git_place import FILES, Place

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


HOSTILE_REFS = [
    "", "-x", "--upload-pack=touch CANARY", "--output=CANARY", "--exec=CANARY", "a..b", "..", "@{u}", "a@{1}",
    "@", ":/x", "x^{/a}", "HEAD^", "HEAD~1", "a\nb", "main\n", "a\0b", "../x", "a/../b", "/a", "a/", "a//b",
    ".a", "a/.b", "a.lock", "a.lock/b", "a.", "ä", "a b", "a\tb", "$(touch CANARY)", "`touch CANARY`", ";touch CANARY",
    "|touch CANARY", "a:b", "+a:b", "a?b", "a*", "a[b", "a\\b", "a" * 201, "a" * 10_000, "~", "main^{commit}",
]  # fmt: skip


@pytest.mark.parametrize("ref", HOSTILE_REFS, ids=range(len(HOSTILE_REFS)))
def test_a_hostile_ref_is_refused_before_git_sees_it(tmp_path: Path, ref: str) -> None:
    hostile = ref.replace("CANARY", str(tmp_path / "canary")) if len(ref) < 100 else ref
    for text in {ref, hostile}:
        with pytest.raises(errors.RefInvalid):
            subject.resolve(tmp_path, text)
        with pytest.raises(errors.RefInvalid):
            subject.remote_revision("https://example.invalid/x", text, FILES, timeout_seconds=5)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% CANARY", "ext::CANARY", "fd::17", "ssh://-oProxyCommand=CANARY/x",
        "-oProxyCommand=CANARY:x",
        "git@-oProxyCommand=CANARY:x", "ssh://-oProxyCommand=CANARY@host/x", "https://-x/y", "http://host/x",
        "git://host/x", "https://user:secret@host/x", "https://host/a\nb", "file:///srv/x", "/srv/x", "x", "",
        "--upload-pack=CANARY", "https://", "ssh://host:99999/x", "git@host:-x", "host:-x", "https:/host/x", "host://x",
    ],
)  # fmt: skip
def test_a_hostile_url_is_refused(place: Place, url: str) -> None:
    with pytest.raises(errors.ConfigurationInvalid):
        place.fetch(Access(), url.replace("CANARY", place.script()))
    assert not place.canary.exists()


@pytest.mark.parametrize(
    "url", ["https://host/x.git", "ssh://git@host:2222/x.git", "git@host:team/x.git", "host:~me/x"]
)
def test_an_ordinary_url_is_let_through(url: str) -> None:
    check_url(url, allow_file=False)


def test_what_is_planted_in_the_mirror_does_not_run(place: Place) -> None:
    place.fetch()
    evil = place.script()
    (place.mirror / "config").write_text(
        f"[core]\n\tbare = true\n\tsshCommand = {evil}\n\tfsmonitor = {evil}\n\thooksPath = {place.top}\n"
        f'[url "ext::{evil} "]\n\tinsteadOf = file://\n'
        f'[filter "x"]\n\tsmudge = {evil}\n[protocol]\n\tallow = always\n'
    )
    (place.mirror / "hooks").mkdir()
    (place.mirror / "hooks" / "reference-transaction").symlink_to(evil)
    (place.top / "reference-transaction").symlink_to(evil)
    (place.mirror / "commondir").write_text(f"{place.work}/.git\n")
    (place.mirror / "info" / "attributes").write_text("* filter=x\n")
    second = place.commit("second", {"b.txt": "two\n"})
    place.fetch()
    with pytest.raises(errors.MirrorNotUpdated):
        place.fetch(Access(), "ssh://git@localhost:1/x")
    assert (place.export(second) / "b.txt").read_text() == "two\n"
    assert not place.canary.exists()
    assert "sshCommand" not in (place.mirror / "config").read_text()


def test_what_the_configuration_of_the_user_and_of_the_remote_names_does_not_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = place.commit("second", {".gitattributes": "* filter=x\n", "b.txt": "two\n"})
    evil, home = place.script(), place.top / "home"
    planted = (
        f"[core]\n\tfsmonitor = {evil}\n\thooksPath = {place.top}\n\tsshCommand = {evil}\n\tpager = {evil}\n"
        f"\talternateRefsCommand = {evil}\n[uploadpack]\n\tpackObjectsHook = {evil}\n[protocol]\n\tallow = always\n"
        f'[credential]\n\thelper = !{evil}\n[filter "x"]\n\tsmudge = {evil}\n\trequired = true\n'
    )
    (home / ".config" / "git").mkdir(parents=True)
    for path in (home / ".gitconfig", home / ".config/git/config", place.work / ".git/config"):
        path.write_text((path.read_text() if path.exists() else "") + planted)
    person = pwd.getpwuid(os.geteuid())
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd((*person[:5], str(home), person[6])))
    place.fetch()
    assert (place.export(second) / "b.txt").read_text() == "two\n"
    with pytest.raises(errors.MirrorNotUpdated):
        place.fetch(Access(), "ssh://git@localhost:1/x")
    assert not place.canary.exists()


@pytest.mark.parametrize(
    "links",
    [
        {"evil": "/etc/passwd"}, {"evil": "../outside"}, {"d/evil": "../../outside"}, {"evil": "bin/../../x"},
        {"a": "b", "b": "../x"}, {"in": "bin", "evil": "in/../../x"}, {"loop": "loop"},
        {"d/e/up": "../..", "x": "d/e/up/.."}, {"static": "/"}, {"media": "../../../shared/media"}, {".env": "/etc/shadow"},
        {"a": "b", "b": "c", "c": "/etc"}, {"evil": ".."}, {"evil": "../"}, {"evil": "//etc"}, {"evil": "./.././x"},
        {"evil": "nowhere/../../x"}, {"evil": "a.txt/../../x"}, {"evil\n": "../x"}, {"d/in": ".", "evil": "d/in/../../x"},
    ],
)  # fmt: skip
def test_a_link_that_leads_out_is_refused(place: Place, links: dict[str, str]) -> None:
    for name, target in links.items():
        (place.work / name).parent.mkdir(parents=True, exist_ok=True)
        (place.work / name).symlink_to(target)
    revision = place.commit("links")
    place.fetch()
    with pytest.raises(errors.TreeNotExported):
        place.export(revision)


def test_links_that_stay_within_the_tree_are_kept_as_they_are(place: Place) -> None:
    links = {
        "self": ".",
        "top": "bin/..",
        "d/up": "../a.txt",
        "chain": "d/up",
        "dangling": "bin/none",
        "name\n": "a.txt",
    }
    for name, target in links.items():
        (place.work / name).parent.mkdir(exist_ok=True)
        (place.work / name).symlink_to(target)
    place.commit("links")
    place.fetch()
    tree = place.export(place.git("rev-parse", "HEAD"))
    assert links == {name: str((tree / name).readlink()) for name in links}


def test_a_branch_that_moves_all_the_time_gives_one_revision_and_its_very_tree(place: Place) -> None:
    trees = {place.commit(str(number), {"number.txt": str(number)}): str(number) for number in range(4)}
    over, moved = threading.Event(), []

    def move() -> None:
        while not over.is_set():
            for revision in trees:  # back and forth: pushed by force
                place.git("update-ref", "refs/heads/main", revision)
                place.git("tag", "-f", "newest", revision)
                moved.append(revision)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(8):
            asked = subject.remote_revision(place.url, "main", FILES, timeout_seconds=60)
            assert asked in trees
            place.fetch()
            for ref in ("main", "newest"):
                revision = subject.resolve(place.mirror, ref)
                place.fetch()  # another run's, or a timer's: the name leads elsewhere by now, the revision does not
                assert trees[revision] == (place.export(revision) / "number.txt").read_text()
    finally:
        over.set()
        mover.join()
    assert len(moved) > len(trees)


def test_a_planted_environment_is_ignored(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = place.script()
    for name, value in {
        "GIT_DIR": "/nonexistent", "GIT_WORK_TREE": "/nonexistent", "GIT_SSH_COMMAND": evil,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": evil, "GIT_PYTHON_GIT_EXECUTABLE": evil,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    place.fetch()
    second = place.commit("second")
    place.fetch()
    assert subject.commits_between(place.mirror, place.first, second) == [f"{second[:7]} second"]
    assert (place.export(second) / "a.txt").exists()
    assert not place.canary.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owners_are_checked_without_trusting_every_folder(place: Place) -> None:
    for path in [place.work, *place.work.rglob("*")]:
        os.lchown(path, NOBODY, NOBODY)
    place.fetch()
    os.chown(place.mirror, NOBODY, NOBODY)
    with pytest.raises(errors.MirrorNotUpdated, match="belongs"):
        place.fetch()


def test_a_pipe_in_the_place_of_the_credentials_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    access = Access(credentials=tmp_path / "pipe")
    assert [] == secrets_of(access)
    with pytest.raises(errors.ConfigurationInvalid):
        check_secret(tmp_path / "pipe")


def test_a_key_that_others_can_read_is_refused(place: Place) -> None:
    key = place.top / "key"
    key.write_text("x")
    key.chmod(0o640)
    for access in (Access(deploy_key=key), Access(credentials=key)):
        with pytest.raises(errors.ConfigurationInvalid):
            place.fetch(access, "https://host.invalid/x")
