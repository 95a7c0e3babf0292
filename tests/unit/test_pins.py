"""What requirements and lock files say, by their text."""

from __future__ import annotations

import pytest

from bb_release.tools import pins as subject


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("requirements.txt", "# x\nDjango == 5.2 ; python_version > '3'\npsycopg[binary]==3.1 # y\n-r other.txt\n"
         "typing_extensions>=4\nzope.interface==1 \\\n    --hash=sha256:aa\nx @ git+https://h/x@1\n",
         {"django": "5.2", "psycopg": "3.1", "typing-extensions": "typing_extensions>=4", "zope-interface": "1",
          "x": "x @ git+https://h/x@1"}),
        ("uv.lock", '[[package]]\nname = "Django"\nversion = "5.2"\n[[package]]\nname = "own"\n', {"django": "5.2", "own": ""}),
        ("pylock.toml", '[[packages]]\nname = "django"\nversion = "5.2"\n', {"django": "5.2"}),
        ("sub/Pipfile.lock", '{"default": {"django": {"version": "==5.2"}}}', {"django": "5.2"}),
        ("pyproject.toml", '[project]\ndependencies = ["django==5.2", "x"]\n', {"django": "5.2", "x": "x"}),
        ("uv.lock", "[[package", {}), ("Pipfile.lock", "[]", {}), ("uv.lock", "package = [1]", {}), ("requirements.txt", "", {}),
    ],
)  # fmt: skip
def test_each_format_gives_names_and_versions(file: str, text: str, expected: dict[str, str]) -> None:
    assert expected == subject.pins(file, text)


def test_included_files_are_named() -> None:
    assert ["base.txt", "b/c.txt", "d.txt"] == subject.included(
        "-r base.txt # x\n--requirement b/c.txt\n-rd.txt\n-r https://h/x\nx==1\n#-r no.txt\n"
    )
