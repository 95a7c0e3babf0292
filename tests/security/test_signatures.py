"""Signatures with the real git, ssh-keygen and gpg: whose count, and whose never do."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bb_release.errors import ConfigurationInvalid, SignatureInvalid
from bb_release.tools import signature as subject
from git_place import Place
from programs import required
from signing import LONG_AGO, Gpg, allowed, gpg_home, ssh_key, with_ssh


@dataclass
class Keys:
    """The keys of the tests; `dev` and `gpg_dev` are those that count."""

    folder: Path
    dev: Path
    other: Path
    gpg: Gpg
    gpg_dev: str
    gpg_other: str
    gpg_expired: str
    old: Gpg
    signers: list[Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    required("ssh-keygen", "openssh-client", "REQUIRE_SIGNATURES")
    required("gpg", "gpg", "REQUIRE_SIGNATURES")
    required("gpg-agent", "gpg-agent", "REQUIRE_SIGNATURES")
    folder = tmp_path_factory.mktemp("keys")
    with gpg_home() as gpg, gpg_home(LONG_AGO) as old:
        made = Keys(
            folder, ssh_key(folder, "dev"), ssh_key(folder, "other"), gpg, gpg.make("Dev <dev@example.org>"),
            gpg.make("Other <other@example.org>"), old.make("Old <old@example.org>", "1y"), old, [],
        )  # fmt: skip
        (folder / "ssh").write_text("# who may\n" + allowed(made.dev, "dev@example.org"))
        (folder / "gpg.asc").write_bytes(b"made by hand\n" + gpg.public(made.gpg_dev) + old.public(made.gpg_expired))
        made.signers = [folder / "ssh", folder / "gpg.asc"]
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "place")


def signers(keys: Keys, place: Place) -> subject.Signers:
    return subject.read_signers(keys.signers, outside=place.top)


def signed(place: Place, *options: str) -> str:
    """A commit that is signed with these options of git; unsigned with none."""
    place.git(*options, "commit", "-q", "--allow-empty", *(["-S"] if options else []), "-m", "change")
    return place.git("rev-parse", "HEAD")


def asked(place: Place, keys: Keys, revision: str) -> str:
    place.fetch()
    return subject.signer_of_commit(place.mirror, revision, signers(keys, place))


def tag(place: Place, name: str, revision: str, *options: str) -> None:
    place.git(*options, "tag", "-s" if options else "-a", "-m", name, name, revision)


def asked_tag(place: Place, keys: Keys, revision: str) -> str:
    place.fetch()
    return subject.signer_of_tag(place.mirror, revision, signers(keys, place))


def test_a_commit_that_a_signer_signed_counts_and_says_who_it_was(place: Place, keys: Keys) -> None:
    by_ssh, by_gpg = signed(place, *with_ssh(keys.dev)), signed(place, *keys.gpg.signs(keys.gpg_dev))
    assert asked(place, keys, by_ssh).startswith("dev@example.org, SHA256:")
    assert f"Dev <dev@example.org>, {keys.gpg_dev}" == asked(place, keys, by_gpg)


def test_each_kind_of_key_counts_only_where_its_file_is_named(place: Place, keys: Keys) -> None:
    by_ssh, by_gpg = signed(place, *with_ssh(keys.dev)), signed(place, *keys.gpg.signs(keys.gpg_dev))
    place.fetch()
    for file, good, bad in ((keys.signers[0], by_ssh, by_gpg), (keys.signers[1], by_gpg, by_ssh)):
        only = subject.read_signers([file], outside=place.top)
        assert "dev@example.org" in subject.signer_of_commit(place.mirror, good, only)
        with pytest.raises(SignatureInvalid, match="not among the signers"):
            subject.signer_of_commit(place.mirror, bad, only)


def test_a_commit_without_a_signature_or_by_another_key_is_refused(place: Place, keys: Keys) -> None:
    wrong = {
        signed(place): "is not signed",
        signed(place, *with_ssh(keys.other)): "not among the signers",
        signed(place, *keys.gpg.signs(keys.gpg_other)): "not among the signers",
        signed(place, *keys.old.signs(keys.gpg_expired)): "has expired",
    }
    for revision, why in wrong.items():
        with pytest.raises(SignatureInvalid, match=why) as caught:
            asked(place, keys, revision)
        assert revision[:7] in caught.value.message
        assert "bb-release deploy" in caught.value.remedy


@pytest.mark.parametrize("way", ["ssh", "gpg"])
def test_a_signature_that_was_taken_from_another_commit_is_refused(place: Place, keys: Keys, way: str) -> None:
    good = signed(place, *(with_ssh(keys.dev) if way == "ssh" else keys.gpg.signs(keys.gpg_dev)))
    text = place.git("cat-file", "commit", good) + "\n"
    (place.top / "forged").write_text(text.replace("\n\nchange", "\n\nanother"))
    forged = place.git("hash-object", "-t", "commit", "-w", str(place.top / "forged"))
    place.git("branch", "-f", "forged", forged)
    with pytest.raises(SignatureInvalid, match="does not fit what it signs"):
        asked(place, keys, forged)


def test_a_commit_that_two_keys_signed_is_refused_though_one_of_them_counts(place: Place, keys: Keys) -> None:
    both = keys.folder / "both"
    both.write_text(f'#!/bin/sh\nexec gpg --homedir {keys.gpg.home} -u {keys.gpg_other} "$@"\n')
    both.chmod(0o755)
    revision = signed(place, *keys.gpg.signs(keys.gpg_dev), "-c", f"gpg.program={both}")
    with pytest.raises(SignatureInvalid) as caught:
        asked(place, keys, revision)
    assert "GOODSIG" in caught.value.details  # so the exit code of git decides, and not a word that it says


def test_a_parent_that_is_signed_vouches_for_nothing_that_follows(place: Place, keys: Keys) -> None:
    signed(place, *with_ssh(keys.dev))
    with pytest.raises(SignatureInvalid, match="is not signed"):
        asked(place, keys, signed(place))


@pytest.mark.parametrize("options", ['namespaces="file"', 'valid-before="20200101"', 'valid-after="20990101"'])
def test_what_the_line_of_a_signer_forbids_is_refused(place: Place, keys: Keys, tmp_path: Path, options: str) -> None:
    revision = signed(place, *with_ssh(keys.dev))
    place.fetch()
    file = tmp_path / "allowed"
    file.write_text(allowed(keys.dev, "dev@example.org", options))
    with pytest.raises(SignatureInvalid):
        subject.signer_of_commit(place.mirror, revision, subject.read_signers([file], outside=place.top))
    file.write_text(allowed(keys.dev, "dev@example.org", 'valid-before="20990101"'))
    assert subject.signer_of_commit(place.mirror, revision, subject.read_signers([file], outside=place.top))


@pytest.mark.parametrize("before", ["20200101", "20200101Z", "202001010000", "20200101000000Z"])
def test_an_expired_key_of_ssh_does_not_count_for_a_commit_that_says_it_is_older(
    place: Place, keys: Keys, tmp_path: Path, before: str
) -> None:
    long_ago = {"GIT_COMMITTER_DATE": "2019-06-01T00:00:00Z", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(place.top)}
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    words = ["git", *names, *with_ssh(keys.dev), "commit", "-q", "--allow-empty", "-S", "-m", "as if"]
    subprocess.run(words, cwd=place.work, env={**os.environ, **long_ago}, check=True)
    place.fetch()
    revision, file = place.git("rev-parse", "HEAD"), tmp_path / "allowed"
    for options, counts in ((f'namespaces="git",valid-before="{before}"', False), ('valid-before="20990101Z"', True),
                            ('valid-before="20990101"', True), (f"Valid-Before={before}", False)):  # fmt: skip
        file.write_text(allowed(keys.dev, "dev@example.org", options))
        asked_for = subject.read_signers([file], outside=place.top)
        if counts:
            assert "dev@example.org" in subject.signer_of_commit(place.mirror, revision, asked_for)
        else:
            with pytest.raises(SignatureInvalid, match="not among the signers"):
                subject.signer_of_commit(place.mirror, revision, asked_for)
    file.write_text(allowed(keys.dev, "dev@example.org").rstrip() + f' valid-before="{before}"\n')  # a comment only
    assert subject.signer_of_commit(place.mirror, revision, subject.read_signers([file], outside=place.top))


@pytest.mark.parametrize(
    "options", ["cert-authority", 'namespaces="git",Cert-Authority', 'cert-authority,namespaces="git"']
)
def test_a_line_that_trusts_an_authority_is_refused(place: Place, keys: Keys, tmp_path: Path, options: str) -> None:
    """git asks whether a certificate was valid when the commit says that it was made."""
    file = tmp_path / "allowed"
    file.write_text("# whom we trust\n" + allowed(keys.dev, "dev@example.org", options))
    with pytest.raises(ConfigurationInvalid, match="line 2 trusts an authority"):
        subject.read_signers([file], outside=place.top)


def test_a_key_that_was_revoked_is_refused(place: Place, keys: Keys, tmp_path: Path) -> None:
    with gpg_home() as gpg:
        who = gpg.make("Gone <gone@example.org>")
        revision = signed(place, *gpg.signs(who))
        place.fetch()
        file = tmp_path / "gone.asc"
        file.write_bytes(gpg.public(who))
        assert "gone@example.org" in subject.signer_of_commit(
            place.mirror, revision, subject.read_signers([file], outside=place.top)
        )
        revoked = (gpg.home / "openpgp-revocs.d" / f"{who}.rev").read_text().replace(":-----BEGIN", "-----BEGIN")
        (tmp_path / "revoked").write_text(revoked)
        gpg.run("--import", str(tmp_path / "revoked"))
        file.write_bytes(gpg.public(who))
    with pytest.raises(SignatureInvalid, match="was revoked"):
        subject.signer_of_commit(place.mirror, revision, subject.read_signers([file], outside=place.top))


def test_a_signed_tag_of_the_very_commit_counts(place: Place, keys: Keys) -> None:
    tag(place, "v1", place.first, *with_ssh(keys.dev))
    second = signed(place)
    tag(place, "v2", second, *keys.gpg.signs(keys.gpg_dev))
    assert asked_tag(place, keys, place.first).endswith(", as v1")
    assert f"Dev <dev@example.org>, {keys.gpg_dev}, as v2" == asked_tag(place, keys, second)


def test_one_good_tag_among_others_is_enough(place: Place, keys: Keys) -> None:
    tag(place, "a-lightweight", place.first)
    tag(place, "b-other", place.first, *with_ssh(keys.other))
    tag(place, "c-good", place.first, *with_ssh(keys.dev))
    assert asked_tag(place, keys, place.first).endswith(", as c-good")


def test_tags_that_do_not_count_are_each_told(place: Place, keys: Keys) -> None:
    place.git("tag", "lightweight", place.first)
    tag(place, "unsigned", place.first)
    tag(place, "by-other", place.first, *with_ssh(keys.other))
    tag(place, "by-expired", place.first, *keys.old.signs(keys.gpg_expired))
    tag(place, "by-gpg-other", place.first, *keys.gpg.signs(keys.gpg_other))
    with pytest.raises(SignatureInvalid, match="no tag with a signature that counts") as caught:
        asked_tag(place, keys, place.first)
    said = dict(line.split(" ", 1) for line in caught.value.details.replace("tag ", "").splitlines())
    assert "is a lightweight tag, which nobody can sign" in caught.value.details
    assert "it is not signed" == said["unsigned:"]
    assert "has expired" in said["by-expired:"]
    for name in ("by-other:", "by-gpg-other:"):
        assert "not among the signers" in said[name]


def test_a_tag_of_another_commit_of_a_tag_or_under_another_name_does_not_count(place: Place, keys: Keys) -> None:
    tag(place, "v1", place.first, *with_ssh(keys.dev))
    second = signed(place)
    for revision in (second, signed(place)):  # neither the parent's tag nor a child's
        with pytest.raises(SignatureInvalid):
            asked_tag(place, keys, revision)
    place.git(*with_ssh(keys.dev), "tag", "-s", "-m", "outer", "of-a-tag", place.git("rev-parse", "v1"))
    place.git("update-ref", "refs/tags/v9", place.git("rev-parse", "v1"))  # an old tag, shown as a new one
    place.git("tag", "-d", "v1")
    with pytest.raises(SignatureInvalid) as caught:
        asked_tag(place, keys, place.first)
    assert "v9 is signed as 'v1'" in caught.value.details
    assert "of-a-tag: " not in caught.value.details  # git 2.39 does not name it, newer ones do; nobody was asked


def test_a_tag_whose_name_holds_odd_ends_of_lines_is_only_refused(place: Place, keys: Keys) -> None:
    tag(place, "v1", place.first)
    text = place.git("cat-file", "tag", "v1").replace("tag v1", "tag v1\x0b\x1c\u2028x") + "\n"
    (place.top / "odd").write_text(text)
    odd = place.git("hash-object", "--literally", "-t", "tag", "-w", str(place.top / "odd"))
    place.fetch()
    for name in ("objects", "refs/tags/odd"):  # as a remote would that checks less than ours
        into = place.mirror / name
        if name == "objects":
            shutil.copytree(place.work / ".git" / name, into, dirs_exist_ok=True)
        else:
            into.parent.mkdir(parents=True, exist_ok=True)
            into.write_text(odd + "\n")
    with pytest.raises(SignatureInvalid, match="no tag with a signature") as caught:
        subject.signer_of_tag(place.mirror, place.first, signers(keys, place))
    assert "odd" in caught.value.details


def test_a_key_that_repository_user_or_environment_bring_does_not_count(
    place: Place, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = place.script()
    theirs = tmp_path / "theirs"
    theirs.write_text(allowed(keys.other, "dev@example.org"))
    planted = (
        f'[gpg]\n\tformat = ssh\n\tprogram = {evil}\n[gpg "ssh"]\n\tallowedSignersFile = {theirs}\n\tprogram = {evil}\n'
        f'[gpg "openpgp"]\n\tprogram = {evil}\n[gpg "x509"]\n\tprogram = {evil}\n'
    )
    by_ssh, by_gpg = signed(place, *with_ssh(keys.other)), signed(place, *keys.gpg.signs(keys.gpg_other))
    in_tree = place.commit("signers of its own", {".allowed_signers": theirs.read_text(), ".gitconfig": planted})
    place.fetch()
    (tmp_path / ".gitconfig").write_text(planted)
    (place.mirror / "config").write_text("[core]\n\tbare = true\n" + planted)
    (place.mirror / "config.worktree").write_text(planted)
    for name, value in {
        "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "GNUPGHOME": str(keys.gpg.home),
        "GIT_CONFIG_GLOBAL": str(tmp_path / ".gitconfig"), "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "gpg.ssh.allowedSignersFile", "GIT_CONFIG_VALUE_0": str(theirs),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for revision in (by_ssh, by_gpg, in_tree):
        with pytest.raises(SignatureInvalid):
            subject.signer_of_commit(place.mirror, revision, signers(keys, place))
    assert not place.canary.exists()


def test_nothing_is_left_of_the_keys_and_no_agent_runs_on(
    place: Place, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="bb-") as folder:  # gpg's sockets bear no long path
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr("tempfile.tempdir", folder)
        asked(place, keys, signed(place, *keys.gpg.signs(keys.gpg_dev)))
        assert [] == os.listdir(folder)
        monkeypatch.undo()

    def words(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError:  # closed to us, or it has ended
            return b""

    running = [words(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert [] == [line for line in running if folder.encode() in line]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "has no key"), (b"\n# nobody\n", "has no key"), (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me\n", "line 1 is no"),
        (b"# x\ngarbage\n", "line 2 is no"), (b"\xff\xfe\x00", "line 1 is no"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "line 1 is no"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n", "line 1 is no"),
    ],
)  # fmt: skip
def test_a_file_of_signers_that_names_nobody_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "signers"
    file.write_bytes(content)
    with pytest.raises(ConfigurationInvalid, match=why) as caught:
        subject.read_signers([file], outside=tmp_path / "root")
    assert caught.value.remedy


def test_a_damaged_block_of_gpg_is_refused_by_check_and_by_a_deploy(place: Place, keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "damaged"
    file.write_bytes(keys.gpg.public(keys.gpg_dev)[:120] + b"\n-----END PGP PUBLIC KEY BLOCK-----\n")
    damaged = subject.read_signers([file], outside=place.top)
    place.fetch()
    for ask in (
        lambda: subject.check_signers(damaged),
        lambda: subject.signer_of_commit(place.mirror, place.first, damaged),
    ):
        with pytest.raises(ConfigurationInvalid, match="gpg does not take the keys"):
            ask()


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "group", "world", "inside", "link inside", "large"])
def test_a_file_of_signers_that_somebody_could_have_written_is_refused(tmp_path: Path, keys: Keys, kind: str) -> None:
    root, file = tmp_path / "root", tmp_path / "signers"
    root.mkdir()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "link inside":
        (root / "signers").write_text(keys.signers[0].read_text())
        file.symlink_to(root / "signers")
    elif kind == "inside":
        file = root / "signers"
    if kind in ("group", "world", "inside", "large"):
        file.write_text(keys.signers[0].read_text() + "#" * (subject.LARGEST if kind == "large" else 0))
        file.chmod({"group": 0o664, "world": 0o646}.get(kind, 0o644))
    with pytest.raises(ConfigurationInvalid) as caught:
        subject.read_signers([file], outside=root)
    assert caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can give a file away")
def test_a_file_of_signers_of_another_user_is_refused(tmp_path: Path, keys: Keys) -> None:
    file = tmp_path / "signers"
    file.write_text(keys.signers[0].read_text())
    os.chown(file, 65534, 65534)
    with pytest.raises(ConfigurationInvalid, match="can be written by others"):
        subject.read_signers([file], outside=tmp_path / "root")
