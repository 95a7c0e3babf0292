"""Words on the command line -> one action -> text or JSON and an exit code. The only translator of errors."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from bb_release import __version__, console
from bb_release.commands import begin, change, command_line, read
from bb_release.errors import Explained, UsageInvalid

BUG = 3
COMMANDS = (begin, change, read)  # importing them is what declares their commands


def main() -> None:
    """Run one command and leave with its exit code, also when the terminal is gone.

    The interpreter is not taken down piece by piece: no thread and no file waits for that, and it would be a seventh
    of what a timer's tick costs when nothing changed.
    """
    code = BUG
    try:
        fill_standard_streams()
        run_command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else BUG * bool(end.code)
    except BaseException:  # noqa: BLE001 - nobody after us would tell of it
        print_traceback()
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by who started us
            with suppress(OSError, ValueError):  # what is left in the buffer may have no reader
                stream.flush()
        os._exit(code)


def print_traceback() -> None:
    import traceback

    traceback.print_exc()


def fill_standard_streams() -> None:
    """A descriptor that was closed when we were started (`>&-`) would else be the lock's, and a program's output."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - for as long as we live
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115


def _path(error: click.ClickException) -> str:
    """The command that was typed wrongly, as far as it was understood."""
    context = getattr(error, "ctx", None)
    words = context.command_path.split()[1:] if context else []
    return " ".join(["bb-release", *words])


def run_command() -> None:
    """Run it; each expected failure becomes its exit code."""
    as_json = "--json" in sys.argv
    try:
        command_line.main(standalone_mode=False)
    except Explained as error:
        if error.told_before:
            sys.exit(error.exit_code)
        if as_json:
            with suppress(OSError):  # nobody reads any more; the exit code still says what happened
                console.print_json(console.error_facts(error))
        console.print_error(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        console.print_error(UsageInvalid(error.format_message(), remedy=f"{_path(error)} --help lists what there is"))
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - whatever is left is a bug of ours
        print_traceback()
        console.print_line(f"this is a bug in bb-release {__version__}: {type(error).__name__}")
        sys.exit(BUG)
