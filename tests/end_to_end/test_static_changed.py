"""Where some static files have changed, Django is shown those alone; what comes of it is what it makes of all."""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_static_links import Tree, times, tree
from test_static_sources import COMPRESSED, MANIFEST, PLAIN, WHITENOISE, stored

from bb_release.tools import django, links
from bb_release.tools.process import ProcessFailed
from stage_projects import VERSIONS, Place, both, environment, python_of, require_python, when_ready

STEPS = 6
STATIC = "shop/static/shop"
OWN = 4  # style sheets that name no other: a change of the others has to find those that name them


@dataclass
class Shop:
    """One project in two places: in one everything is collected, in the other what has changed."""

    alone: Place
    staged: Place
    names: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, text: str) -> None:
        self.names[name] = text
        for place in (self.alone, self.staged):
            path = place.folder / STATIC / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def drop(self, name: str) -> None:
        del self.names[name]
        for place in (self.alone, self.staged):
            path = place.folder / STATIC / name
            path.unlink()
            if not list(path.parent.iterdir()):
                path.parent.rmdir()

    def in_full(self) -> Tree:
        """What collectstatic makes of all. Raises ProcessFailed."""
        made = self.alone.folder / "collected"
        if made.exists():
            shutil.rmtree(made)
        self.alone.manage(*django.COLLECT_STATIC)
        return tree(made)

    def changed(self) -> tuple[Tree, int]:
        """What is made where the live release has what is in the other place now; how many files Django has copied."""
        made, copy = self.staged.folder / "collected", self.staged.folder / "copy"
        for folder in (made, copy):
            shutil.rmtree(folder, ignore_errors=True)
        before = self.alone.folder / "collected"
        for path in before.rglob("*.gz"):  # WhiteNoise gives what it writes the time of what it compresses
            os.utime(path, ns=(10**18, 10**18))
        links.link_tree(before, copy)
        was, written = tree(before), times(before)
        del self.staged.lines[:]
        self.staged.manage(*django.COLLECT_STATIC, collected=str(copy))
        assert (was, written) == (tree(before), times(before)), "what the live release has was written to"
        (copied,) = re.findall(r"^(\d+) static files? copied", "\n".join(self.staged.lines), re.MULTILINE)
        return tree(made), int(copied)

    def is_the_same(self) -> int:
        """Collect what has changed, then all: the same has to come of it. How many files Django has copied."""
        made, copied = self.changed()
        assert self.in_full() == made
        return copied


@contextmanager
def shop(folder: Path, python: Path, files: dict[str, str]) -> Iterator[Shop]:
    with both(folder, python, files) as (alone, staged):
        made = Shop(alone, staged)
        for number in range(OWN):
            made.put(f"{number}.css", f"a {{ background: url(pictures/{number}.svg) }}\n" + "/* a rule */\n" * 40)
            made.put(f"pictures/{number}.svg", f"<svg id='{number}'/>\n" * 30)
            made.put(f"code/{number}.js", f"let a = {number};\n//# sourceMappingURL={number}.js.map\n")
            made.put(f"code/{number}.js.map", f'{{"version": 3, "mappings": "{number}"}}\n')
        made.put("deep/er/first.css", '@import "../../0.css";\n@import url("/static/shop/1.css");\n')
        made.put("deep/er/second.css", '@import "first.css";\nb { cursor: url("../../pictures/2.svg#x") }\n')
        made.put("all.css", '@import "deep/er/second.css";\n@import "3.css";\n')
        # Django writes the hash of what 2.css is before it is adjusted (HashedFilesMixin._stored_name)
        made.put("query.css", '@import "2.css?v=3";\nb { background: url(pictures/3.svg) }\n')
        yield made


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return environment(tmp_path_factory.mktemp("python"), sys.executable, cache, "django~=5.2.0", "whitenoise")


