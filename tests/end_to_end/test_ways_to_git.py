"""The ways to the repository, with the installed command: a real sshd, and git behind TLS and a password.

A branch that does not exist is asked for where a whole deploy would show no more: `ref-not-found` comes after
the fetch, so the fetch has worked.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_site import Site, bare_site, unprivileged
from git_servers import SECRET, HttpsServer, SshServer, keygen


@pytest.fixture
def place(cache: Path) -> Iterator[Site]:
    """A site with no units and no health page, in a folder of its own."""
    with bare_site(cache) as site:
        yield site


@pytest.fixture
def sshd(place: Site) -> Iterator[SshServer]:
    folder = place.folder / "ssh"
    folder.mkdir()
    server = SshServer(folder)
    (folder / "known_hosts").write_text(server.known_line)
    place.write_config(
        repository=f'"{server.url(place.repository)}"', deploy_key=f'"{server.key}"',
        known_hosts=f'"{folder}/known_hosts"',
    )  # fmt: skip
    place.own()
    with server.running():
        yield server


@pytest.fixture
def https(place: Site) -> Iterator[HttpsServer]:
    folder = place.folder / "https"
    folder.mkdir()
    server = HttpsServer(folder, place.folder)
    credentials(place, f"https://deploy:{SECRET}@127.0.0.1:{server.port}\n")
    place.write_config(
        repository=f'"{server.url(place.repository / ".git")}"', git_credentials=f'"{place.folder}/credentials"'
    )
    place.own(place.folder / "credentials")
    with server.running():
        yield server


def credentials(place: Site, text: str) -> None:
    path = place.folder / "credentials"
    path.write_text(text)
    path.chmod(0o600)
    place.own(path)


def typed(place: Site, remedy: str) -> None:
    """What a person does who types the command in the remedy."""
    command = re.split(r"Only when (?:they are the same|it is that one): ", remedy)[1].removesuffix(
        ", then deploy again."
    )
    subprocess.run(["sh", "-c", command], check=True, cwd=place.folder, capture_output=True, **unprivileged())


def error(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[0].removeprefix("error: ")


def remedy(done: subprocess.CompletedProcess[str]) -> str:
    return next(line for line in done.stderr.splitlines() if line.strip().startswith("remedy:"))


def everything_written(place: Site) -> bytes:
    """The logs and the journal, and all other small files below the app root."""
    return b"".join(path.read_bytes() for path in place.root.rglob("*") if path.is_file())


def test_a_deploy_key_fetches_over_ssh_and_the_release_is_built(place: Site, sshd: SshServer) -> None:
    place.ok("deploy", "--build-only")
    (release,) = (place.root / "releases").iterdir()
    assert place.git("rev-parse", "HEAD") == (release / "REVISION").read_text().strip()


def test_a_key_that_others_can_read_is_refused_before_it_is_used(place: Site, sshd: SshServer) -> None:
    sshd.key.chmod(0o640)
    done = place.deploy()
    assert (2, "configuration-invalid") == (done.returncode, error(done))
    assert f"chmod 600 '{sshd.key}'" in done.stderr
    assert "Accepted" not in (sshd.folder / "sshd.log").read_text()


def test_an_unknown_host_key_is_shown_with_the_command_that_adds_it(place: Site, sshd: SshServer) -> None:
    known = sshd.folder / "known_hosts"
    known.write_text("")
    done = place.deploy("absent")
    assert (1, "host-key-unknown") == (done.returncode, error(done))
    said = subprocess.run(["ssh-keygen", "-lf", sshd.folder / "host_key.pub"], capture_output=True, text=True)
    assert said.stdout.split()[1] in done.stderr.splitlines()[1]
    assert "" == known.read_text()
    typed(place, remedy(done))
    assert sshd.known_line == known.read_text()
    assert "ref-not-found" == error(place.deploy("absent"))


def test_a_changed_host_key_is_an_error_of_its_own(place: Site, sshd: SshServer) -> None:
    other = keygen(sshd.folder / "other")
    known = sshd.folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {other}\n")
    done = place.deploy("absent")
    assert (1, "host-key-changed") == (done.returncode, error(done))
    said = subprocess.run(["ssh-keygen", "-lf", sshd.folder / "host_key.pub"], capture_output=True, text=True)
    assert done.stderr.splitlines()[1].endswith(said.stdout.split()[1])
    assert f"[127.0.0.1]:{sshd.port} {other}\n" == known.read_text()
    typed(place, remedy(done))
    assert "host-key-unknown" == error(place.deploy("absent"))


def test_a_key_that_is_not_allowed_is_named_with_what_to_add_where(place: Site, sshd: SshServer) -> None:
    sshd.authorized.write_text("")
    done = place.deploy("absent")
    assert (1, "mirror-not-updated") == (done.returncode, error(done))
    assert f"ssh-keygen -y -f '{sshd.key}'" in remedy(done)


def test_no_other_key_is_tried_than_the_deploy_key(place: Site, sshd: SshServer) -> None:
    allowed = keygen(sshd.folder / "allowed")
    sshd.authorized.write_text(allowed + "\n")
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", sshd.folder / "agent"], stdout=subprocess.DEVNULL, **unprivileged()
    )
    try:
        env = {"SSH_AUTH_SOCK": str(sshd.folder / "agent")}
        while not (sshd.folder / "agent").exists():
            assert agent.poll() is None
        subprocess.run(
            ["ssh-add", "-q", sshd.folder / "allowed"], env={**os.environ, **env}, check=True, **unprivileged()
        )
        place.write_config(pass_environment='["SSH_AUTH_SOCK"]')
        assert "mirror-not-updated" == error(place.run("deploy", "absent", **env))
    finally:
        agent.terminate()
        agent.wait(20)


def test_a_password_from_the_credentials_file_fetches_over_https(place: Site, https: HttpsServer) -> None:
    before = (place.folder / "credentials").stat()
    done = place.run("deploy", "absent", SSL_CERT_FILE=str(https.authority))
    assert "ref-not-found" == error(done), done.stderr
    head = subprocess.check_output(
        ["git", "-c", "safe.directory=*", "-C", place.root / "mirror.git", "rev-parse", "main"]
    )
    assert place.git("rev-parse", "HEAD") == head.decode().strip()
    after = (place.folder / "credentials").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert SECRET not in done.stdout + done.stderr
    assert SECRET.encode() not in everything_written(place)


def test_a_wrong_password_is_a_clear_error_that_shows_no_secret_and_changes_no_file(
    place: Site, https: HttpsServer
) -> None:
    wrong = "another-long-password"
    text = f"https://deploy:{wrong}@127.0.0.1:{https.port}\nhttps://x:y@example.org\n"
    credentials(place, text)
    for words in (("deploy", "absent"), ("deploy", "--if-changed")):
        done = place.run(*words, SSL_CERT_FILE=str(https.authority))
        assert (1, "mirror-not-updated") == (done.returncode, error(done))
        assert "no entry for deploy:****" in done.stderr  # the server said it, and git showed that
        assert "https://USER:TOKEN@127.0.0.1 " in remedy(done)
        assert wrong not in done.stdout + done.stderr
    assert wrong.encode() not in everything_written(place)
    assert text == (place.folder / "credentials").read_text()


def test_an_authority_that_nobody_knows_is_an_error_and_nothing_is_sent(place: Site, https: HttpsServer) -> None:
    place.write_config(pass_environment='["GIT_SSL_NO_VERIFY"]')
    done = place.run("deploy", "absent", GIT_SSL_NO_VERIFY="1")
    assert (1, "mirror-not-updated") == (done.returncode, error(done))
    assert "SSL_CERT_FILE" in remedy(done)
    assert [] == https.asked
