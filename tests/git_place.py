"""A real repository and its mirror, for the tests of what fetches and exports."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from bb_release.tools import export, mirror
from bb_release.tools.git_access import Access, Origin

FILES = Access(allow_file=True)


class Place:
    """A repository to work in, the url to fetch it from, a mirror, and a canary that must never appear."""

    def __init__(self, top: Path) -> None:
        top.mkdir(exist_ok=True)
        self.said: list[str] = []
        self.top, self.work, self.mirror, self.canary = top, top / "work", top / "mirror.git", top / "canary"
        self.url = f"file://{self.work}"
        self.exports = 0
        self.git("init", "-q", "-b", "main", str(self.work), cwd=top)
        self.first = self.commit("first", {"a.txt": "one\n", "bin/run": "#!/bin/sh\n"})

    def git(self, *words: str, cwd: Path | None = None) -> str:
        names = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(self.top), **names}
        argv = ["git", "-c", "protocol.file.allow=always", "-c", "gc.auto=0", *words]
        done = subprocess.run(argv, cwd=cwd or self.work, env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, subject_line: str, files: dict[str, str] | None = None) -> str:
        for name, content in (files or {}).items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode())
            path.chmod(0o755 if content.startswith("#!") else 0o644)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject_line)
        return self.git("rev-parse", "HEAD")

    def fetch(self, access: Access = FILES, url: str = "") -> list[str]:
        lines: list[str] = []
        mirror.fetch(url or self.url, self.mirror, access, timeout_seconds=60, on_line=lines.append)
        return lines

    def export(self, revision: str, **origin: Any) -> Path:
        """The tree of a revision; `origin` are fields of Origin (submodules, lfs)."""
        self.exports += 1
        into = self.top / f"tree{self.exports}"
        wanted = Origin(**{"url": self.url, "access": FILES, "fetch_seconds": 60, **origin})
        export.export_tree(self.mirror, revision, into, timeout_seconds=60, origin=wanted, on_line=self.said.append)
        return into

    def script(self) -> str:
        path = self.top / "evil.sh"
        path.write_text(f"#!/bin/sh\ntouch {self.canary}\nexit 1\n")
        path.chmod(0o755)
        return str(path)


def break_mirror(mirror: Path, kind: str) -> None:
    packs = list((mirror / "objects" / "pack").glob("*.pack"))
    if kind == "garbage HEAD":
        (mirror / "HEAD").write_bytes(b"\x00garbage")
    elif kind == "truncated pack":
        packs[0].chmod(0o644)
        os.truncate(packs[0], packs[0].stat().st_size // 2)
    elif kind == "deleted object":  # one blob alone, which a fetch by itself does not miss
        aside = packs[0].rename(mirror.parent / "taken.pack")
        packs[0].with_suffix(".idx").unlink()
        git = ["git", f"--git-dir={mirror}"]
        subprocess.run([*git, "unpack-objects", "-q"], stdin=aside.open("rb"), check=True)
        blob = subprocess.check_output([*git, "rev-parse", "main:a.txt"], text=True).strip()
        (mirror / "objects" / blob[:2] / blob[2:]).unlink()
    elif kind == "empty ref":
        (mirror / "refs" / "heads" / "main").write_text("")
    elif kind == "not a repository":
        for name in ("HEAD", "config"):
            (mirror / name).unlink()