@pytest.mark.parametrize("storage", [PLAIN, MANIFEST, WHITENOISE, COMPRESSED])
@pytest.mark.parametrize(("version", "requirement"), VERSIONS, ids=[" ".join(v) for v in VERSIONS])
def test_whatever_has_changed_comes_out_as_if_all_were_collected(
    version: str, requirement: str, storage: str, tmp_path: Path, cache: Path
) -> None:
    require_python(version)
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    python = environment(tmp_path / "venv", python_of(version), cache, requirement, "whitenoise", "brotli")
    # of two files with one name the first is collected, and it is the other one that may change
    files = {
        **stored(storage, more="STATICFILES_DIRS = [BASE_DIR / 'first', ('more', BASE_DIR / 'second')]\n"),
        "first/shop/3.css": "a { color: red }\n",
        "second/code/3.js": "let b = 1;\n",
    }
    with shop(tmp_path, python, files) as made:
        made.in_full()
        assert 0 == made.is_the_same(), "nothing has changed"
        for _ in range(STEPS):
            for _ in range(chance.randrange(1, 3)):
                change(made, chance)
            assert made.is_the_same() < len(made.names), "Django has seen all"


def change(made: Shop, chance: random.Random) -> None:
    """One file is edited, added, removed with what names it, or gets another name."""
    name = chance.choice([name for name in sorted(made.names) if name not in ("all.css", "deep/er/second.css")])
    number = chance.randrange(10**6)
    match chance.choice(["edit", "edit", "add", "rename", "unname"]):
        case "edit":
            made.put(name, f"/* {number} */\n" + made.names[name])
        case "add":
            made.put(f"new/{number}.css", f"i {{ cursor: url(../{chance.choice(sorted(made.names))}) }}\n")
        case "rename":
            text, new = made.names[name], f"{name.rpartition('.')[0]}-{number}.{name.rpartition('.')[2]}"
            made.drop(name)
            made.put(new, text)
            old = rf"(?<![\w-]){re.escape(name.rpartition('/')[2])}(?![\w.-])"
            for other, content in list(made.names.items()):
                made.put(other, re.sub(old, new.rpartition("/")[2], content))
        case "unname":
            made.put("all.css", f'@import "deep/er/second.css";\n/* {number} */\n')


def test_what_names_a_changed_file_is_made_anew_and_nothing_else(python: Path, tmp_path: Path) -> None:
    with shop(tmp_path, python, stored(MANIFEST)) as made:
        made.in_full()
        made.put("pictures/0.svg", "<svg/>\n")
        # the picture, 0.css that shows it, first.css that imports 0.css, second.css that imports first.css, all.css
        assert 5 == made.is_the_same()
        made.put("all.css", made.names["all.css"] + "/* more */\n")
        assert 1 == made.is_the_same()
        made.put("code/1.js.map", "{}")
        assert 2 == made.is_the_same()
        made.put("2.css", "a { color: red }\n")
        assert 2 == made.is_the_same()  # and query.css, by the hash of its source


def test_a_finder_all_of_whose_files_are_hidden_by_others_finds_nothing(python: Path, tmp_path: Path) -> None:
    files = {
        **stored(MANIFEST, more="STATICFILES_DIRS = [BASE_DIR / 'first']\n"),
        "first/shop/site.css": "a { color: red }\n",
        "first/shop/more.css": "b { color: red }\n",
    }
    with both(tmp_path, python, files) as (alone, staged):
        made = Shop(alone, staged)
        made.in_full()
        for place in (alone, staged):
            (place.folder / "first/shop/more.css").write_text("b { color: blue }\n")
        assert 1 == made.is_the_same()


def a_folder_that_is_named(made: Shop) -> None:
    made.put("fonts/x.woff", "x")
    made.put("0.css", "a { src: url(fonts) }\n")


def odd_names(made: Shop) -> None:
    made.put("pictures/100%25.svg", "<svg/>\n")
    made.put("0.css", 'a { src: url("pictures/100%2525.svg") }\n')


