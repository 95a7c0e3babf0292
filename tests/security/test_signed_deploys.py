"""`verify` with the installed command: nothing is built from what nobody signed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_room import ChatRoom
from example_site import Site, unprivileged
from programs import required
from signing import allowed, ssh_key, with_ssh
from small_shop import small_shop

UNSIGNED = (1, "error: signature-invalid")


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    """A site with one unsigned commit, and signed ones wanted."""
    required("ssh-keygen", "openssh-client", "REQUIRE_SIGNATURES")
    with small_shop(cache) as made:
        made.edit("requirements.txt", "django>=5.2,<5.3\n")
        key = ssh_key(made.folder, "dev")
        (made.folder / "signers").write_text(allowed(key, "dev@example.org"))
        made.write_config(verify='"commit"', signers=f'"{made.folder}/signers"')
        made.own()
        yield made


def first_line(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    return done.returncode, (done.stderr.splitlines() or [""])[0]


def built(shop: Site) -> list[str]:
    return sorted(os.listdir(shop.root / "releases"))


def sign(shop: Site, *words: str) -> None:
    shop.git(*with_ssh(shop.folder / "dev"), *words)


def try_again(shop: Site) -> None:
    """The pause after a failure is over."""
    tries = shop.root / "state" / "tries.json"
    tries.write_text(json.dumps({**json.loads(tries.read_text()), "next_at": 0}))


def test_a_commit_is_built_only_when_it_is_signed_whatever_the_options_are(shop: Site) -> None:
    for words in ((), ("--force",), ("--build-only",), ("main",), (shop.git("rev-parse", "HEAD"),)):
        done = shop.deploy(*words)
        assert UNSIGNED == first_line(done), words
        assert "nothing live was changed" in done.stderr
        assert "sign it with a key of signers" in done.stderr
    assert [] == built(shop)
    assert not (shop.root / "current").is_symlink()

    plan = shop.run("deploy", "--plan", "--json")
    assert 1 == plan.returncode
    assert any("it is not signed" in stop for stop in json.loads(plan.stdout)["stops"])

    sign(shop, "commit", "-q", "--amend", "--no-edit", "-S")
    assert [] == json.loads(shop.ok("deploy", "--plan", "--json"))["stops"]
    said = shop.ok("deploy")
    assert "signed by dev@example.org, SHA256:" in said
    history = [json.loads(line) for line in (shop.root / "state" / "journal.jsonl").read_text().splitlines()]
    assert history[-1]["signed_by"].startswith("dev@example.org, SHA256:")
    live = shop.current()
    assert [live] == built(shop)

    shop.edit("shop/urls.py", "urlpatterns = []\n# more\n")
    assert UNSIGNED == first_line(shop.deploy())
    failed = built(shop)
    assert [live] == failed
    shop.write_config(verify='""', signers="[]")
    shop.ok("deploy", "--build-only")
    (unsigned,) = set(built(shop)) - {live}
    shop.write_config(verify='"commit"', signers=f'"{shop.folder}/signers"')
    assert UNSIGNED == first_line(
        shop.run("deploy", "--resume", unsigned)
    )  # built before, and gone on with only signed
    assert live == shop.current()


def test_a_timer_builds_nothing_unsigned_tells_it_once_and_takes_what_is_signed_later(shop: Site) -> None:
    shop.write_config(verify='"tag"')
    assert UNSIGNED == first_line(shop.deploy("--if-changed"))
    assert (0, "") == first_line(shop.deploy("--if-changed"))  # the pause
    try_again(shop)
    assert (1, "") == first_line(shop.deploy("--if-changed"))  # the same again is no news
    assert [] == built(shop)

    sign(shop, "tag", "-s", "-m", "one", "v1")
    try_again(shop)
    done = shop.deploy("--if-changed")
    assert (0, "") == (done.returncode, done.stderr)
    assert shop.git("rev-parse", "v1^{commit}") == json.loads(shop.ok("show"))["revision"]


def test_the_webhook_is_told_once_of_what_a_timer_could_not_even_begin(shop: Site) -> None:
    away = shop.repository.with_name("away")

    def tick() -> list[str]:
        """What is told at one tick, and at the next two, after the pause and in it."""
        before = len(room.told)
        for _ in range(3):
            shop.deploy("--if-changed")
            if (shop.root / "state" / "tries.json").exists():
                try_again(shop)
        return [message["result"] for message in room.messages[before:]]

    with ChatRoom().open() as room:
        secret = shop.private("webhook", f"WEBHOOK_URL=http://127.0.0.1:{room.server_port}/hook\n")
        shop.write_config(webhook_file=f'"{secret}"')
        shop.own()
        shop.repository.rename(away)  # before the very first deploy: there is no folder for what was told yet
        assert ["mirror-not-updated"] == tick()
        away.rename(shop.repository)
        assert ["signature-invalid"] == tick()
        assert "nothing live was changed" in room.messages[-1]["site"]
        assert "is not signed" in room.messages[-1]["text"]
        shop.repository.rename(away)
        assert ["mirror-not-updated"] == tick()
        away.rename(shop.repository)
        shop.write_config(branch='"gone"')
        assert ["ref-not-found"] == tick()
        shop.write_config(branch='"main"', shared_files='["gone"]')
        shop.edit("shop/urls.py", "urlpatterns = []\n# unsigned\n")
        assert ["signature-invalid"] == tick()

        assert UNSIGNED == first_line(shop.deploy())  # by hand: each try is a message
        assert "signature-invalid" == room.messages[-1]["result"]
        told = len(room.told)
        assert 1 == shop.deploy("no-such-branch").returncode  # but not a slip of the fingers
        assert 1 == shop.deploy("--build-only").returncode  # nor what is not to change the site
        shop.ok("hold", "-m", "lunch")
        assert 12 == shop.deploy().returncode
        assert told == len(room.told)
        assert [] == built(shop)


def test_an_archive_is_refused_since_nobody_can_have_signed_it(shop: Site) -> None:
    path = shop.folder / "shop.tar"
    shop.git("archive", "-o", str(path), "HEAD")
    done = shop.deploy("--archive", str(path))
    assert (2, "error: usage-invalid") == first_line(done)
    assert "an archive cannot be verified" in done.stderr
    assert [] == built(shop)


def test_check_tells_whose_signatures_count_and_what_is_wrong_with_the_file(shop: Site) -> None:
    def repository() -> list[dict[str, str]]:
        facts: list[dict[str, str]] = json.loads(shop.run("check", "--json").stdout)["facts"]
        return [fact for fact in facts if fact["group"] == "repository"]

    assert any("signed commit only; signers: 1 key(s) of ssh" in fact["text"] for fact in repository())
    signers = shop.folder / "signers"
    warned = [fact for fact in repository() if fact["level"] == "warn"]
    assert [f"sudo chown root {signers}"] == [fact["do"] for fact in warned]
    for damage, text in (
        (lambda: signers.chmod(0o666), "can be written by others"),
        (signers.unlink, "cannot be read"),
    ):
        damage()
        (fact,) = [fact for fact in repository() if "signers" in fact["text"]]
        assert ("problem", True) == (fact["level"], text in fact["text"])
        assert (2, "error: configuration-invalid") == first_line(shop.deploy())
    assert [] == built(shop)


def test_signers_that_the_release_itself_brings_are_refused(shop: Site) -> None:
    inside = shop.root / "shared" / "signers"
    subprocess.run(["cp", shop.folder / "signers", inside], check=True, **unprivileged())
    sign(shop, "commit", "-q", "--amend", "--no-edit", "-S")
    shop.write_config(signers=f'"{inside}"')
    done = shop.deploy()
    assert (2, "error: configuration-invalid") == first_line(done)
    assert "where the site's own code can write" in done.stderr
