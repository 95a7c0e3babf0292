"""Who signed a commit or a tag: git asks ssh-keygen or gpg, and neither sees a key that was not named to it.

The keys come from the files that the configuration names, and from nowhere else: git's configuration is ours
(`bare`), gpg gets a folder of its own with only those keys, and what the caller's environment or home says is unseen.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bb_release.errors import ConfigurationInvalid, SignatureInvalid
from bb_release.tools import process
from bb_release.tools.bare import FULL_HASH, LOCAL_SECONDS, argv, settle
from bb_release.tools.git_access import Access, git_environment

LARGEST = 10_000_000
TAG_FIELDS = 6  # that are asked for of each tag
_ARMOR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
# ssh-keygen(1), ALLOWED SIGNERS: principals, perhaps options, the key. A key alone, as in a .pub file, names nobody
_SSH_LINE = re.compile(rb"[^\s\x00-\x1f]+ (.* )?(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+=*(?:\s.*)?$")
_BEFORE = re.compile(rb'valid-before="?(\d{8}|\d{12}|\d{14})(z?)"?(?:[, ]|$)', re.IGNORECASE)
# git asks whether a certificate was valid when the commit says that it was made, and who commits says that
_AUTHORITY = re.compile(rb"(?:^|[, ])cert-authority(?:[, ]|$)", re.IGNORECASE)
# nothing is fetched, no daemon is started, and no trust is computed: whoever is in the file is trusted
_GPG_CONF = "batch\nno-autostart\nno-auto-key-retrieve\nno-auto-key-import\nno-auto-check-trustdb\ntrust-model direct\n"
_SSH_GOOD = re.compile(r'(?m)^Good "git" signature for (.+) with \S+ key (\S+)$')
_GPG_GOOD = re.compile(r"(?m)^\[GNUPG:\] GOODSIG \S+ (.*)$")
_GPG_VALID = re.compile(r"(?m)^\[GNUPG:\] VALIDSIG ([0-9A-F]{40,64}) ")
_WHY = (
    ("no signature found", "it is not signed"),
    ("No principal matched", "its key is not among the signers, or not at the time that it gives"),
    ("[GNUPG:] EXPKEYSIG", "the key that signed it has expired"),
    ("[GNUPG:] EXPSIG", "its signature has expired"),
    ("[GNUPG:] REVKEYSIG", "the key that signed it was revoked"),
    ("[GNUPG:] NO_PUBKEY", "its key is not among the signers"),
    ("[GNUPG:] BADSIG", "its signature does not fit what it signs"),
    ("Signature verification failed", "its signature does not fit what it signs"),
)


@dataclass(frozen=True)
class Signers:
    """Whose signatures count: lines of ssh-keygen's allowed signers, and armored public keys of gpg."""

    ssh: bytes
    gpg: bytes


def read_signers(files: Sequence[Path], *, outside: Path) -> Signers:
    """The keys of all files: one that has a block of PGP is gpg's, every other is ssh's.

    Raises ConfigurationInvalid for a file that is missing, holds no keys, lies below `outside` (where the site's own
    code writes), or that somebody else than root and this user could have written.
    """
    contents = {file: _content(file, outside) for file in files}
    for file, content in contents.items():
        for number, line in enumerate(content.split(b"\n") if _ARMOR not in content else (), 1):
            match = _SSH_LINE.match(line)
            if match and _AUTHORITY.search(match[1] or b""):
                raise ConfigurationInvalid(
                    f"signers {file}, line {number} trusts an authority: when its certificates end is not looked at",
                    remedy="name the key of each who signs instead of the authority's, and take cert-authority out",
                )
            if line in _key_lines(line) and not match:
                raise ConfigurationInvalid(
                    f"signers {file}, line {number} is no allowed signer",
                    remedy='write who, and then the public key: dev@example.org namespaces="git" ssh-ed25519 AAAA…',
                )
    ssh = b"\n".join(each for each in contents.values() if _ARMOR not in each)
    return Signers(
        ssh=b"\n".join(line for line in _key_lines(ssh) if not _is_over(line)),
        gpg=b"\n".join(each for each in contents.values() if _ARMOR in each),
    )


