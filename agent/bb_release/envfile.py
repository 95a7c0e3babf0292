"""Reads systemd's EnvironmentFile syntax as systemd does, but says what systemd would drop silently.

No message holds a value, nor a name that is not valid: it may be the second line of a secret.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

from bb_release.errors import ConfigurationInvalid

LARGEST = 1_000_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXPORT = re.compile(r"export\s")
# what systemd drops from the environment: every control character but tab and newline
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NEWLINE = "\n\r"
_SPACE = " \t\n\r"


class _Reader:
    """systemd's own machine of states (its env-file.c), one character at a time."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.mistakes: list[tuple[int, str]] = []
        self.line = 1
        self.start = 1  # the line where the assignment began
        self.opened = 1  # the line where the quote began
        self.key = ""
        self.value: list[str] = []
        self.blank = 0  # how much of the value's end is whitespace that systemd strips
        self.state = "before-key"

    def wrong(self, line: int, what: str) -> None:
        self.mistakes.append((line, what))

    def finish_key(self) -> None:
        """A line without `=` ended."""
        self.wrong(self.start, "should be NAME=value")
        self.key = ""

    def finish(self) -> None:
        """An assignment ended: keeps it, or notes what is wrong with it."""
        name, value = self.key.rstrip(_SPACE), "".join(self.value)
        if self.state == "value" and self.blank:
            value = value[: -self.blank]
        if _EXPORT.match(name):
            self.wrong(self.start, "`export` is the shell's, systemd ignores such a line: leave the word out")
        elif not _NAME.fullmatch(name):
            self.wrong(self.start, "the name should be letters, digits and _, the first no digit")
        elif _CONTROL.search(value):
            self.wrong(self.start, f"{name} holds a control character")
        else:
            self.values[name] = value
        self.key, self.value, self.blank = "", [], 0

    def feed(self, char: str) -> None:
        """One character."""
        getattr(self, "in_" + self.state.replace("-", "_"))(char)
        if char == "\n":
            self.line += 1

    def in_before_key(self, char: str) -> None:
        if char in "#;":
            self.state = "comment"
        elif char not in _SPACE:
            self.state, self.key, self.start = "key", char, self.line

    def in_comment(self, char: str) -> None:
        if char == "\\":
            self.state = "comment-escape"
        elif char in _NEWLINE:
            self.state = "before-key"

    def in_comment_escape(self, char: str) -> None:
        self.state = "comment"
        if char in _NEWLINE:
            self.state = "before-key"
            # systemd before 254 takes the next line for a comment too, later ones do not
            self.wrong(self.line, "a comment should not end in a backslash: systemds differ on what follows")

    def in_key(self, char: str) -> None:
        if char in _NEWLINE:
            self.finish_key()
            self.state = "before-key"
        elif char == "=":
            self.state = "before-value"
        else:
            self.key += char

    def in_before_value(self, char: str) -> None:
        if char in _NEWLINE:
            self.finish()
            self.state = "before-key"
        elif char in "'\"":
            self.state, self.opened = ("single" if char == "'" else "double"), self.line
        elif char == "\\":
            self.state = "escape"
        elif char not in _SPACE:
            self.state = "value"
            self.value.append(char)

    def in_value(self, char: str) -> None:
        if char in _NEWLINE:
            self.finish()
            self.state = "before-key"
        elif char == "\\":
            self.state, self.blank = "escape", 0
        else:
            self.value.append(char)
            self.blank = self.blank + 1 if char in _SPACE else 0

    def in_escape(self, char: str) -> None:
        self.state = "value"
        if char not in _NEWLINE:
            self.value.append(char)

    def in_single(self, char: str) -> None:
        if char == "'":
            self.state = "before-value"
        else:
            self.value.append(char)

    def in_double(self, char: str) -> None:
        if char == '"':
            self.state = "before-value"
        elif char == "\\":
            self.state = "double-escape"
        else:
            self.value.append(char)

    def in_double_escape(self, char: str) -> None:
        self.state = "double"
        if char in '"\\`$':
            self.value.append(char)
        elif char not in _NEWLINE:
            self.value += ["\\", char]

    def end(self) -> None:
        """The text ended, perhaps in the middle of something."""
        if self.state == "key":
            self.finish_key()
        elif self.state in ("single", "double", "double-escape"):
            self.wrong(self.opened, "the quote that opens here is never closed")
        elif self.state == "escape":
            self.wrong(self.line, "a backslash at the end continues on a line that is not there")
        elif self.state in ("before-value", "value"):
            self.finish()


def parse(text: str, *, source: str) -> dict[str, str]:
    """The variables of the text; a later line wins. `source` is named in the error.

    Raises ConfigurationInvalid with all mistakes at once, each with its line.
    """
    reader = _Reader()
    for char in text:
        reader.feed(char)
    reader.end()
    if reader.mistakes:
        raise _invalid(source, [f"line {line}: {what}" for line, what in sorted(reader.mistakes)])
    return reader.values


def read(path: Path, *, private: bool = True) -> dict[str, str]:
    """The variables of the file.

    Its group may read it, since the site's user and the deploying one may share a group; nobody else may, where it
    is to be `private`. One that a unit reads may hold no secret, and be open: then only no other may write it.
    Raises ConfigurationInvalid when it is missing, open to others, or has mistakes.
    """
    quoted = shlex.quote(str(path))
    try:
        # O_NONBLOCK: a named pipe must not hold us; the mode is asked of what was opened, not of its name
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigurationInvalid(f"{path} is not a file.", remedy="Name a file of NAME=value lines.")
            if not private and mode & stat.S_IWOTH:
                raise ConfigurationInvalid(
                    f"{path} can be written by everyone on this host.",
                    remedy=f"Read it through, then: chmod o-w {quoted}",
                )
            if private and mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
                raise ConfigurationInvalid(
                    f"{path} holds secrets and is open to others (mode {stat.S_IMODE(mode):04o}).",
                    remedy=f"chmod 600 {quoted} (or 640, when its group should read it)",
                )
            content = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigurationInvalid(
            f"{path} does not exist.", remedy=f"Make it with mode 0600: install -m 600 /dev/null {quoted}"
        ) from None
    except OSError as error:
        raise ConfigurationInvalid(
            f"{path} cannot be read: {error.strerror}.", remedy=f"Look at it: ls -l {quoted}"
        ) from None
    if len(content) > LARGEST:
        raise ConfigurationInvalid(f"{path} is larger than 1 MB.", remedy="Name a file of NAME=value lines.")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _invalid(str(path), [f"line {line}: is not UTF-8"]) from None
    return parse(text, source=str(path))


def _invalid(source: str, mistakes: list[str]) -> ConfigurationInvalid:
    """The one error of all mistakes."""
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return ConfigurationInvalid(f"{source} has {count}.", remedy=f"Correct {source}.", details="\n".join(mistakes))
