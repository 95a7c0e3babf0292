"""What a project does while it loads, noted in each Python that is there."""

from __future__ import annotations

import json
import subprocess

import pytest

from bb_release.tools import stage
from stage_projects import python_of, require_python

# How sys.argv can be looked at, and whether `check`, `collectstatic` and `migrate` would see another thing.
LOOKS = {
    "argv[0]": False, "'test' in argv": False, "argv.count('test')": False, "argv[1:2] == ['test']": False,
    "'test' in argv[1:]": False, "argv == []": False, "[] == argv": False,
    "argv[1]": True, "argv[-1]": True, "len(argv)": True, "list(argv)": True, "tuple(argv)": True, "[*argv]": True,
    "f(*argv)": True, "f(*argv[1:])": True, "' '.join(argv)": True, "'check' in argv": True, "argv[1:2] == ['check']":
    True, "str(argv)": True, "'%s' % argv": True, "argv + []": True, "[] + argv": True, "argv * 2": True, "2 * argv": True,
    "argv.copy()": True, "argv.index('check')": True, "list(reversed(argv))": True, "sorted(argv)": True, "set(argv)": True,
    "[word for word in argv]": True, "any('t' in word for word in argv)": True, "bool(argv)": True, "argv < ['manage.py', 'd']": True,
    "json.dumps(argv)": True, "copy.copy(argv)": True, "copy.deepcopy(argv)": True, "dict(enumerate(argv))": True,
    "argv.append('x')": True, "argv.extend([])": True, "argv.pop()": True, "argv.sort()": True, "argv.clear()": True,
    "argv.__setitem__(0, 'x')": True, "argv.insert(0, 'x')": True, "argv.remove('check')": True, "argv.reverse()": True,
}  # fmt: skip
LOOK = """\
import copy, json, sys
sys.path.insert(0, sys.argv[1])
import traps
def f(*words): return words
for look in json.loads(sys.argv[2]):
    noted, plain = [], ["manage.py", "check"]
    argv = traps.Words(list(plain), [["manage.py", "collectstatic", "--noinput"], ["manage.py", "migrate"]], noted.append)
    seen = eval(look)
    should = eval(look, globals(), {"argv": plain})
    argv.settle(["manage.py", "migrate"])
    end = list.copy(argv) == ["manage.py", "migrate"] and list(argv) == argv and len(argv) == 2
    print(json.dumps([look, bool(noted), seen == should or repr(seen), end]))
"""


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_a_look_at_the_command_line_is_noted_where_the_answer_is_not_the_same_for_all(version: str) -> None:
    require_python(version)
    done = subprocess.run(
        [python_of(version), "-c", LOOK, stage.PROGRAM.parent, json.dumps(list(LOOKS))],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [[look, noted, True, True] for look, noted in LOOKS.items()] == seen, done.stderr
