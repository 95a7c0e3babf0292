"""Static files that did not change are linked, and nobody can tell the difference from a full collectstatic."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bb_release.tools.links import HASHED
from example_site import Site

SETTINGS = "broken_brackets/settings.py"
STATIC = "brackets/static/brackets"
PLAIN = "django.contrib.staticfiles.storage.StaticFilesStorage"
MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
WHITENOISE = "whitenoise.storage.CompressedManifestStaticFilesStorage"
ALL = re.compile(r"all \d+ static files are unchanged: linked")
Tree = dict[str, tuple[int, str]]


class Collected:
    """A site whose static files are looked at after each deploy."""

    def __init__(self, site: Site, storage: str) -> None:
        self.site, self.storage = site, storage
        self.packages = "Django==5.2.18 whitenoise==6.12.0 Brotli==1.2.0"
        self.more_settings = ""
        site.bare = True
        site.write_config(keep="9")
        for name in ("one", "two", "three"):
            self.put(f"{name}.css", f".{name} {{ background: url(pictures/{name}.svg) }}\n" + "/* a rule */\n" * 50)
            self.put(
                f"pictures/{name}.svg", f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}">{"<g/>" * 50}</svg>\n'
            )
        self.put("all.css", "".join(f'@import "{name}.css";\n' for name in ("one", "two", "three")))
        self.put("root.css", "b { background: url(/assets/brackets/pictures/one.svg) }\n")
        (site.repository / "staticfiles").mkdir()
        (site.repository / "staticfiles/.gitkeep").write_text("")
        self.commit()

    @property
    def ahead(self) -> Path:
        """What was linked in advance, in the live release."""
        (ahead,) = (self.site.root / "current").resolve().glob(".static-ahead-*")
        return ahead

    def put(self, name: str, content: str) -> None:
        path = self.site.repository / STATIC / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def commit(self) -> None:
        """The settings and requirements as they are wanted now, and what else was changed."""
        repository = self.site.repository
        settings = (PROJECT_SETTINGS + self.more_settings).replace(MANIFEST, self.storage)
        (repository / SETTINGS).write_text(settings)
        requirements = REQUIREMENTS.replace("Django==5.2.19", "\n".join(self.packages.split()))
        (repository / "requirements.txt").write_text(requirements)
        balance = repository / "brackets/balance.py"
        balance.write_text(balance.read_text() + "\n# each time the code has changed too\n")
        self.site.commit("a change")

    def deploy(self) -> str:
        """Deploy; what the log of it says."""
        self.commit()
        self.site.ok("deploy")
        return self.site.ok("log")

    @property
    def root(self) -> Path:
        return (self.site.root / "current" / "app" / "staticfiles").resolve()

    def collected_in_full(self) -> Tree:
        """What collectstatic itself makes of this release in an empty place; then all is as it was."""
        aside = self.root.with_name("aside")
        root = self.root
        root.rename(aside)
        try:
            root.mkdir()
            shutil.copy2(aside / ".gitkeep", root)
            self.site.own(root)
            self.site.ok("manage", "--", "collectstatic", "--noinput", "--verbosity", "0")
            return tree(root)
        finally:
            shutil.rmtree(root)
            aside.rename(root)


def tree(top: Path) -> Tree:
    """Mode and content of all that is there."""
    return {
        str(path.relative_to(top)): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [top, *sorted(top.rglob("*"))]
    }


REPOSITORY = Site.project
PROJECT_SETTINGS = (REPOSITORY / SETTINGS).read_text()
REQUIREMENTS = (REPOSITORY / "requirements.txt").read_text()


@pytest.fixture(params=[PLAIN, MANIFEST, WHITENOISE], ids=["plain", "manifest", "whitenoise"], scope="module")
def collected(request: pytest.FixtureRequest, cache: Path) -> Iterator[Collected]:
    folder = Path(tempfile.mkdtemp(prefix="bb-static-"))
    folder.chmod(0o755)
    try:
        made = Collected(Site(folder, cache=cache), request.param)
        made.deploy()
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def one_changed(collected: Collected) -> None:
    collected.put("pictures/two.svg", "<svg/>\n")


def one_removed(collected: Collected) -> None:
    collected.put("all.css", '@import "one.css";\n@import "two.css";\n')
    (collected.site.repository / STATIC / "three.css").unlink()


def one_added(collected: Collected) -> None:
    collected.put("four.css", ".four { background: url(pictures/one.svg) }\n")


def settings_changed(collected: Collected) -> None:
    collected.more_settings += 'STATIC_URL = "/assets/"\n'


def modes_changed(collected: Collected) -> None:
    collected.more_settings += "FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o664, 0o775\n"


def package_upgraded(collected: Collected) -> None:
    collected.packages = collected.packages.replace("5.2.18", "5.2.19")


def nothing_changed(collected: Collected) -> None:
    pass


CHANGES = [nothing_changed, one_changed, one_removed, one_added, package_upgraded]


def test_what_is_collected_is_what_a_full_collectstatic_makes_whatever_has_changed(collected: Collected) -> None:
    for change in (*CHANGES, modes_changed if collected.storage == PLAIN else settings_changed):
        before, was, written = collected.root, tree(collected.root), times(collected.root)
        change(collected)

        log = collected.deploy()

        assert (change is nothing_changed) == (f"all {number_of_files(collected.root)} static files are" in log), log
        if change in (one_changed, one_added):  # Django has seen that file, and the style sheets that lead to it
            assert re.search(r"\b[1-3] static files? copied", log), log
        assert collected.collected_in_full() == tree(collected.root), change.__name__
        assert (was, written) == (tree(before), times(before)), "the live release's own files were opened to write"
        assert "not shared" not in log
        shared = [path for path in files(collected.root) if path.stat().st_nlink > 1]
        assert shared or change is modes_changed, f"after {change.__name__} nothing is shared with the release before"
        if change is nothing_changed:
            own = {".br", ".gz"} if collected.storage == WHITENOISE else set()
            alone = {path for path in files(collected.root) if path.stat().st_nlink == 1}
            assert own == {path.suffix for path in alone} - {""}  # .gitkeep is the tree's own
            assert not [path for path in alone if HASHED.search(path.name)]
            assert times(before) == times(collected.root)


def test_what_runs_in_a_linked_release_later_writes_nothing_into_the_one_before(collected: Collected) -> None:
    before, log = collected.root, collected.deploy()
    assert ALL.search(log)
    was = tree(before)
    (collected.root.parent / STATIC / "one.css").write_text(".one { color: red }\n" + "/* edited */\n" * 90)
    collected.site.own(collected.root.parent / STATIC / "one.css")

    collected.site.ok("manage", "--", "collectstatic", "--noinput")

    assert was == tree(before)
    now = collected.root / "brackets" / "one.css"
    assert ".one { color: red }" in now.read_text()
    if collected.storage == WHITENOISE:
        assert now.read_bytes() == gzip.decompress(now.with_name("one.css.gz").read_bytes())
    collected.site.ok("manage", "--", "collectstatic", "--noinput", "--clear")
    assert was == tree(before)

    shutil.rmtree(collected.ahead)  # which still has what the deploy had collected
    log = collected.deploy()  # what was collected by hand is not what the deploy had noted
    assert "are not what was collected" in log
    assert collected.collected_in_full() == tree(collected.root)


def as_it_was_made(ahead: Path) -> None:
    pass


def of_another_boot(ahead: Path) -> None:
    ahead.rename(ahead.with_name(".static-ahead-00000000-0000-0000-0000-000000000000"))


def cut_short(ahead: Path) -> None:
    ahead.rename(ahead.with_name(".static-ahead-new"))


def file_gone(ahead: Path) -> None:
    (ahead / "brackets/two.css").unlink()


def file_more(ahead: Path) -> None:
    (ahead / "brackets/more.css").touch()


def file_replaced(ahead: Path) -> None:
    path = ahead / "brackets/two.css"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[::-1])


def link_in_it(ahead: Path) -> None:
    (ahead / "brackets/two.css").unlink()
    (ahead / "brackets/two.css").symlink_to("/etc/passwd")


def folder_mode(ahead: Path) -> None:
    (ahead / "brackets").chmod(0o777)


AHEAD = (as_it_was_made, of_another_boot, cut_short, file_gone, file_more, file_replaced, link_in_it, folder_mode)


@pytest.mark.parametrize("collected", [WHITENOISE], ids=["whitenoise"], indirect=True)
def test_what_was_linked_in_advance_is_taken_as_it_was_made_or_not_at_all(collected: Collected) -> None:
    collected.deploy()
    for harm in AHEAD:
        ahead = collected.ahead
        folder, before, was = (ahead / "brackets").stat().st_ino, collected.root, tree(collected.root)
        harm(ahead)

        log = collected.deploy()

        assert ALL.search(log)
        assert (harm is as_it_was_made) == (folder == (collected.root / "brackets").stat().st_ino), harm.__name__
        assert was == tree(collected.root) == tree(before)
        assert times(before) == times(collected.root)
        assert not list(ahead.parent.glob(f"{ahead.name[:14]}*")), "used or not, it is gone"

    # what the live release has not any more is not handed on
    (collected.root / "brackets/one.css").write_text("edited by hand")
    assert "are not what was collected" in collected.deploy()
    assert collected.collected_in_full() == tree(collected.root)
    collected.site.ok("deploy", "--force")
    ahead = collected.ahead
    collected.site.ok("deploy", "--build-only", "--force")
    assert not ahead.exists(), "it was used, and nothing went live"


def files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file())


def number_of_files(root: Path) -> int:
    return len(list(files(root)))


def times(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in files(root) if path.name != ".gitkeep"}
