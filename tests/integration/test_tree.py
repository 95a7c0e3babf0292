"""A tree that came from a repository: what its check sets right, and what it lets alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bb_release.errors import TreeNotExported
from bb_release.tools.tree import check_tree

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Two folders, two files, a program and a link, with the modes of a release."""
    top = tmp_path / "app"
    (top / "shop" / "deep").mkdir(parents=True)
    for name, mode in {"manage.py": 0o755, "shop/a.py": 0o644, "shop/deep/b.py": 0o644}.items():
        (top / name).write_text("# code\n")
        (top / name).chmod(mode)
    (top / "shop" / "link").symlink_to("../manage.py")
    for folder in (top, top / "shop", top / "shop" / "deep"):
        folder.chmod(0o755)
    return top


def modes(top: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o7777 for path in [top, *top.rglob("*")] if not path.is_symlink()}


def test_the_modes_of_a_tree_are_set_right_and_its_files_and_links_are_counted(top: Path) -> None:
    right = modes(top)
    (top / "manage.py").chmod(0o4700)
    (top / "shop" / "a.py").chmod(0o666)
    (top / "shop" / "deep").chmod(0o2777)
    top.chmod(0o700)
    assert 4 == check_tree(top)
    assert right == modes(top)


def test_a_file_that_has_the_right_mode_is_not_touched(top: Path) -> None:
    before = {path: path.lstat().st_ctime_ns for path in top.rglob("*")}
    (top / "shop" / "a.py").chmod(0o600)
    check_tree(top)
    assert [top / "shop" / "a.py"] == [path for path, changed in before.items() if path.lstat().st_ctime_ns != changed]


def test_a_pointer_of_git_lfs_is_named_wherever_it_lies(top: Path) -> None:
    (top / "shop" / "deep" / "picture.png").write_text(POINTER)
    with pytest.raises(TreeNotExported, match=r"shop/deep/picture\.png is a pointer"):
        check_tree(top)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../secret", "deep/../../../secret", "link2"])
def test_a_link_that_leads_out_is_named_wherever_it_lies(top: Path, target: str) -> None:
    (top / "shop" / "link2").symlink_to(target)
    with pytest.raises(TreeNotExported, match="shop/link2 is absolute or leads out"):
        check_tree(top)
