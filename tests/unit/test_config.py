"""Holds config to its promises: every mistake at once, each with its place, and never a secret in the text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

import bb_release
from bb_release import config, schema
from bb_release.errors import ConfigurationInvalid
from bb_release.model.app import App, Health, Run, Timeouts, Unit

EXAMPLE = Path(bb_release.__file__).with_name("example.toml")
GOOD = 'repository = "git@git.example.org:shop/shop.git"\nroot = "/srv/shop"\n'
CANARY = "c4n4ry"
PAIRS = [
    (App, schema.AppFile), (Unit, schema.UnitTable), (Health, schema.HealthTable), (Run, schema.RunTable),
    (Timeouts, schema.TimeoutsTable),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(config.VARIABLE, raising=False)


def write(folder: Path, text: str = GOOD, name: str = "shop") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def mistakes(path: Path) -> list[str]:
    """The lines of the error, having seen that no canary is in it."""
    with pytest.raises(ConfigurationInvalid) as caught:
        config.load(path)
    error = caught.value
    assert CANARY not in f"{error} {error.remedy} {error.details}"
    return error.details.splitlines()


@pytest.mark.parametrize(("kind", "table"), PAIRS)
def test_each_field_has_a_key_with_its_default_and_each_key_a_field(kind: Any, table: Any) -> None:
    assert {one.name for one in fields(kind)} - ({"name"} if kind is App else set()) == set(table.model_fields)
    for one in fields(kind):
        if one.default is not MISSING:
            shown = table.model_fields[one.name].get_default(call_default_factory=True)
            assert one.default == (tuple(shown) if isinstance(shown, (list, dict)) else shown), one.name


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=[A-Za-z_]+ = |\[)", "", EXAMPLE.read_text(encoding="utf-8"))


def test_the_example_loads_as_it_is_and_has_every_key_once_the_comments_are_taken_away(tmp_path: Path) -> None:
    assert "shop.service" == config.load(write(tmp_path, EXAMPLE.read_text(encoding="utf-8"))).units[0].name
    app = config.load(write(tmp_path, uncommented()))
    raw = tomllib.loads(uncommented())
    assert {one.name for one in fields(App)} - {"name"} == set(raw)
    assert {one.name for one in fields(Unit)} == {key for unit in raw["units"] for key in unit}
    assert {one.name for one in fields(Health)} == set(raw["health"])
    assert {one.name for one in fields(Run)} == set(raw["run"][0])
    assert {one.name for one in fields(Timeouts)} == set(raw["timeouts"])
    assert Timeouts() == app.timeouts


def test_short_forms_make_the_same_app_as_tables(tmp_path: Path) -> None:
    short = 'health = "http://127.0.0.1/"\nunits = ["a.service"]\nrequirements = "r.txt"\n'
    long = 'requirements = ["r.txt"]\n[health]\nurl = "http://127.0.0.1/"\n[[units]]\nname = "a.service"\n'
    app = config.load(write(tmp_path, GOOD + short))
    assert app == config.load(write(tmp_path, GOOD + long))
    assert (Health("http://127.0.0.1/"), (Unit("a.service"),), ("r.txt",)) == (
        app.health,
        app.units,
        app.requirements,
    )


def test_an_app_is_frozen_and_hashable_and_named_for_its_file(tmp_path: Path) -> None:
    app = config.load(write(tmp_path, GOOD, "shop-staging"))
    assert App("shop-staging", "git@git.example.org:shop/shop.git", Path("/srv/shop")) == app
    assert isinstance(hash(app), int)
    with pytest.raises(FrozenInstanceError):
        app.keep = 1  # type: ignore[misc]


def test_another_order_of_the_environment_is_the_same_shape(tmp_path: Path) -> None:
    one = config.load(write(tmp_path, GOOD + "[environment]\nA = '1'\nB = '2'\n"))
    other = config.load(write(tmp_path, GOOD + "[environment]\nB = '2'\nA = '1'\n"))
    assert one.shape == other.shape


def test_the_environment_may_be_that_of_a_unit(tmp_path: Path) -> None:
    units = 'units = ["a.service", {name = "b@.service", handover = "blue-green"}]\n'
    for name in ("a.service", "b@.service"):
        app = config.load(write(tmp_path, f'{GOOD}environment = "unit:{name}"\n{units}'))
        assert (name, {}) == (app.environment_unit, app.inline_environment)
    plain = config.load(write(tmp_path, GOOD + "[environment]\nA = '1'\n"))
    assert ("", {"A": "1"}) == (plain.environment_unit, plain.inline_environment)


def test_a_group_of_supervisor_may_be_handed_over_by_its_socket(tmp_path: Path) -> None:
    unit = '{name = "shop:*", kind = "supervisor", socket = "/s", handover = "socket"}'
    assert "socket" == config.load(write(tmp_path, f"{GOOD}units = [{unit}]\n")).units[0].handover
    (line,) = mistakes(write(tmp_path, f"{GOOD}units = [{unit.replace(':*', '')}]\n"))
    assert 'units[0].handover: "socket" is for units of systemd, and groups (shop:*)' == line


def test_a_template_is_handed_over_blue_green_with_or_without_a_socket(tmp_path: Path) -> None:
    text = (
        'units = [{name = "shop@.service", handover = "blue-green", socket = "/run/shop/active.sock"}, '
        '{name = "shop-celery@", handover = "blue-green", celery = "shop"}]\n'
    )
    web, worker = config.load(write(tmp_path, GOOD + text)).units
    assert ("blue-green", "/run/shop/active.sock") == (web.handover, web.socket)
    assert ("blue-green", "", "shop") == (worker.handover, worker.socket, worker.celery)


@pytest.mark.parametrize(("app", "unit"), [("shop", "heartbeat@.service"), ("beat", "beat@.service")])
def test_a_name_that_only_looks_like_a_beat_s_may_be_that_of_a_template(tmp_path: Path, app: str, unit: str) -> None:
    text = f'{GOOD}units = [{{name = "{unit}", handover = "blue-green"}}]\n'
    assert (unit,) == tuple(one.name for one in config.load(write(tmp_path, text, app)).units)


def test_a_public_name_may_look_like_a_secret(tmp_path: Path) -> None:
    app = config.load(write(tmp_path, GOOD + 'public = ["MAP_KEY"]\nenvironment = { MAP_KEY = "x" }\n'))
    assert (("MAP_KEY", "x"),) == app.environment


@pytest.mark.parametrize(
    "repository",
    ["https://git.example.org/a/b.git", "https://me@git.example.org:8443/a", "ssh://git@git.example.org:22/a/b",
     "git@git.example.org:a/b.git", "git.example.org:~me/b"],
)  # fmt: skip
def test_a_repository_elsewhere_is_taken(tmp_path: Path, repository: str) -> None:
    app = config.load(write(tmp_path, f'repository = "{repository}"\nroot = "/srv/shop"\n'))
    assert repository == app.repository


@pytest.mark.parametrize("repository", ["/srv/git/a b.git", "file:///srv/git/a.git"])
def test_a_repository_here_is_taken_only_when_allowed(tmp_path: Path, repository: str) -> None:
    text = f'repository = "{repository}"\nroot = "/srv/shop"\n'
    assert ["repository: a repository on this machine needs allow_file_url = true"] == mistakes(write(tmp_path, text))
    assert repository == config.load(write(tmp_path, text + "allow_file_url = true\n")).repository


@pytest.mark.parametrize(
    "repository",
    ["", "-uc4n4ry", "ext::sh", "http://git.example.org/a", "git://git.example.org/a", "file:a", "../a", "a b:c",
     "ssh://-oProxyCommand=c4n4ry/a", "-host:a", "host:-a", "https://git.example.org/a?token=c4n4ry", "a:b\\nc",
     "https://me:c4n4ry@git.example.org/a", "ssh://me:c4n4ry@git.example.org/a", "me:c4n4ry@git.example.org:a",
     "https://ghp_c4n4ry@git.example.org/a", "file:///a/../\\u0000"],
)  # fmt: skip
def test_a_repository_of_another_form_or_with_a_password_is_a_mistake(tmp_path: Path, repository: str) -> None:
    (line,) = mistakes(write(tmp_path, f'repository = "{repository}"\nroot = "/srv/shop"\nallow_file_url = true\n'))
    assert line.startswith("repository: ")


SECRET = "a secret in the TOML is an error"
BAD = [
    ('units = ["a", {name = "b", kind = "c4n4ry"}]',
     'units[1].kind: should be "systemd", "supervisor" or "command"'),
    ('helth = "c4n4ry"', "helth: unknown key, did you mean health?"),
    ('"x y\\u001b" = 1', '"x y\\u001b": unknown key'),
    ("[timeouts]\nmigrat = 1", "timeouts.migrat: unknown key, did you mean migrate?"),
    ('[[run]]\nat = "c4n4ry"\ncommand = ["x"]', 'run[0].at: should be "before-requirements", '),
    ('[[run]]\nat = "after-verify"\ncommand = []', "run[0].command: should not be empty"),
    ('[[run]]\nat = "after-verify"\ncommand = "c4n4ry"', "run[0].command: should be a list"),
    ('[[run]]\nat = "after-verify"', "run[0].command: is required"),
    ('[[run]]\nat = "after-verify"\ncommand = ["x"]\nfolder = "../c4n4ry"', "run[0].folder: should be a relative"),
    ('branch = "-c4n4ry"', "branch: should be the name of a branch"),
    ('branch = "a\\n"', "branch: should be the name of a branch"), ("keep = 0", "keep: should be at least 1"),
    ('keep = "c4n4ry"', "keep: should be a whole number"), ("keep = true", "keep: should be a whole number"),
    ('shared_files = ["a", "../c4n4ry"]', "shared_files[1]: should be a relative path"),
    ('shared_folders = ["."]', "shared_folders[0]: should name something inside"),
    ('subfolder = "/c4n4ry"', "subfolder: should be a relative path"),
    ('manage = "a/../c4n4ry"', "manage: should be a relative path"),
    ('requirements = "/c4n4ry"', "requirements: should be a relative path"),
    ('requirements = ["a", "-c4n4ry"]', "requirements[1]: should be a relative path"),
    ("requirements = 1", "requirements: should be a list"),
    ('groups = ["docs", "--c4n4ry"]', "groups[1]: should be the name of a group or extra"),
    ('extras = ["c4n4ry or"]', "extras[0]: should be the name of a group or extra"),
    ('units = ["a.service", "-c4n4ry"]', "units[1]: should be the name of a unit"),
    ('units = [" c4n4ry"]', "units[0]: should be the name of a unit"),
    ("units = [1]", "units[0]: should be the name of a unit or a table"),
    ('units = [{name = "a", kind = "supervisor"}]', 'units[0].socket: is required when kind is "supervisor"'),
    ('units = [{name = "a", kind = "command", restart = ["x"]}]', "units[0].status: is required when"),
    ('units = [{name = "a", kind = "command", status = ["x"]}]', "units[0].restart: is required when"),
    ('units = [{name = "a", kind = "command", runs_release = false, status = ["x"]}]', "units[0].reload: is required"),
    ('units = [{name = "a", stop_seconds = -1}]', "units[0].stop_seconds: should be at least 0"),
    ('units = [{name = "a.service", handover = "c4n4ry"}]', 'units[0].handover: should be "", "socket", "restart" or '),
    ('units = [{name = "a", handover = "blue-green"}]', "units[0].name: should be a template such as shop@.service"),
    ('units = [{name = "a@.service"}]', "units[0].name: is a template, of which"),
    ('units = ["a@.service"]', "units[0]: is a template, of which"),
    ('units = [{name = "a@.service", handover = "blue-green", runs_release = false}]', "units[0].handover: a unit that"),
    ('units = [{name = "a@.service", handover = "blue-green", socket = "/run/a/x.sock"}, '
     '{name = "b@.service", handover = "blue-green", socket = "/run/b/x.sock"}]',
     "units[1].socket: only one unit with handover"),
    ('units = [{name = "a-beat@.service", handover = "blue-green"}]', "units[0].handover: a beat must never run twice"),
    ('units = [{name = "celerybeat@", handover = "blue-green"}]', "units[0].handover: a beat must never run twice"),
    ('units = [{name = "a@", handover = "blue-green", socket = "http://c4n4ry"}]', "units[0].socket: should be an absolute"),
    ('units = [{name = "a@", handover = "blue-green", socket = "/run/green.sock"}]', "units[0].socket: should be the link"),
    ('units = [{name = "a", kind = "supervisor", socket = "/s", handover = "socket"}]', 'units[0].handover: "socket" is for'),
    ('units = [{name = "a", celery = "-c4n4ry"}]', "units[0].celery: should be like"),
    ('health = "ftp://c4n4ry/"', "health: should be an http:// or https:// or http+unix:// URL"),
    ('health = "http+unix:c4n4ry"', "health: should be http+unix:///path/of.sock:/path/of/url/"),
    ('health = "http://me:c4n4ry@h/"', f"health: holds a password; {SECRET}"),
    ("health = 1", "health: should be a URL or a table"), ("[health]\nexpect = 200", "health.url: is required"),
    ('[health]\nurl = "http://h/"\nheaders = { "A b" = "c4n4ry" }', 'health.headers."A b": should be the name'),
    ('[health]\nurl = "http://h/"\nheaders = { A = "c4n4ry\\nB: c" }', "health.headers.A: should not contain newl"),
    ('[health]\nurl = "http://h/"\nrelease = "c4n4ry"', 'health.release: should be "header:NAME" or "body"'),
    *((f'[environment]\n{name} = "c4n4ry"', f"environment.{name}: {SECRET}") for name in
      ("SHOP_SECRET_X", "db_password", "A_TOKEN", "PRIVATE_X", "API_KEY")),
    ('[environment]\nDATABASE_URL = "postgres://me:c4n4ry@db/x"', f"environment.DATABASE_URL: {SECRET}"),
    ('[environment]\n"A-B" = "c4n4ry"', "environment.A-B: should be a name like"),
    ("[environment]\nA = 1", "environment.A: should be a string"),
    ('environment = "c4n4ry"', 'environment: should be a table, or like "unit:shop.service"'),
    ('environment = "unit:c4n4ry"\nunits = ["a.service"]', "environment: should name one of units"),
    ('environment = "unit:a"\nunits = [{name = "a", kind = "supervisor", socket = "/s"}]', "environment: should name one"),
    ('environment = "unit:a.service"\nunits = ["a.service"]\nenv_file = "/c4n4ry"', "env_file: does not go with the"),
    ("environment = 1", "environment: should be a table"), ("timeouts = 1", "timeouts: should be a table"),
    ("[timeouts]\nfetch = -1", "timeouts.fetch: should be at least 0"),
    ("[timeouts]\nfetch = nan", "timeouts.fetch: should be a finite number"),
    ('[timeouts]\nfetch = "c4n4ry"', "timeouts.fetch: should be a number"),
    ('installer = "c4n4ry"', 'installer: should be "uv" or "pip"'),
    ('python = "-c4n4ry"', 'python: should be like "3.12", or a path'),
    ('index_url = "https://me:c4n4ry@h/simple"', f"index_url: holds a password; {SECRET}"),
    *((f'{key} = "c4n4ry"', f"{key}: should be an absolute path") for key in
      ("env_file", "build_env_file", "deploy_key", "known_hosts", "git_credentials", "cache")),
    ('verify = "c4n4ry"\nsigners = "/x"', 'verify: should be "", "commit" or "tag"'),
    ('verify = "tag"', "verify: needs signers, and they need it"), ('signers = "/c4n4ry"', "verify: needs signers"),
    ('verify = "tag"\nsigners = ["/x", "c4n4ry"]', "signers[1]: should be an absolute path"),
    ('check_deploy = "c4n4ry"', "check_deploy: should be true or false"),
    ("settings = 1", "settings: should be a string"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_a_mistake_is_one_line_with_its_place_and_without_the_value(tmp_path: Path, text: str, expected: str) -> None:
    (line,) = mistakes(write(tmp_path, GOOD + text + "\n"))
    assert line.startswith(expected)


@pytest.mark.parametrize("root", ["/", "//", "/./", "c4n4ry", "/srv/../c4n4ry", ""])
def test_a_root_that_is_relative_or_everything_is_a_mistake(tmp_path: Path, root: str) -> None:
    (line,) = mistakes(write(tmp_path, f'repository = "a@b.example:c"\nroot = "{root}"\n'))
    assert line.startswith("root: should ")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, 'keep = 0\nrepository = "/srv/x"\n[environment]\nA_KEY = "c4n4ry"\n', "Shop")
    places = {line.split(":")[0] for line in mistakes(path)}
    (name,) = (one for one in places if one.startswith("the file's name, which is the app's, should be "))
    assert {name, "keep", "root", "repository", "environment.A_KEY"} == places


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"a = 1\nb = = c4n4ry\n", "line 2, column "), (b'a = 1\nb = "c4n4ry', "line 2: "),
     (b"a = 1\n# \xff\n", "line 2: "), (b"a = " + b"[" * 100_000, "nests too deeply"),
     (b"a = " + b"9" * 9000, "holds a number")],
)  # fmt: skip
def test_a_file_that_is_no_toml_is_told_with_the_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = write(tmp_path)
    path.write_bytes(content)
    (line,) = mistakes(path)
    assert line.startswith(expected)


def test_a_file_that_others_could_have_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    path.chmod(0o646)
    with pytest.raises(ConfigurationInvalid, match="can be written by everyone"):
        config.load(path)
    path.chmod(0o644)
    real = os.fstat

    def theirs(handle: int) -> os.stat_result:
        facts = list(real(handle))
        facts[4] = os.geteuid() + 1
        return os.stat_result(facts)

    monkeypatch.setattr(config.os, "fstat", theirs)
    with pytest.raises(ConfigurationInvalid, match="belongs to another user"):
        config.load(path)


def test_a_file_that_is_too_large_missing_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="larger than 1 MB"):
        config.load(write(tmp_path, "#" * (config.LARGEST + 1)))
    with pytest.raises(ConfigurationInvalid, match="does not exist"):
        config.load(tmp_path / "none.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ConfigurationInvalid, match="is not a file"):
        config.load(tmp_path / "pipe.toml")


def test_the_only_app_needs_no_name_and_several_are_listed_and_none_is_chosen(tmp_path: Path) -> None:
    assert write(tmp_path, name="b") == config.find(None, None, tmp_path)
    path = write(tmp_path, name="a")
    with pytest.raises(ConfigurationInvalid, match="a, b"):
        config.find(None, None, tmp_path)
    assert path == config.find("a", None, tmp_path)
    assert ["a", "b"] == config.names(tmp_path)


@pytest.mark.parametrize("folder", [".", "none"])
def test_no_app_has_init_as_the_remedy(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        config.find(None, None, tmp_path / folder)
    assert "`bb-release init`" in caught.value.remedy


@pytest.mark.parametrize("name", ["shp", "../shop", "", "Shop", "shop\n"])
def test_a_name_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    with pytest.raises(ConfigurationInvalid):
        config.find(name, None, tmp_path)


def test_the_option_wins_over_the_variable_and_a_name_never_means_another_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = write(tmp_path), Path("elsewhere/other.toml")
    monkeypatch.setenv(config.VARIABLE, str(other))
    assert other == config.find(None, None, tmp_path) == config.find("other", None, tmp_path)
    assert Path("x.toml") == config.find(None, Path("x.toml"), tmp_path)
    assert path == config.find("shop", None, tmp_path)
    with pytest.raises(ConfigurationInvalid, match="is the app other"):
        config.find("shop", other, tmp_path)


def test_the_schema_tells_the_short_forms_and_forbids_other_keys() -> None:
    made = config.schema()
    assert {"type": "string"} in made["properties"]["units"]["items"]["anyOf"]
    assert False is made["additionalProperties"]
    assert ["repository", "root"] == made["required"]


def test_importing_config_does_not_import_pydantic() -> None:
    asked = "import sys, bb_release.config; print('pydantic' in sys.modules)"
    ours = str(Path(bb_release.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", asked], env={"PYTHONPATH": ours}, capture_output=True, text=True, check=True
    )
    assert "False" == done.stdout.strip()
