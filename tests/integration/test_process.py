"""The one door to other programs, with real programs behind it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from bb_release.tools import process
from bb_release.tools.process import Mask, ProcessFailed, run

LEAKS = ("GIT_DIR", "PYTHONPATH", "PIP_INDEX_URL", "DJANGO_SETTINGS_MODULE")


def python(code: str, *words: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, words)]


def shell(code: str, *words: object) -> list[str]:
    return ["/bin/sh", "-c", code, "sh", *map(str, words)]


def runs(pid: int) -> bool:
    """Does it run? A zombie that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)


# the environment


def test_a_program_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LEAKS:
        monkeypatch.setenv(name, "leaked")
    seen = dict(line.split("=", 1) for line in run(["env"], capture=True).output.splitlines())
    assert set() == set(LEAKS) & set(seen)
    assert {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR"} == set(seen) - {"XDG_RUNTIME_DIR"}
    assert process.PATH == seen["PATH"]


def test_a_name_is_passed_on_only_when_asked_for_and_what_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("NO_PROXY", "ours")
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    built = process.environment({"NO_PROXY": "given"}, passed=["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"])
    assert ("http://proxy", "given") == (built["HTTPS_PROXY"], built["NO_PROXY"])
    assert "HTTP_PROXY" not in built
    assert "HTTPS_PROXY" not in process.environment()


def test_the_given_environment_is_the_whole_one() -> None:
    assert "A=1\n" == run(["/usr/bin/env"], env={"A": "1"}, capture=True).output


# how it ends


def test_a_time_limit_ends_the_whole_tree(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(ProcessFailed, match=r"did not end within 3 s") as caught:
        run(shell('echo begun; sleep 60 & echo $! > "$1"; wait', note), timeout_seconds=3)
    assert time.monotonic() - began < 30
    assert ("begun", None) == (caught.value.output, caught.value.returncode)
    assert ends(int(note.read_text()))


def test_a_time_limit_also_holds_for_a_program_that_closed_its_output(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(ProcessFailed, match="did not end within"):
        run(shell('echo $$ > "$1"; exec sleep 60 >&- 2>&-', note), timeout_seconds=3)
    assert ends(int(note.read_text()))


def test_a_grandchild_that_will_not_be_told_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(ProcessFailed, match="did not end within"):
        run(shell('sh -c \'trap "" TERM; echo $$ > "$1"; sleep 60\' sh "$1"; true', note), timeout_seconds=3)
    assert ends(int(note.read_text()))


def test_an_exception_while_it_runs_ends_the_whole_tree() -> None:
    seen: list[int] = []

    def interrupt(line: str) -> None:
        seen.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(shell("sleep 60 & echo $!; wait"), on_line=interrupt)
    assert ends(seen[0])
    assert [] == process._running


def test_an_exit_code_is_the_reason_and_the_last_output_is_kept() -> None:
    with pytest.raises(ProcessFailed, match="ended with exit code 3") as caught:
        run(shell("echo out; echo err >&2; exit 3"))
    assert (3, "out\nerr") == (caught.value.returncode, caught.value.output)
    assert "/bin/sh" == caught.value.argv[0]


def test_a_signal_is_the_reason() -> None:
    with pytest.raises(ProcessFailed, match="was ended by signal 9, Killed") as caught:
        run(shell("kill -KILL $$"))
    assert -signal.SIGKILL == caught.value.returncode


@pytest.mark.parametrize(
    ("argv", "cwd"),
    [(["/nowhere/program"], "/"), (["no-such-program"], "/"), (["/bin/true"], "/nowhere"), (["/"], "/")],
)
def test_a_program_that_cannot_be_started_says_so(argv: list[str], cwd: str) -> None:
    with pytest.raises(ProcessFailed, match="could not be started: (No such file|Permission denied)") as caught:
        run(argv, cwd=cwd)
    assert caught.value.returncode is None


def test_without_check_an_exit_code_is_an_answer() -> None:
    assert 7 == run(shell("exit 7"), check=False).returncode


# what it says


def test_lines_come_in_order_as_they_are_written() -> None:
    lines: list[str] = []
    run(shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf last"), on_line=lines.append)
    assert ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3", "last"] == lines


def test_no_line_is_lost_of_a_long_output_and_only_the_last_are_kept() -> None:
    lines: list[str] = []
    done = run(python("for i in range(50_000): print(i)"), on_line=lines.append)
    assert [str(i) for i in range(50_000)] == lines
    assert lines[-process.KEPT_LINES :] == done.output.splitlines()


def test_what_never_ends_its_line_is_told_in_pieces() -> None:
    lines: list[str] = []
    run(python("import sys; sys.stdout.write('x' * 3_000_000)"), on_line=lines.append)
    assert 3_000_000 == sum(line.count("x") for line in lines)
    assert len(lines) - 1 == sum(line.endswith("…") for line in lines) == sum(line.startswith("…") for line in lines)
    assert max(map(len, lines)) <= 2 * process.LONGEST_LINE


def test_bytes_that_are_no_text_do_no_harm() -> None:
    lines: list[str] = []
    run(shell(r"printf 'a\377b\r\n\303\251\n'"), on_line=lines.append)
    assert ["a�b", "é"] == lines


def test_capture_keeps_stdout_apart_and_whole() -> None:
    lines: list[str] = []
    done = run(
        python("import sys; print('x' * 200_000); print('note', file=sys.stderr)"), capture=True, on_line=lines.append
    )
    assert "x" * 200_000 + "\n" == done.output
    assert ["note"] == lines


def test_a_failed_capture_tells_of_stderr_or_else_of_stdout() -> None:
    with pytest.raises(ProcessFailed) as caught:
        run(shell("echo out; echo err >&2; exit 1"), capture=True)
    assert "err" == caught.value.output
    with pytest.raises(ProcessFailed) as caught:
        run(shell("echo out; exit 1"), capture=True)
    assert "out\n" == caught.value.output


def test_what_is_captured_has_a_limit_and_the_program_that_goes_on_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_CAPTURED", 1_000_000)
    began = time.monotonic()
    with pytest.raises(ProcessFailed, match="said more than 1000000 bytes"):
        run(["/usr/bin/yes"], capture=True, timeout_seconds=60)
    assert time.monotonic() - began < 30


# its descriptors


def test_stdin_is_closed_to_a_program_unless_it_is_given_something() -> None:
    assert "0" == run(shell("wc -c"), timeout_seconds=10).output.strip()
    assert "given" == run(["/bin/cat"], stdin=b"given", capture=True).output


def test_a_program_that_does_not_read_what_it_is_given_has_only_its_exit_code() -> None:
    assert 0 == run(["/bin/true"], stdin=b"x" * 1_000_000).returncode
    with pytest.raises(ProcessFailed, match="exit code 1"):
        run(["/bin/false"], stdin=b"x" * 1_000_000)


@pytest.mark.parametrize("capture", [True, False])
def test_a_grandchild_that_keeps_the_pipe_open_does_not_hang_us(capture: bool) -> None:
    began = time.monotonic()
    done = run(shell("sleep 60 & echo $!"), capture=capture)
    assert time.monotonic() - began < 30
    pid = int(done.output)
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_grandchild_that_never_stops_talking_does_not_hang_us() -> None:
    began = time.monotonic()
    lines: list[str] = []
    run(shell("(while :; do echo talk; sleep 0.02; done) & echo $!"), on_line=lines.append, timeout_seconds=30)
    assert time.monotonic() - began < 29
    pid = next(int(line) for line in lines if line.isdigit())
    assert ends(pid) or os.kill(pid, signal.SIGKILL) is None


def test_a_program_inherits_the_descriptors_it_is_handed_and_no_other(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as handed, (tmp_path / "b").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)
        code = "import os; print(*sorted(os.listdir('/proc/self/fd'), key=int))"
        seen = run(python(code), pass_fds=[handed.fileno()], capture=True).output.split()
        assert str(handed.fileno()) in seen
        assert str(kept.fileno()) not in seen


def test_low_priority_is_asked_for(tmp_path: Path) -> None:
    code = "import os, time; time.sleep(0.2); print(os.getpriority(os.PRIO_PROCESS, 0))"
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert max(10, ours) == int(run(python(code), low_priority=True).output)


def test_nothing_is_left_running_on_the_way_out() -> None:
    lines: list[str] = []
    failures: list[BaseException] = []

    def call() -> None:
        try:
            run(shell("echo $$; sleep 60"), on_line=lines.append)
        except (ProcessFailed, ValueError, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=call, daemon=True)
    with process.never_left_running():
        thread.start()
        while not lines:
            time.sleep(0.01)
    assert ends(int(lines[0]))
    thread.join(5)


# secrets


def test_a_mask_hides_secrets_longest_first_and_leaves_short_ones() -> None:
    mask = Mask(["password", "password-longer", "short", ""])
    assert "a **** b **** c short" == mask("a password-longer b password c short")
    assert "text" == Mask()("text")
