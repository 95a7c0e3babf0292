"""Who is told what: the site's own commands, the webhook, a second terminal, a shell's TAB."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_room import ChatRoom
from example_site import Site, unprivileged
from small_shop import small_shop

PLACES = (
    "before-requirements", "before-collect-static", "after-collect-static", "before-migrate", "after-migrate",
    "after-verify", "after-failure", "after-rollback",
)  # fmt: skip
UNHEALTHY = """

def health(request):
    import sys
    served = sys.argv[0].endswith("gunicorn")
    release = os.environ.get("BB_RELEASE", "")
    return JsonResponse({"release": release}, status=500 if served else 200, headers={"X-Release": release})
"""


@pytest.fixture
def room() -> Iterator[ChatRoom]:
    with ChatRoom().open() as opened:
        yield opened


def listen_everywhere(site: Site, book: Path) -> str:
    """A command at each place that writes down what it was told; the one after a failure fails itself."""
    line = 'echo "$BB_AT $BB_APP $BB_RELEASE ${BB_FAILED_STEP:--} ${SECRET_KEY:+secret}" >> ' + str(book)
    text = ""
    for place in PLACES:
        end = "; exit 3" if place in ("after-failure", "after-verify", "after-rollback") else ""
        text += f"\n[[run]]\nat = \"{place}\"\ncommand = ['sh', '-c', '{line}{end}']\n"
    return text


def test_commands_and_webhook_are_told_of_success_failure_and_the_way_back(site: Site, room: ChatRoom) -> None:
    book, secret = site.folder / "book", site.folder / "webhook"
    secret.write_text(f"WEBHOOK_URL=http://127.0.0.1:{room.server_port}/a-secret-address\n")
    secret.chmod(0o600)
    site.write_config(**{"webhook_file": f'"{secret}"', "[run]": listen_everywhere(site, book)})
    site.own()

    def told() -> list[list[str]]:
        lines = [line.split() for line in book.read_text().splitlines()]
        book.unlink()
        return lines

    said = site.ok("deploy", "-m", "the beginning")
    first = site.current()
    lines = told()
    assert [[p, "broken_brackets", first, "-"] for p in PLACES[:3]] == [line[:4] for line in lines[:3]]
    assert [["before-migrate"], ["after-migrate"], ["after-verify"]] == [line[:1] for line in lines[3:]]
    # what builds never sees the site's secrets, what runs beside the site does
    assert [False] * 3 + [True] * 3 == ["secret" in line for line in lines]
    assert "warning: sh -c" in said  # after-verify failed, and the deploy did not

    site.edit("brackets/views.py", (site.repository / "brackets/views.py").read_text() + UNHEALTHY)
    assert 20 == site.deploy().returncode
    bad = max(site.states())
    assert ["after-rollback", "broken_brackets", first, "verify", "secret"] == told()[-1]

    site.git("reset", "-q", "--hard", "HEAD~1")
    site.edit("requirements.txt", "Django==0.0.99\n")
    failed = site.deploy("--force")
    assert 1 == failed.returncode
    assert ["after-failure", "broken_brackets", max(site.states()), "install-requirements", "secret"] == told()[-1]

    messages = room.messages
    assert ["verified", "not-healthy", "requirements-not-installed"] == [m["result"] for m in messages]
    assert [0, 20, 1] == [m["exit_code"] for m in messages]
    assert messages[0]["to"] == first
    assert messages[0]["reason"] == "the beginning"
    assert f"{first} is live and verified" in messages[0]["text"]
    assert "switched back to" in messages[1]["site"]
    assert bad == messages[1]["to"]
    # a timer's next try of the same failure is no news
    tries = json.loads((site.root / "state" / "tries.json").read_text())
    (site.root / "state" / "tries.json").write_text(json.dumps({**tries, "next_at": 0}))
    site.ok("unhold")
    again = site.deploy("--if-changed")
    assert (1, "", "") == (again.returncode, again.stdout, again.stderr)
    assert 3 == len(room.told)

    for name in ("history", "log"):
        assert "a-secret-address" not in site.ok(name)

    # an address that does not answer is a warning, no failure
    secret.write_text("WEBHOOK_URL=http://127.0.0.1:1/a-secret-address\n")
    site.git("reset", "-q", "--hard", "HEAD~1")
    site.edit("NOTE", "well again\n")
    said = site.ok("deploy")
    assert "warning: nobody was told: the webhook could not be reached: Connection refused" in said
    assert "a-secret-address" not in said


def test_a_command_after_a_failure_runs_also_where_the_tree_is_not_there_yet(cache: Path) -> None:
    with small_shop(cache) as shop:
        told = shop.folder / "told"
        line = f"echo $BB_FAILED_STEP $PWD > {told}"
        command = f"\n[[run]]\nat = \"after-failure\"\nfolder = \"front\"\ncommand = ['sh', '-c', '{line}']\n"
        shop.write_config(**{"shared_files": '["lost.ini"]', "[run]": command})
        shop.own()
        assert 1 == shop.deploy().returncode
        assert f"require-shared {shop.root}/releases/{max(shop.states())}\n" == told.read_text()


def test_a_second_terminal_follows_a_run_to_its_end(live_site: Site) -> None:
    live_site.edit("NOTE", "followed\n")
    run = subprocess.Popen(
        live_site.command("deploy"), cwd="/", env=live_site.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **unprivileged(),
    )  # fmt: skip
    while not (live_site.root / "state" / "lock").read_bytes():
        assert run.poll() is None
    followed = live_site.ok("log", "-f")
    assert 0 == run.wait(60)
    assert "deploy_started" in followed.splitlines()[0]
    assert " static files are unchanged: " in followed
    assert "deploy_finished" in followed.splitlines()[-1]
    assert followed == live_site.ok("log", "-f")  # a run that is over is not waited for
    assert followed == live_site.ok("log", live_site.current())
    first = json.loads(live_site.ok("log", "--json").splitlines()[0])
    assert "deploy_started" == first["event"]


def test_what_changes_the_site_answers_scripts_in_json(live_site: Site) -> None:
    live = live_site.current()
    wanted = {"release": live, "revision": live_site.git("rev-parse", "HEAD"), "state": "verified"}
    assert wanted == json.loads(live_site.ok("restart", "--json"))
    assert wanted == json.loads(live_site.ok("deploy", "--json"))
    assert wanted == json.loads(live_site.ok("switch", live, "--json"))
    assert [(live, True)] == [(v["release"], v["keep"]) for v in json.loads(live_site.ok("prune", "--json"))][:1]
    failed = live_site.run("switch", "2001-01-01-00-00-00", "--json")
    facts = json.loads(failed.stdout)
    assert ("no-such-release", 11, 11) == (facts["error"], facts["exit_code"], failed.returncode)


def test_a_changed_environment_is_reported_and_a_restart_takes_it_up(live_site: Site) -> None:
    secrets = live_site.root / "shared" / "site.env"
    live_site.ok("restart")
    assert "environment changed" not in live_site.ok("status")
    secrets.write_text(secrets.read_text() + "ANOTHER=value\n")
    assert "web: RUNNING" in live_site.ok("status")
    remedy = f"bb-release --config {live_site.config} restart"
    assert f"started before its environment changed: {remedy}" in live_site.ok("status")
    assert f"warning: web was started before {secrets} changed" in live_site.ok("deploy")
    live_site.ok("restart")
    assert "environment changed" not in live_site.ok("status")


def test_a_shell_completes_releases_units_and_commands(live_site: Site) -> None:
    def complete(line: str) -> set[str]:
        words = line.split(" ")
        done = live_site.run(
            _BB_RELEASE_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)
        )  # fmt: skip
        return {word.partition(",")[2] for word in done.stdout.split()}

    config = f"bb-release --config {live_site.config}"
    assert {*live_site.states(), "previous"} == complete(f"{config} switch ")
    assert {"previous"} == complete(f"{config} show pre")
    assert {"web"} == complete(f"{config} restart ")
    assert {"rollback", "restart", "recover"} == complete(f"{config} r")
    assert set() == complete(f"bb-release --config {live_site.folder}/none.toml restart ")
    for shell in ("bash", "zsh", "fish"):
        script = live_site.ok("completion", shell)
        assert "_BB_RELEASE_COMPLETE" in script
    checked = subprocess.run(["bash", "-n"], input=live_site.ok("completion", "bash"), text=True, check=False)
    assert 0 == checked.returncode


def test_the_configuration_in_force_names_the_environment_and_no_value_of_it(live_site: Site) -> None:
    shown = live_site.ok("config")
    facts = json.loads(shown)
    assert {"SECRET_KEY", "DATABASE_PATH", "BB_RELEASE"} <= set(facts["site_environment_names"])
    assert "SECRET_KEY" not in facts["build_environment_names"]
    assert "a-secret-that-must-not-be-shown" not in shown
