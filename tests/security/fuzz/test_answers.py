"""What the site's own code may answer, with real processes: it is no answer, and nothing of it is done or kept."""

from __future__ import annotations

import json
import subprocess
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fuzz_answers import BETWEEN, FACTS, SEEDS, answering, deployment_in, stage_answers

from bb_release.actions import build
from bb_release.tools import django
from bb_release.tools.units import supervisord
from example_site import Site
from small_shop import small_shop

LIE = """
import json

json.dump = lambda answer, file: file.write(%r)
"""


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    with small_shop(cache) as made:
        made.edit("requirements.txt", "django>=5.2,<5.3\n")
        yield made


@pytest.fixture
def canary() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any stage, and leads a group of its own."""
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as running:
        yield running
        running.kill()


def test_a_stage_that_names_a_strangers_process_as_its_child_ends_nobody(
    canary: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    stage_says = BETWEEN.join((b'{"ready": true}', b'{"pid": %d}' % canary.pid, b'{"returncode": null}', b"x"))
    SEEDS["stage"].append(stage_says)  # a seed is always tried with a real process
    try:
        stage_answers(stage_says, tmp_path)
    finally:
        SEEDS["stage"].remove(stage_says)
    assert canary.poll() is None


def test_what_django_says_beyond_the_question_is_not_kept(tmp_path: Path) -> None:
    said = {**FACTS, "pending": [], "static_tree": "a tree that nobody collected", "warnings": ["none"]}
    with (tmp_path / "lock").open("w") as lock:
        deployment = replace(deployment_in(tmp_path, json.dumps(said).encode()), lock=lock.fileno())
        build.check_django(deployment)
    assert {**FACTS, "warnings": []} == deployment.release.manifest.facts


@pytest.mark.parametrize("lie", ['{"pending": "everything"}', "[][]", ""])
def test_a_site_that_answers_in_djangos_place_is_told_and_not_believed(shop: Site, lie: str) -> None:
    shop.write_config(stage="false")
    shop.edit("shop/wsgi.py", (shop.repository / "shop/wsgi.py").read_text() + LIE % lie)
    shop.own()
    done = shop.deploy()
    assert (1, "error: application-not-importable") == (done.returncode, done.stderr.splitlines()[0])
    assert "gave no answer that can be right when it was asked what it is" in done.stderr
    assert "nothing live was changed" in done.stderr
    assert ["failed"] == list(shop.states().values())


def test_an_answer_without_an_end_is_none() -> None:
    assert {} == django.read_answer(b" " * 100 + b"{}", lambda facts: facts == {})
    assert django.read_answer(b" " * django.LARGEST_ANSWER + b"{}", lambda facts: facts == {}) is None


def test_an_answer_of_supervisord_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = xmlrpc.client.dumps(("x" * 5000,), methodresponse=True).encode()

    def ask() -> object:
        way = supervisord.Transport(str(tmp_path / "s"), 5)
        return xmlrpc.client.ServerProxy("http://localhost", transport=way).supervisor.readLog()

    with answering(tmp_path / "s", said):
        assert "x" * 5000 == ask()
        monkeypatch.setattr(supervisord, "MOST_BYTES", 5000)
        with pytest.raises(ValueError, match="more than 5000 bytes"):
            ask()