def _is_over(line: bytes) -> bool:
    """Has the key expired by now? git asks ssh-keygen for the moment that the commit names, and who commits names it.

    A moment without Z is in this host's zone: ssh-keygen(1). One that cannot be read, ssh-keygen refuses.
    """
    match = _SSH_LINE.match(line)
    found = _BEFORE.search(match[1] or b"") if match else None
    if found is None:
        return False
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}[len(found[1])]
    try:
        moment = datetime.strptime(found[1].decode(), form)  # noqa: DTZ007 - it gets its zone below
    except ValueError:
        return False
    return (moment.replace(tzinfo=UTC) if found[2] else moment.astimezone()) <= datetime.now(UTC)


def _key_lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line.strip() and not line.lstrip().startswith(b"#")]


def _content(file: Path, outside: Path) -> bytes:
    quoted = shlex.quote(str(file))
    if file.resolve().is_relative_to(outside.resolve()):
        raise ConfigurationInvalid(
            f"signers {file} lies below {outside}, where the site's own code can write",
            remedy="keep it elsewhere, such as /etc/bb-release, and give it to root",
        )
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise ConfigurationInvalid(f"signers {file} is not a file", remedy="name a file of public keys")
            if facts.st_mode & 0o022 or facts.st_uid not in (0, os.geteuid()):
                raise ConfigurationInvalid(
                    f"signers {file} can be written by others than root and {process.environment()['USER']}",
                    remedy=f"read it through, then: sudo chown root {quoted} && sudo chmod 644 {quoted}",
                )
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise ConfigurationInvalid(
            f"signers {file} cannot be read: {error.strerror}", remedy=f"look at it: ls -l {quoted}"
        ) from error
    if len(content) > LARGEST or not _key_lines(content):
        raise ConfigurationInvalid(
            f"signers {file} is too large" if len(content) > LARGEST else f"signers {file} has no key",
            remedy="lines of allowed signers (ssh-keygen(1)), or: gpg --armor --export KEY",
        )
    return content


def check_signers(signers: Signers) -> list[str]:
    """What there is, in words. Raises ConfigurationInvalid for a missing program, or keys that gpg refuses."""
    needed = {"ssh-keygen": ("openssh-client", signers.ssh), "gpg": ("gpg", signers.gpg)}
    for program, (package, keys) in needed.items():
        if keys and shutil.which(program, path=process.PATH) is None:
            raise ConfigurationInvalid(
                f"{program} is not on this host, and signers has keys for it", remedy=f"sudo apt-get install {package}"
            )
    with _keys(signers):
        found = [f"{len(_key_lines(signers.ssh))} key(s) of ssh"] if signers.ssh else []
        return [*found, *([f"{signers.gpg.count(_ARMOR)} block(s) of gpg"] if signers.gpg else [])]


def signer_of_commit(mirror: Path, revision: str, signers: Signers) -> str:
    """Who signed this very commit: "dev@example.org, SHA256:…". Raises SignatureInvalid, ConfigurationInvalid."""
    _require_hash(revision)
    settle(mirror)
    with _keys(signers) as (settings, env):
        return _ask(mirror, "verify-commit", revision, settings, env, f"commit {revision[:7]}")


