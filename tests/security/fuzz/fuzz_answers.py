"""Targets for what other programs answer: git, ssh, the site's own Django, the stage, supervisord, Celery, /proc.

The programs of the site are real here: a Python that is none answers what the fuzzer made.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import xmlrpc.client
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bb_release.actions import answers, build, migrations, static, static_links
from bb_release.errors import ReleaseError
from bb_release.log import RunLog
from bb_release.model import release as releases
from bb_release.model.app import App, Health
from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import (
    celery,
    django,
    export,
    git_access,
    git_changes,
    git_failure,
    git_remote,
    host,
    mirror,
    signature,
    stage,
    submodules,
)  # fmt: skip
from bb_release.tools.bare import FULL_HASH
from bb_release.tools.process import ProcessFailed
from bb_release.tools.units import manager_of

Target = Callable[[bytes, Path], None]
BETWEEN = b"\n=====\n"
NAME = "2026-01-01-00-00-00"
HASH = "1" * 40


def kind_and_text(data: bytes) -> tuple[str, bytes]:
    kind, _, rest = data.partition(b"\n")
    return kind.decode("ascii", "replace"), rest


def ls_tree(said: str) -> None:
    assert all(FULL_HASH.match(commit) for commit in export.read_tree(said)[1].values())


def ls_remote(said: str) -> None:
    assert all(name and FULL_HASH.match(found) for name, found in mirror.read_listed(said).items())


def symref(said: str) -> None:
    branch = git_remote.read_branch(said)
    assert not branch.startswith("-")
    assert ".." not in branch
    assert branch.isascii()


def gitmodules(said: str) -> None:
    for url in submodules.read_urls(said, "git@git.example.org:a/b.git").values():
        git_access.check_url(url, allow_file=False)
        assert url.isprintable()
        assert not url.startswith("-")


def diff_tree(said: str) -> None:
    assert all(path for _, path in git_changes.read_changes(said))


def count(said: str) -> None:
    assert git_changes.read_count(said) >= 0


def ssh_settings(said: str) -> None:
    assert 0 < git_failure.read_reached(said, "git.example.org", None)[1] < 65536


def ssh_keys(said: str) -> None:
    assert all(git_failure.fingerprint(line).startswith("SHA256:") for line in git_failure.read_keys(said))


def verdict(said: str) -> None:
    assert not signature.read_verdict(said) or 'Good "git" signature' in said or "VALIDSIG" in said


def failure(said: str) -> None:
    error = ProcessFailed(["git"], "ended with exit code 128", said, 128)
    raise git_failure.not_updated("ssh://git@127.0.0.1:1/a.git", git_access.Access(), error)


SAYINGS = {
    "ls-tree": ls_tree, "ls-remote": ls_remote, "symref": symref, "gitmodules": gitmodules, "diff-tree": diff_tree,
    "count": count, "ssh": ssh_settings, "keyscan": ssh_keys, "verify": verdict, "failure": failure,
}  # fmt: skip


def git_says(data: bytes, folder: Path) -> None:
    """The first line names the question."""
    kind, said = kind_and_text(data)
    SAYINGS.get(kind, ls_tree)(said.decode("utf-8", "replace"))


def deployment_in(folder: Path, answer: bytes) -> Deployment:
    """A release whose Python answers every question alike."""
    app = App(
        name="shop", repository="git@git.example.org:a/b.git", root=folder, stage=False,
        health=Health("http://127.0.0.1/health/", body="ok"),
    )  # fmt: skip
    (app.layout.releases / NAME).mkdir(parents=True)
    release = Release(app.layout.releases / NAME, Manifest(NAME, State.BUILDING)).mark()
    (release.venv / "bin").mkdir(parents=True)
    release.tree.mkdir()
    (folder / "answer").write_bytes(answer)
    release.python.write_text('#!/bin/sh\ncat "$FROM" > "$TO"\n')
    release.python.chmod(0o755)
    env = {"FROM": str(folder / "answer"), "TO": str(django.answer_in_memory()), "PATH": "/usr/bin:/bin"}
    return Deployment(app, release, None, RunLog(folder / "log"), -1, env, {})


def django_answers(data: bytes, folder: Path) -> None:
    """The first line names the question; what is no answer of its kind is only tried once with a real program."""
    question, answer = kind_and_text(data)
    question = question if question in answers.KINDS else "facts"
    if len(data) % 16 and django.read_answer(answer, answers.KINDS[question]) is None:
        return
    with contextlib.ExitStack() as closing:
        deployment = replace(
            deployment_in(folder, answer), lock=closing.enter_context((folder / "lock").open("w")).fileno()
        )
        if question == "facts":
            build.check_django(deployment)
            static.collect_static(deployment)
        elif question == "migrations":
            migrations.plan_migrations(deployment)
            assert deployment.release.manifest.facts["pending"] == json.loads(answer)["pending"]
            migrations.require_migrated(deployment)
        elif question == "rehearse":
            build.rehearse(deployment)
        else:
            static_links.ask_again(deployment)
        facts = releases.read(deployment.release.folder).manifest.facts
        assert not set(facts) - {*answers.FACTS_KEPT, "warnings", "pending", "database"}


STAGE = """#!/usr/bin/python3 -IS
import os, socket, sys
if sys.argv[2] != "-":
    channel = socket.socket(fileno=int(sys.argv[2]))
    child = 0
    for packet in open(os.environ["FROM"], "rb").read().split(b"\\n=====\\n"):
        channel.send(packet.replace(b'"CHILD"', str(child).encode())[:100_000])
        message, descriptors, _, _ = socket.recv_fds(channel, 1 << 20, 1)
        for number in descriptors:
            os.close(number)
        if not message:
            break
        child = child or os.fork()
        if not child:
            os.setsid()
            sys.exit()
