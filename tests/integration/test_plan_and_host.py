"""What --plan reads from a mirror, and what `check` asks of file systems and modes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bb_release.actions import plan
from bb_release.errors import RefNotFound
from bb_release.model.app import App
from bb_release.tools import filesystem, git_changes


class Mirror:
    """A bare repository in the place of an app's mirror."""

    def __init__(self, root: Path) -> None:
        self.app = App("shop", "git@git.example.org:a/b.git", root, requirements=("requirements.txt",))
        self.work = root / "work"
        subprocess.run(["git", "init", "-q", "-b", "main", str(self.work)], check=True)

    def commit(self, files: dict[str, str | None]) -> str:
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True) if content is None else path.write_text(content)
        git = ["git", "-C", str(self.work), "-c", "user.name=Dev", "-c", "user.email=dev@example.org"]
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a commit"], check=True)
        subprocess.run(["rm", "-rf", str(self.app.layout.mirror)], check=True)
        subprocess.run(["git", "clone", "-q", "--mirror", str(self.work), str(self.app.layout.mirror)], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_pins_of_included_files_and_migrations_that_come_and_go_are_told(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    old = mirror.commit({
        "requirements.txt": "-r base/a.txt\ndjango==4.2\n", "base/a.txt": "-r ../b.txt\nredis==1\n", "b.txt": "six==1\n",
        "shop/migrations/0001_initial.py": "", "shop/migrations/__init__.py": "", "settings.py": "", "app/static/a.css": "",
    })  # fmt: skip
    new = mirror.commit({
        "base/a.txt": "-r ../b.txt\nredis==2\nnew\n", "b.txt": "", "shop/migrations/0001_initial.py": None,
        "cart/migrations/__init__.py": "", "cart/migrations/0001_first.py": "", "settings.py": "X = 1", "app/static/a.css": "b{}",
    })  # fmt: skip
    told = plan.changes(mirror.app, old, new)
    assert ["new (new) -> new", "redis 1 -> 2", "six 1 -> (gone)"] == told["requirements"]
    assert (["cart.0001_first"], ["shop/migrations/0001_initial.py"]) == (
        told["migrations"],
        told["migrations_removed"],
    )
    assert (1, ["settings.py"], 1, True) == (told["static"], told["settings"], told["commit_count"], told["compared"])
    back = plan.changes(mirror.app, new, old)
    assert (0, 1) == (back["commit_count"], len(back["commits_left_behind"]))


def test_a_live_revision_that_the_repository_lost_is_compared_with_nothing(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    new = mirror.commit({"requirements.txt": "django==4.2\n"})
    told = plan.changes(mirror.app, "1" * 40, new)
    assert (False, ["django (new) -> 4.2"], []) == (told["compared"], told["requirements"], told["commits"])
    with pytest.raises(RefNotFound):
        git_changes.changed_files(mirror.app.layout.mirror, "--output=x", new)


def test_a_user_may_what_owner_group_and_mode_say(tmp_path: Path) -> None:
    me, nobody = filesystem.name_of(os.geteuid()), "nobody"
    top = tmp_path / "media"
    (top / "a").mkdir(parents=True)
    (top / "a" / "picture").write_text("x")
    top.chmod(0o777)
    (top / "a").chmod(0o755)
    (top / "a" / "picture").chmod(0o666)
    (top / "link").symlink_to("/nowhere")
    assert [top / "a"] == list(filesystem.not_writable(nobody, top))
    assert [] == list(filesystem.not_writable(me, top))
    top.chmod(0o755)
    assert top in list(filesystem.not_writable(nobody, top))
    with pytest.raises(KeyError):
        filesystem.groups_of("no-such-user")


def test_the_kind_of_a_file_system_is_the_kernel_s_own_word() -> None:
    assert "proc" == filesystem.kind(Path("/proc/self"))
    said = subprocess.run(["stat", "-f", "-c", "%T", "/proc"], capture_output=True, text=True).stdout.strip()
    assert "proc" == said
    assert filesystem.kind(Path("/")) not in ("", "proc")
    assert filesystem.umask() == int(
        subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True).stdout.strip(), 8
    )
