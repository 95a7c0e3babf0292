"""Real keys for the tests of signatures: of ssh-keygen and of gpg, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONG_AGO = "20200101T000000"


def ssh_key(folder: Path, name: str) -> Path:
    """A private key without a passphrase; its public half lies beside it as NAME.pub."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
    return path


def allowed(key: Path, who: str, options: str = 'namespaces="git"') -> str:
    """A line of allowed signers."""
    return " ".join([who, *([options] if options else []), key.with_suffix(".pub").read_text()])


def with_ssh(key: Path) -> list[str]:
    """Options of git, with which it signs by this key."""
    return ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}"]


class Gpg:
    """A keyring in a short folder (its agent's socket lies there), and a program that git signs with."""

    def __init__(self, home: Path, faked_time: str = "") -> None:
        self.home = home
        self.program = home / "signs"
        faked = f" --faked-system-time {faked_time}" if faked_time else ""
        self.program.write_text(f'#!/bin/sh\nexec gpg --homedir {home}{faked} "$@"\n')
        self.program.chmod(0o755)

    def run(self, *words: str) -> bytes:
        done = subprocess.run([self.program, "--batch", "--yes", *words], capture_output=True, check=True)
        return done.stdout

    def make(self, who: str, expires: str = "never") -> str:
        """A key that signs; its fingerprint."""
        self.run("--passphrase", "", "--quick-gen-key", who, "ed25519", "sign", expires)
        listed = self.run("--with-colons", "--list-keys", f"={who}").decode().splitlines()
        return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))

    def public(self, fingerprint: str) -> bytes:
        return self.run("--armor", "--export", fingerprint)

    def signs(self, fingerprint: str) -> list[str]:
        """Options of git, with which it signs by this key."""
        return ["-c", "gpg.format=openpgp", "-c", f"gpg.program={self.program}", "-c", f"user.signingkey={fingerprint}"]


@contextmanager
def gpg_home(faked_time: str = "") -> Iterator[Gpg]:
    """A keyring of its own; its agent is ended, and all of it is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="bb-g-"))
    home.chmod(0o700)
    try:
        yield Gpg(home, faked_time)
    finally:
        env = {**os.environ, "GNUPGHOME": str(home)}
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=env, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