"""


def stage_answers(data: bytes, folder: Path) -> None:
    """Packet by packet, what a stage tells; the process is real, and says what the fuzzer made."""
    for packet in data.split(BETWEEN):
        try:
            code = stage.exit_code(stage.read_answer(packet))
        except stage.StageLost:
            continue
        assert code is None or -65 <= code < 256
    if data not in SEEDS["stage"] and zlib.crc32(data) % 50:  # a program for each would leave no time for others
        return
    (folder / "python").write_text(STAGE)
    (folder / "python").chmod(0o755)
    (folder / "packets").write_bytes(data)
    place = stage.Place(folder / "python", folder, {"FROM": str(folder / "packets")})
    try:
        with contextlib.suppress(ProcessFailed):
            stage.run(place, {"words": ["manage.py", "check"]}, timeout_seconds=0.5, low_priority=False, on_line=None)
    finally:
        stage.end()


@contextlib.contextmanager
def answering(path: Path, data: bytes) -> Iterator[None]:
    """A server on a unix socket whose every answer is the same."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(8)

        def answer() -> None:
            while True:
                line, _ = server.accept()
                with line, contextlib.suppress(OSError):
                    line.settimeout(1)
                    asked = b""
                    while b"</methodCall>" not in asked:  # head and body may come apart
                        part = line.recv(65536)
                        if not part:
                            return
                        asked += part
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(data)
                    line.sendall(head + data)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()


def supervisord_answers(data: bytes, folder: Path) -> None:
    with answering(folder / "s", data):
        ask_supervisord(folder / "s")


def ask_supervisord(path: Path) -> None:
    refusals = []
    for name in ("shop", "shop:*"):
        unit = manager_of(kind="supervisor", name=name, socket=str(path), stop_seconds=5, env={})
        for question, words in (
            (unit.state, ()), (unit.processes, ()), (unit.log_lines, ()), (unit.reload, ()), (unit.restart, ()),
            (unit.check_can, ("restart",)), (unit.starts_through, ("/srv/shop/current",)),
        ):  # fmt: skip
            try:
                question(*words)
            except ReleaseError as error:
                refusals.append(error)
    assert all(error.remedy for error in refusals)
    if len(refusals) >= 10:
        raise refusals[0]


def celery_answers(data: bytes, folder: Path) -> None:
    said = data.decode("utf-8", "replace")
    for pid in (*celery.read_workers(said), *celery.read_tasks(said).values()):
        assert isinstance(pid, int)
        assert pid > 0


def processes(data: bytes, folder: Path) -> None:
    """What a process of anybody's can make of its own name, words, environment and files."""
    comm, words, environ, maps = (data.split(BETWEEN) + [b""] * 4)[:4]
    place, kept = folder / "proc" / "4711", host.PROC
    place.mkdir(parents=True)
    (folder / "releases" / NAME).mkdir(parents=True)
    fields = b" S 1 4711 4711 0 -1 4194560 " + b"0 " * 12 + b"100 " + b"0 " * 20
    for name, content in (
        ("stat", b"4711 (" + comm[:15] + b")" + fields), ("comm", comm), ("cmdline", words), ("environ", environ),
        ("maps", maps),
    ):  # fmt: skip
        (place / name).write_bytes(content.replace(b"RELEASES", str(folder / "releases").encode()))
    host.PROC = folder / "proc"
    try:
        names, _ = host.release_of(4711, folder / "releases")
        used, _ = host.releases_in_use(folder / "releases")
        seen = host.evidence(4711, folder / "releases" / NAME)
        assert all("/" not in name for name in names)
        assert set(used) <= {NAME}
        assert seen
        assert not seen.inside
        assert seen.names <= seen.uses
        host.words_of(4711)
        host.program_of(4711)
        assert host.parent_of(4711) == 1
    finally:
        host.PROC = kept


