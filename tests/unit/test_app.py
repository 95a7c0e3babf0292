"""The configured site: which changes of it make a new release."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

from bb_release.model.app import SHAPING, App, Health, Run, Timeouts, Unit

APP = App("site", "git@example.org:site.git", Path("/srv/site"))

OTHER = {
    "repository": "x", "subfolder": "x", "python": "3.12", "copies": True, "installer": "pip", "requirements": ("x.txt",),
    "groups": ("x",), "extras": ("x",),
    "index_url": "https://x", "settings": "x", "application": "x:y", "manage": "x.py", "collect_static": False,
    "static_root_outside": True, "shared_files": ("x",), "shared_folders": ("x",), "environment": (("A", "1"),),
    "run": (Run("before_switch", ("true",)),), "submodules": True, "lfs": True,
}  # fmt: skip

UNSHAPING = {
    "name": "x", "root": Path("/x"), "branch": "x", "health": Health("http://x"), "units": (Unit("x"),),
    "cache": Path("/x"), "check_deploy": False, "rehearse": False, "stage": False, "env_file": Path("/x"),
    "build_env_file": Path("/x"), "webhook_file": Path("/x"), "public": ("X",), "pass_environment": (), "keep": 1, "deploy_key": Path("/x"),
    "known_hosts": Path("/x"), "git_credentials": Path("/x"), "allow_file_url": True, "verify": "tag", "signers": (Path("/x"),),
    "timeouts": Timeouts(fetch=1),
}  # fmt: skip


def test_every_key_either_shapes_a_release_or_does_not() -> None:
    assert set(SHAPING) == set(OTHER)
    assert {f.name for f in fields(App)} == set(OTHER) | set(UNSHAPING)


@pytest.mark.parametrize("key", OTHER)
def test_a_key_that_shapes_what_is_built_changes_the_shape(key: str) -> None:
    assert APP.shape != replace(APP, **{key: OTHER[key]}).shape


@pytest.mark.parametrize("key", UNSHAPING)
def test_any_other_key_leaves_the_shape(key: str) -> None:
    assert APP.shape == replace(APP, **{key: UNSHAPING[key]}).shape


def test_the_shape_is_the_same_in_every_run() -> None:
    assert 16 == len(APP.shape)
    assert APP.shape == App("site", "git@example.org:site.git", Path("/srv/site")).shape


def test_the_cache_lies_below_the_root_unless_it_is_shared() -> None:
    assert Path("/srv/site/cache") == APP.cache_folder
    assert Path("/var/cache/x") == replace(APP, cache=Path("/var/cache/x")).cache_folder


def test_every_path_of_the_layout_lies_below_the_root_and_is_its_own() -> None:
    layout = APP.layout
    paths = [getattr(layout, name) for name, value in vars(type(layout)).items() if isinstance(value, property)]
    assert len(paths) == len(set(paths))
    assert all(path.is_relative_to("/srv/site") for path in paths)


def test_an_app_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        APP.keep = 3