def signer_of_tag(mirror: Path, revision: str, signers: Signers) -> str:
    """Who signed a tag of this very commit. One good tag is enough. Raises SignatureInvalid, ConfigurationInvalid.

    The signature covers the name inside of the tag, and the commit that it names; the ref that leads to a tag is
    covered by nothing. So a tag under another name than its own (an old one, shown as a new one) does not count.
    """
    _require_hash(revision)
    settle(mirror)
    fields = "%(objecttype)%00%(objectname)%00%(object)%00%(type)%00%(tag)%00%(refname)"
    words = ("for-each-ref", f"--points-at={revision}", f"--format={fields}", "refs/tags/")
    try:
        listed = process.run(
            argv(mirror, *words), env=git_environment(Access()), timeout_seconds=LOCAL_SECONDS, capture=True
        ).output
    except process.ProcessFailed as error:
        raise _invalid(f"the tags of commit {revision[:7]} could not be read: {error}", error.output) from error
    refused: list[str] = []
    with _keys(signers) as (settings, env):
        for line in listed.split("\n")[:-1]:  # not splitlines: a tag may have other ends of lines in its name
            facts = line.split("\0")
            if len(facts) != TAG_FIELDS:
                refused.append("there is a tag that cannot be read")
                continue
            kind, name, target, target_kind, own_name, ref = facts
            shown = ref.removeprefix("refs/tags/")
            if kind != "tag":
                refused.append(f"{shown} is a lightweight tag, which nobody can sign")
            elif (target, target_kind) != (revision, "commit"):
                refused.append(f"{shown} is a tag of another tag")
            elif ref != f"refs/tags/{own_name}":
                refused.append(f"{shown} is signed as {own_name!r}")
            else:
                try:
                    return f"{_ask(mirror, 'verify-tag', name, settings, env, f'tag {shown}')}, as {shown}"
                except SignatureInvalid as error:
                    refused.append(error.message)
    raise _invalid(f"commit {revision[:7]} has no tag with a signature that counts", "\n".join(refused))


def _require_hash(revision: str) -> None:
    if not FULL_HASH.match(revision):  # a caller's fault: only what `resolve` gave gets here
        raise ValueError("not a full hash")


@contextmanager
def _keys(signers: Signers) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Settings and environment with which git sees these keys alone; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bb-signers-") as name:
        folder = Path(name)
        allowed, home = folder / "allowed_signers", folder / "gnupg"
        allowed.write_bytes(signers.ssh)
        home.mkdir(mode=0o700)
        (home / "gpg.conf").write_text(_GPG_CONF)
        env = {**git_environment(Access()), "GNUPGHOME": str(home)}
        if signers.gpg:
            (folder / "keys.asc").write_bytes(signers.gpg)
            try:
                process.run(["gpg", "--import", str(folder / "keys.asc")], env=env, timeout_seconds=LOCAL_SECONDS)
            except process.ProcessFailed as error:
                missing = error.returncode is None
                raise ConfigurationInvalid(
                    f"gpg: {error.reason}" if missing else "gpg does not take the keys of signers",
                    details=error.output,
                    remedy="sudo apt-get install gpg" if missing else "export them anew: gpg --armor --export KEY",
                ) from error
        settings = (
            "gpg.minTrustLevel=undefined", "gpg.program=gpg", "gpg.openpgp.program=gpg", "gpg.x509.program=false",
            "gpg.ssh.program=ssh-keygen", f"gpg.ssh.allowedSignersFile={allowed}",
        )  # fmt: skip
        yield list(settings), env


def _ask(mirror: Path, question: str, name: str, settings: list[str], env: dict[str, str], what: str) -> str:
    """git's own verdict, and the name that it gives; both are needed. Raises SignatureInvalid."""
    base = argv(mirror)
    words = [*base, *(word for setting in settings for word in ("-c", setting)), question, "--raw", name]
    try:
        done = process.run(words, env=env, timeout_seconds=LOCAL_SECONDS, check=False)
    except process.ProcessFailed as error:
        raise _invalid(f"the signature of {what} could not be asked for: {error}", error.output) from error
    said = done.output
    found = read_verdict(said) if done.returncode == 0 else ""
    if found:
        return found
    why = next((words for mark, words in _WHY if mark in said), "")
    if not said.strip():  # all that git says of a commit without one
        why = "it is not signed"
    raise _invalid(f"{what}: {why or 'its signature does not count'}", said)


def read_verdict(said: str) -> str:
    """Who signed, in what ssh-keygen or gpg said by git's mouth; "" where neither names somebody."""
    ssh, gpg, valid = _SSH_GOOD.search(said), _GPG_GOOD.search(said), _GPG_VALID.search(said)
    if ssh:
        return f"{ssh[1]}, {ssh[2]}"
    return f"{gpg[1]}, {valid[1]}" if gpg and valid else ""


def _invalid(message: str, details: str) -> SignatureInvalid:
    return SignatureInvalid(
        message, details=details,
        remedy="sign it with a key of signers (git commit --amend -S, or git tag -s) and push, or add the key of"
        " someone you trust to signers; then run: bb-release deploy",
    )  # fmt: skip
