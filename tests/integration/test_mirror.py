"""The mirror, with the real git: what it fetches, what it refuses, and what it repairs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bb_release import errors
from bb_release.tools import mirror as subject
from bb_release.tools.git_access import Access, check_url
from git_place import FILES, Place, break_mirror

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_is_fetched_is_resolved_and_exported_byte_for_byte(place: Place) -> None:
    place.git("tag", "-a", "v1", "-m", "v1")
    place.fetch()
    for name in ("main", "v1", place.first, place.first[:9]):
        assert subject.resolve(place.mirror, name) == place.first
    assert subject.remote_revision(place.url, "v1", FILES, timeout_seconds=60) == place.first
    assert subject.remote_revision(place.url, "absent", FILES, timeout_seconds=60) is None
    tree = place.export(place.first)
    assert (tree / "a.txt").read_text() == "one\n"
    assert [oct((tree / name).stat().st_mode & 0o777) for name in ("a.txt", "bin/run", "bin")] == [
        "0o644", "0o755", "0o755",
    ]  # fmt: skip


def test_what_a_killed_export_left_beside_the_tree_is_cleared_and_nothing_is_left_there(place: Place) -> None:
    place.fetch()
    beside = sorted(os.listdir(place.top))
    left = place.top / ".tree1.index"
    left.mkdir()
    for name in ("index", "index.lock"):
        (left / name).write_text("half")
    place.export(place.first)
    assert sorted([*beside, "tree1"]) == sorted(os.listdir(place.top))


def test_a_later_fetch_follows_new_commits_force_pushes_and_deleted_branches(place: Place) -> None:
    place.git("branch", "gone")
    place.fetch()
    second = place.commit("second")
    place.git("branch", "-D", "gone")
    place.git("branch", "gone/below")
    place.fetch()
    assert subject.resolve(place.mirror, "main") == second
    assert subject.commits_between(place.mirror, place.first, second) == [f"{second[:7]} second"]
    with pytest.raises(errors.RefNotFound):
        subject.resolve(place.mirror, "gone")
    place.git("reset", "-q", "--hard", place.first)
    other = place.commit("other")
    place.fetch()
    assert subject.resolve(place.mirror, "main") == other
    with pytest.raises(errors.RefNotFound):
        subject.commits_between(place.mirror, "0" * 40, other)


def test_a_branch_wins_over_a_tag_of_the_same_name(place: Place) -> None:
    place.git("tag", "same")
    second = place.commit("second")
    place.git("branch", "same")
    place.fetch()
    assert subject.resolve(place.mirror, "same") == second
    assert subject.remote_revision(place.url, "same", FILES, timeout_seconds=60) == second


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


def test_what_a_killed_git_left_does_not_block_and_branches_stay(place: Place) -> None:
    place.git("branch", "tmp_keep")
    place.fetch()
    place.commit("second")
    leftovers = [
        "refs/heads/main.lock",
        "packed-refs.lock",
        "HEAD.lock",
        "objects/pack/tmp_pack_x",
        "shallow.lock",
    ]
    for name in leftovers:
        (place.mirror / name).write_text("")
    place.fetch()
    assert not [name for name in leftovers if (place.mirror / name).exists()]
    assert subject.resolve(place.mirror, "tmp_keep") == place.first


BROKEN = ["garbage HEAD", "truncated pack", "deleted object", "empty ref", "not a repository"]


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_mirror_is_cloned_anew(place: Place, kind: str) -> None:
    place.fetch()
    break_mirror(place.mirror, kind)
    place.fetch()
    assert (place.export(subject.resolve(place.mirror, "main")) / "a.txt").exists()
    assert not [name for name in os.listdir(place.top) if name.startswith("mirror.git.")]


@pytest.mark.parametrize("kind", ["sound", *BROKEN])
def test_a_remote_that_is_gone_leaves_the_mirror_as_it_is(place: Place, kind: str) -> None:
    place.fetch()
    break_mirror(place.mirror, kind)
    before = sorted(path.name for path in place.mirror.rglob("*.pack"))
    place.work.rename(place.top / "moved")
    with pytest.raises(errors.MirrorNotUpdated) as caught:
        place.fetch()
    assert caught.value.remedy
    assert caught.value.details
    assert sorted(path.name for path in place.mirror.rglob("*.pack")) == before


@pytest.mark.parametrize("kind", ["truncated pack", "deleted object"])
def test_a_missing_object_is_a_clear_failure_of_the_export(place: Place, kind: str) -> None:
    place.fetch()
    break_mirror(place.mirror, kind)
    with pytest.raises(errors.TreeNotExported):
        place.export(place.first)


@pytest.mark.parametrize(
    "links",
    [
        {"evil": "/etc/passwd"}, {"evil": "../outside"}, {"d/evil": "../../outside"}, {"evil": "bin/../../x"},
        {"a": "b", "b": "../x"}, {"in": "bin", "evil": "in/../../x"}, {"loop": "loop"},
        {"d/e/up": "../..", "x": "d/e/up/.."},
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


def test_a_link_within_the_tree_is_kept(place: Place) -> None:
    (place.work / "bin" / "inside").symlink_to("../a.txt")
    revision = place.commit("link")
    place.fetch()
    assert (place.export(revision) / "bin" / "inside").read_text() == "one\n"


def test_attributes_change_nothing_in_the_export(place: Place) -> None:
    place.commit("files", {"kept.txt": "x\n", "id.txt": "$Format:%H$ $Id$\n", "line.txt": "a\nb\n"})
    rules = ["kept.txt export-ignore", "id.txt export-subst ident", "line.txt text eol=crlf"]
    rules.append("a.txt working-tree-encoding=UTF-16")
    (place.work / ".gitattributes").write_text("\n".join(rules) + "\n")
    place.git("update-index", "--add", ".gitattributes")  # `add -A` would itself convert the other files
    place.git("commit", "-q", "-m", "rules")
    revision = place.git("rev-parse", "HEAD")
    place.fetch()
    tree = place.export(revision)
    assert (tree / "kept.txt").exists()
    assert (tree / "id.txt").read_bytes() == b"$Format:%H$ $Id$\n"
    assert (tree / "line.txt").read_bytes() == b"a\nb\n"


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


def test_a_key_that_others_can_read_is_refused(place: Place) -> None:
    key = place.top / "key"
    key.write_text("x")
    key.chmod(0o640)
    for access in (Access(deploy_key=key), Access(credentials=key)):
        with pytest.raises(errors.ConfigurationInvalid):
            place.fetch(access, "https://host.invalid/x")
