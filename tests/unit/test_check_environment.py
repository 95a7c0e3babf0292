"""What `check` says of the variables that the site's environment gives manage.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from bb_release.actions.check import environment_files
from bb_release.model.app import App
from bb_release.model.fact import Level


@pytest.mark.parametrize(("value", "told"), [("{root}/current/app:/opt/lib", True), ("/opt/lib", False)])
def test_a_path_through_which_the_release_before_would_be_imported_is_named(
    tmp_path: Path, value: str, *, told: bool
) -> None:
    file = tmp_path / "site.env"
    file.write_text(f"PYTHONPATH={value.format(root=tmp_path)}\n")
    file.chmod(0o600)
    facts = [*environment_files(App("shop", "git@git.example.org:a/b.git", tmp_path, env_file=file))]
    warned = [(fact.text, fact.do) for fact in facts if fact.level is not Level.OK]
    through = f"PYTHONPATH of the site's environment leads through {tmp_path}/current: "
    assert told == bool(warned)
    assert all(text.startswith(through) and do == "take PYTHONPATH out" for text, do in warned)