ODD = {
    "a folder goes that a style sheet names": (a_folder_that_is_named, lambda made: made.drop("fonts/x.woff")),
    "a name is not written as it is": (odd_names, lambda made: made.put("pictures/100%25.svg", "<svg id='1'/>\n")),
    "there is a file that nobody knows": (
        lambda made: None,
        lambda made: (made.alone.folder / "collected" / "shop" / "more.txt").write_text("x"),
    ),
    "nearly all has changed": (
        lambda made: [made.put(f"many/{n}.css", f"/* {n} */") for n in range(80)],
        lambda made: [made.put(f"many/{n}.css", f"/* {n} more */") for n in range(80)],
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_not_as_it_is_known_to_be_is_left_to_django_as_a_whole(case: str, python: Path, tmp_path: Path) -> None:
    begin, then = ODD[case]
    with shop(tmp_path, python, stored(MANIFEST)) as made:
        begin(made)
        outcome(made.in_full)
        then(made)
        first, second = outcome(made.changed), outcome(made.in_full)
        if isinstance(first, tuple):
            assert len(made.names) <= first[1], "Django has not seen all"
            first = first[0]
        assert first == second


def test_what_fails_as_a_whole_fails(python: Path, tmp_path: Path) -> None:
    """A file that is still named is gone."""
    with shop(tmp_path, python, stored(MANIFEST)) as made:
        made.in_full()
        made.drop("pictures/0.svg")
        for collect in (made.changed, made.in_full):
            with pytest.raises(ProcessFailed) as failed:
                collect()
            assert "pictures/0.svg' could not be found" in "".join(failed.value.output)


def test_only_hashed_files_that_are_kept_are_not_known_by_their_sources(python: Path, tmp_path: Path) -> None:
    files = stored(WHITENOISE, more="WHITENOISE_KEEP_ONLY_HASHED_FILES = True\n")
    with shop(tmp_path, python, files) as made:
        made.in_full()
        made.put("0.css", "a { color: red }\n")
        assert len(made.names) <= made.is_the_same()


def test_scripts_that_import_each_other_are_found_where_the_storage_looks_into_them(
    python: Path, tmp_path: Path
) -> None:
    patch = "from django.contrib.staticfiles.storage import HashedFilesMixin\n"
    files = {
        **stored(MANIFEST),
        **when_ready(f"{patch}HashedFilesMixin.support_js_module_import_aggregation = True"),
    }
    with shop(tmp_path, python, files) as made:
        made.put("code/main.js", 'import { a } from "./part.js";\n')
        made.put("code/part.js", "export const a = 1;\n")
        made.in_full()
        made.put("code/part.js", "export const a = 2;\n")
        assert 2 == made.is_the_same()


def test_a_source_with_the_name_that_anothers_result_gets_leaves_all_to_django(python: Path, tmp_path: Path) -> None:
    with shop(tmp_path, python, stored(WHITENOISE)) as made:
        made.in_full()
        hashed = next((made.alone.folder / "collected/shop").glob("0.*.css"))
        made.put(hashed.name, hashed.read_text())
        assert len(made.names) <= made.is_the_same()


def test_what_cannot_be_moved_into_place_ends_it_and_nothing_of_the_live_release_is_opened(
    python: Path, tmp_path: Path
) -> None:
    broken = (  # what is moved first has compressed files; the live release has the same
        "import os\nmove = os.rename\ndef rename(old, new):\n    move(old, new)\n    if os.path.isdir(new):\n"
        "        raise OSError(28, 'No space left on device')\nos.rename = rename"
    )
    with shop(tmp_path, python, {**stored(WHITENOISE), **when_ready(broken)}) as made:
        made.in_full()
        made.put("0.css", "a { color: red }\n")
        with pytest.raises(ProcessFailed) as failed:
            made.changed()
        assert "No space left on device" in "".join(failed.value.output)
        live = (made.alone.folder / "collected").rglob("*.gz")
        assert {10**18} == {path.stat().st_mtime_ns for path in live}, "WhiteNoise has written them"


def test_what_the_tree_has_in_static_root_stays(python: Path, tmp_path: Path) -> None:
    with shop(tmp_path, python, stored(WHITENOISE)) as made:
        made.in_full()
        made.put("0.css", "a { color: red }\n")
        copy, root = made.staged.folder / "copy", made.staged.folder / "collected"
        links.link_tree(made.alone.folder / "collected", copy)
        root.mkdir()
        (root / ".gitkeep").write_text("the tree's own")
        made.staged.manage(*django.COLLECT_STATIC, collected=str(copy))
        assert "the tree's own" == (root / ".gitkeep").read_text()
        assert (root / "shop/1.css").stat().st_nlink > 1
        (root / ".gitkeep").unlink()
        assert made.in_full() == tree(root)


def outcome(act: object) -> object:
    """What comes of it; of a failure the last line, without places and addresses."""
    try:
        return act()  # type: ignore[operator]
    except ProcessFailed as error:
        return re.sub(r"/\S+/(?=collected|shop)| at 0x\w+", "", error.output.splitlines()[-1])