FACTS = {
    "application": "shop.wsgi:application", "django": "5.2.8", "python": "3.11.2", "settings": "shop.settings",
    "static_root": "", "staticfiles": False, "static_sources": "", "static_way": "", "static_unknown": "x\ny",
}  # fmt: skip
PLAN = {"pending": ["shop.0002_x"], "applied": [], "unknown": ["shop.0003_y"], "listed": [["default", ["x"], []]]}
ANSWER = {"status": 200, "headers": [["Content-Type", "text/plain"]], "body": "ok"}
ODD = (None, 5, -1, 1e308, "\ud800", "\0", "a\nb", "\x1b[2J", [], [5], {}, True, "/" * 5000, "a" * 5000, [["a"]])
STATS = {"celery@host": {"pid": 4711}}
ACTIVE = {"celery@host": [{"name": "shop.tasks.send", "id": "1", "worker_pid": 4712}]}
PROGRAM = {
    "group": "shop", "name": "shop", "pid": 0, "start": 5, "statename": "RUNNING", "spawnerr": "", "status": 80,
    "description": "OK", "command": "/srv/shop/current/x",
}  # fmt: skip


def in_each_place(question: str, right: dict[str, object]) -> list[bytes]:
    """The right answer, and each of its values replaced by an odd one, or left out."""
    odd = [{**right, name: value} for name in right for value in ODD]
    cut = [{key: value for key, value in right.items() if key != name} for name in right]
    return [f"{question}\n{json.dumps(each)}".encode() for each in (right, *odd, *cut)]


def xml(value: object) -> bytes:
    return xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode()


KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIHjVvWTeCnjNYHwaEzXJ7oWw0qb0bD2vS0UG8Kz2mYq0"
SEEDS: dict[str, list[bytes]] = {
    "git": [
        f"ls-tree\n100644 blob {HASH}\ta b\tc\0120000 blob {HASH}\tl\0160000 commit {HASH}\tm\n\0".encode(),
        b"ls-tree\n160000 commit x\tm\0", b"ls-tree\n100644 blob\ta\0", b"ls-tree\nx", b"ls-tree\n\0\0",
        f"ls-remote\n{HASH}\trefs/heads/main\n{HASH}\trefs/tags/v1^{{}}\n{'2' * 64}\tHEAD\n".encode(),
        b"ls-remote\nwarning: x\nxyz\trefs/heads/main\n\t\n", b"symref\nref: refs/heads/main\tHEAD\n" + HASH.encode() + b"\tHEAD\n",
        b"symref\nref: refs/heads/--upload-pack=x\tHEAD\n", b"symref\nref: refs/heads/a..b\tHEAD\n", b"symref\n",
        b"gitmodules\nsubmodule.a.path\nvendor/a\0submodule.a.url\n../a.git\0submodule.b.c.path\nb\0",
        b"gitmodules\nsubmodule.a.path\n../../x\0submodule.a.url\n--upload-pack=x\0", b"gitmodules\nsubmodule.a.path\nx\0submodule.a.url\next::sh\0",
        b"gitmodules\nsubmodule..path\n\0submodule..url\n../../../..\0", b"diff-tree\nA\0a.txt\0M\0b\0", b"diff-tree\nA\0\0x", b"count\n12\n",
        b"count\n", b"count\n" + b"9" * 5000, "count\n\u0663".encode(), b"ssh\nhostname git.example.org\nport 2222\n", b"ssh\nport x\n",
        b"ssh\nport " + b"9" * 5000, f"keyscan\n# git.example.org:22 SSH-2.0\ngit.example.org ssh-ed25519 {KEY}\n".encode(),
        b"keyscan\nh ssh-rsa AAAAA\n", b"keyscan\nh ssh-rsa AAAA===\n", f"keyscan\nh;x\x1b ssh-rsa {KEY}".encode(),
        b'verify\nGood "git" signature for dev@example.org with ED25519 key SHA256:abc\n',
        b"verify\n[GNUPG:] GOODSIG 1 Dev <dev@example.org>\n[GNUPG:] VALIDSIG " + b"A" * 40 + b" 2026\n", b"verify\nGood",
        b"failure\nHost key verification failed.\r\n", b"failure\nPermission denied (publickey).", b"failure\nerror: certificate", b"failure\n\xff",
        b"failure\nREMOTE HOST IDENTIFICATION HAS CHANGED! SHA256:x.\nOffending key in \x1b/known:1", b"failure\ncould not read Username",
    ],
    "django": [
        *in_each_place("facts", FACTS), *in_each_place("migrations", PLAN), *in_each_place("rehearse", ANSWER),
        *in_each_place("static", {"static_sources": "a", "static_way": "b", "static_unknown": ""}),
        b"facts\n" + json.dumps({**FACTS, "pending": 5, "warnings": 5, "static_tree": "a", "static_key": "a"}).encode(),
        *(b"facts\n" + json.dumps({**FACTS, "staticfiles": True, "static_root": root}).encode()
          for root in ("", "static", "/", "/nowhere", "/proc/self/root", "/proc/1/root", "/dev/null/x", "/" + "a" * 300)),
        b"migrations\n" + json.dumps({**PLAN, "pending": []}).encode(), b"rehearse\n" + json.dumps({**ANSWER, "status": 301, "headers": [["Location", "https://x"]]}).encode(),
        b"facts\n", b"facts\n[", b"migrations\n" + b"[" * 100_000, b"rehearse\n\xff", b"facts\n5", b"migrations\n" + b"1" * 5000,
    ],
    "stage": [
        BETWEEN.join((b'{"ready": true}', b'{"pid": "CHILD"}', b'{"returncode": null}', b'{"returncode": 0}')),
        *(BETWEEN.join((b'{"ready": true}', b'{"pid": %s}' % pid)) for pid in (b"1", b"0", b"-1", b'"x"', b"null", b"1e3", b"[]", b"9" * 30, b"true")),
        *(BETWEEN.join((b'{"ready": true}', b'{"pid": "CHILD"}', b'{"returncode": %s}' % code)) for code in (b"9999", b'"x"', b"[]", b"true", b"-300", b"1.5")),
        b'{"against": 5}', b'{"against": ["x"]}', b'{"against": "it says \\u001b[2J no"}', b"5", b"[]", b"", b"[" * 60_000, b"\xff", b'{"error": 5}',
        BETWEEN.join((b'{"ready": true}', b'{"error": {}}')), BETWEEN.join((b'{"ready": true}', b"x")), BETWEEN.join((b"{}", b"{}", b"{}")),
    ],
    "supervisor": [
        xml(PROGRAM), xml([PROGRAM, PROGRAM]), *(xml({**PROGRAM, name: value}) for name in PROGRAM for value in ("x", -1, 7, [], {}, 2**31 - 1)),
        xml([]), xml([1]), xml(["text", 4, False]), xml(""), xml(5), xml(None), b"", b"<", b"<methodResponse/>", b"\xff", b"\x1f\x8b",
        b"<?xml version='1.0'?><methodResponse><params><param><value><int>x</int></value></param></params></methodResponse>",
        b"<?xml version='1.0'?><methodResponse><params><param><value><struct><member><value>x</value></member></struct></value></param></params></methodResponse>",
        b"<?xml version='1.0'?><methodResponse><fault><value><struct><member><name>faultCode</name><value><array><data/></array></value></member>"
        b"<member><name>faultString</name><value>x</value></member></struct></value></fault></methodResponse>",
        b"<?xml version='1.0'?><methodResponse><fault><value>x</value></fault></methodResponse>",
        b"<?xml version='1.0'?><methodResponse><params><param><value><double>x</double></value></param></params></methodResponse>",
        b"<?xml version='1.0'?><methodResponse><params><param><value><bigdecimal>x</bigdecimal></value></param></params></methodResponse>",
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><methodResponse><params><param><value>&b;</value></param></params></methodResponse>",
    ],
    "celery": [
        b"shop says hello\n" + json.dumps(STATS).encode(), json.dumps(ACTIVE).encode(), b"", b"{", b"{}", b'{"a": 5}', b'{"a": {"pid": "x"}}', b'{"a": {"pid": -1}}',
        b'{"a": {"pid": true}}', b'{"a": [5]}', b'{"a": [{"worker_pid": "x"}]}', b'{"a": [{"worker_pid": null}]}', b'{"a":' * 50_000, b'{"a": ' + b"1" * 5000 + b"}",
    ],
    "process": [
        BETWEEN.join((b"gunicorn", b"RELEASES/" + NAME.encode() + b"/venv/bin/python\0-m\0gunicorn\0", b"BB_RELEASE=" + NAME.encode() + b"\0PATH=/\0", b"RELEASES/x/y")),
        BETWEEN.join((b"a) Z 1 (b", b"RELEASES/../..\0", b"BB_RELEASE=\0BB_ROOT=\0BB_RELEASE", b"")), b"\n\0\xff", b"", BETWEEN.join((b")", b"\0\0", b"BB_RELEASE=///\0", b"\xff")),
    ],
}  # fmt: skip
TARGETS: dict[str, Target] = {
    "git": git_says, "django": django_answers, "stage": stage_answers, "supervisor": supervisord_answers,
    "celery": celery_answers, "process": processes,
}  # fmt: skip
