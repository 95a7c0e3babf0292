"""Who is behind a command, for the journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from bb_release.actions import owner

# made by ssh-keygen, named by ssh-keygen -lf
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII52Ua6+4dvYCmJPwK0/FPQMzmS/aOdrhhRWroFH/bsL"
FINGERPRINT = "SHA256:6/GT+zdaV11LVyYN+Q26Yfi6AdTJ/QHW5hUve40x6GU"


def test_the_key_of_the_login_is_named_as_ssh_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "auth").write_text(f"publickey {KEY}\n")
    monkeypatch.setenv("SSH_USER_AUTH", str(tmp_path / "auth"))
    monkeypatch.setenv("SSH_CLIENT", "192.0.2.7 5022 22")
    assert owner.who_runs().endswith(f" from 192.0.2.7 key {FINGERPRINT}")


@pytest.mark.parametrize("content", ["", "password", "publickey", "publickey ssh-rsa !!!", "publickey a b c", "\udcff"])
def test_what_sshd_did_not_write_names_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "auth").write_bytes(content.encode("utf-8", "surrogateescape"))
    monkeypatch.setenv("SSH_USER_AUTH", str(tmp_path / "auth"))
    assert [] == owner.ssh_keys()
    monkeypatch.setenv("SSH_USER_AUTH", str(tmp_path / "none"))
    assert [] == owner.ssh_keys()
