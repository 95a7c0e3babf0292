"""Where the code comes from, with the installed command: archives, submodules, Git LFS."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_site import Site, bare_site, unprivileged
from programs import required
from small_shop import small_shop


@pytest.fixture
def place(cache: Path) -> Iterator[Site]:
    """A site with no units and no health page, in a folder of its own."""
    with bare_site(cache) as site:
        yield site


def packed(site: Site, name: str, *words: str) -> Path:
    """The head of the site's repository as an archive."""
    path = site.folder / name
    site.git("archive", "-o", str(path), *words, "HEAD")
    return path


def error(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[0].removeprefix("error: ")


def built(site: Site) -> Path:
    (release,) = (site.root / "releases").iterdir()
    return release


def test_a_site_goes_live_from_a_tarball_and_then_from_a_zip_without_its_repository(site: Site) -> None:
    first = packed(site, "shop-1.0.tar.gz", "--prefix=shop-1.0/")
    away = site.folder / "away"
    site.repository.rename(away)

    site.ok("deploy", "--archive", str(first))
    revision = hashlib.sha256(first.read_bytes()).hexdigest()
    assert {"release": site.current(), "dependency": "0.5.3", "revision": revision} == site.answering()
    assert f"{revision}\n" == (site.root / "current" / "REVISION").read_text()
    manifest = json.loads(site.ok("show"))
    assert (revision, "shop-1.0.tar.gz", "verified") == (manifest["revision"], manifest["ref"], manifest["state"])
    assert "shop-1.0.tar.gz was deployed, not the branch main" in site.ok("status")

    live = site.current()
    assert "nothing to do" in site.ok("deploy", "--archive", str(first))
    away.rename(site.repository)
    site.second_revision()
    second = packed(site, "shop-1.1.zip")
    site.repository.rename(away)
    site.ok("deploy", "--archive", str(second))
    assert "0.6.1" == site.answering()["dependency"]
    assert live < site.current()
    site.ok("rollback")
    assert live == site.current()

    away.rename(site.repository)
    done = site.run("deploy", "--if-changed")  # on hold: a timer changes nothing
    assert (0, "", live) == (done.returncode, done.stdout, site.current())
    site.ok("deploy")
    assert site.git("rev-parse", "HEAD") == site.answering()["revision"]
    assert "hold" not in site.ok("status")


def test_a_hostile_archive_changes_nothing_and_is_named(place: Site) -> None:
    path = place.folder / "evil.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(place.repository / "manage.py", "manage.py")
        tar.add(place.repository / "manage.py", "../../../evil")
        info = tarfile.TarInfo("../../../evil")
        tar.addfile(info)
    done = place.run("deploy", "--archive", str(path))
    assert (1, "archive-refused") == (done.returncode, error(done))
    assert "../../../evil" in done.stderr
    assert [] == list(place.folder.rglob("evil"))
    assert {"failed"} == set(place.states().values())
    assert not (place.root / "current").exists()


@pytest.mark.parametrize("words", [("main",), ("--if-changed",), ("--resume", "previous")], ids=" ".join)
def test_an_archive_beside_a_ref_a_timer_or_a_resumed_build_is_refused(place: Site, words: tuple[str, ...]) -> None:
    path = packed(place, "a.tar")
    done = place.run("deploy", "--archive", str(path), *words)
    assert (2, "usage-invalid") == (done.returncode, error(done))
    assert "--archive stands alone" in done.stderr


def test_an_archive_that_is_not_there_or_has_an_odd_name_is_wrong_usage(place: Site) -> None:
    odd = packed(place, "a.tar").rename(place.folder / "a\x1b[2J.tar")
    for path in (place.folder / "absent.tar", place.folder, odd):
        done = place.run("deploy", "--archive", str(path))
        assert (2, "usage-invalid") == (done.returncode, error(done))


def test_a_failed_build_from_an_archive_cannot_be_resumed_from_the_branch(place: Site) -> None:
    (place.repository / "requirements.txt").write_text("no-such-thing==0.0.0.dev99\n")
    place.commit("requirements that nobody has")
    assert 1 == place.run("deploy", "--archive", str(packed(place, "a.tar"))).returncode
    done = place.run("deploy", "--resume", built(place).name)
    assert "release-not-usable" == error(done)


def test_a_checkout_that_was_cut_short_is_begun_anew_when_it_is_resumed(place: Site) -> None:
    (place.repository / "evil").symlink_to("/etc/passwd")
    place.commit("a link out of the tree")
    assert "tree-not-exported" == error(place.deploy())
    assert (built(place) / "app" / "manage.py").exists()
    done = place.run("deploy", "--resume", built(place).name)
    assert "the link evil is absolute" in done.stderr  # and not: the folder is not empty


def test_submodules_and_git_lfs_are_errors_while_off_and_whole_when_on(place: Site) -> None:
    required("git-lfs", "git-lfs", "REQUIRE_LFS")
    library = place.folder / "library"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(library)]
    library.mkdir()
    (library / "logo.png").write_bytes(b"a picture" * 100)
    (library / ".gitattributes").write_text("*.png filter=lfs -text\n")
    place.own(library)
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    for words in (
        ["init", "-q"],
        ["config", "filter.lfs.clean", "git-lfs clean -- %f"],
        ["add", "-A"],
        ["commit", "-qm", "x"],
    ):
        subprocess.run([*git, *words], check=True, env=env, capture_output=True, **unprivileged())
    pinned = subprocess.check_output([*git, "rev-parse", "HEAD"], env=env, text=True, **unprivileged()).strip()
    (place.repository / ".gitmodules").write_text('[submodule "l"]\n\tpath = vendor/library\n\turl = ../library\n')
    place.own(place.repository)
    place.git("add", "-A")
    place.git("update-index", "--add", "--cacheinfo", f"160000,{pinned},vendor/library")
    place.git("commit", "-q", "-m", "a submodule")

    done = place.deploy()
    assert (1, "tree-not-exported") == (done.returncode, error(done))
    assert "submodules = true" in done.stderr
    place.write_config(submodules="true")
    done = place.deploy()
    assert (1, "tree-not-exported") == (done.returncode, error(done))
    assert "vendor/library/logo.png is a pointer of Git LFS" in done.stderr
    assert "lfs = true" in done.stderr
    place.write_config(lfs="true")
    place.ok("deploy", "--build-only")
    (release,) = (name for name, state in place.states().items() if state == "ready")
    assert b"a picture" * 100 == (place.root / "releases" / release / "app/vendor/library/logo.png").read_bytes()
    assert 1 == len(os.listdir(place.root / "submodules"))


def test_a_shared_folder_below_a_link_of_the_tree_is_the_shared_one(cache: Path) -> None:
    """The way from where the link is made, and not from the name that led there."""
    with small_shop(cache) as shop:
        (shop.root / "shared/site/media").mkdir(parents=True)
        (shop.root / "shared/site/media/photo").write_text("of a visitor")
        shop.own(shop.root / "shared/site")
        (shop.repository / "src/deeper").mkdir(parents=True)
        (shop.repository / "src/deeper/page.txt").touch()
        (shop.repository / "site").symlink_to("src/deeper")
        shop.edit("requirements.txt", "django==5.2.19\n")
        shop.write_config(shared_folders='["site/media"]')
        shop.ok("deploy")
        assert "of a visitor" == (shop.root / "current/app/site/media/photo").read_text()
