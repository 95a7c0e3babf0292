"""Requirements that leave something open come down to pins with hashes, by the real uv, from wheels made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_environment import Place, wheel

from bb_release.actions import package_sets
from bb_release.errors import RequirementsNotInstalled
from bb_release.tools import environment, indexes, package_set, resolution
from bb_release.tools.installers import Installer
from bb_release.tools.requirements import plain
from bb_release.tools.requirements.pins import Batch, Plan

DIGEST = "--hash=sha256:" + "0" * 64


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(indexes, "SYSTEM_PIP_CONFIG", tmp_path / "none")
    made = Place(tmp_path)
    made.create("uv")
    return made


def installer(place: Place, name: str = "uv", **env: str) -> Installer:
    return Installer(name, place.venv, place.root, place.cache, {**place.env, **env}, on_line=place.lines.append)


def wish(place: Place, text: str, name: str = "requirements.txt") -> Plan:
    file = place.root / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return Plan(name, (Batch((file,), fixed=plain.read([file]).is_fixed),), interpreter="this one")


def name_for(made_by: Installer, plan: Plan) -> str:
    chosen = package_sets.choose(made_by, plan)
    return chosen.name if chosen else ""


def test_what_is_open_is_pinned_and_what_the_tree_holds_is_kept_apart(place: Place) -> None:
    wheel(place.wheels, "dep", "1.0")
    wheel(place.wheels, "dep", "1.1")
    wheel(place.wheels, "left_out", "1.0")
    wheel(place.wheels, "django", "0.0.2", needs="Requires-Dist: dep>=1\n")
    wheel(place.root / "own", "mine", "1.0")
    (place.root / "deps/of").mkdir(parents=True)
    (place.root / "deps/of/base.txt").write_text("--no-index\n--find-links ../../wheels\n--only-binary :all:\ndjango\n")
    plan = wish(
        place, '-r deps/of/base.txt\n# a remark\nleft-out; python_version < "3"\n./own/mine-1.0-py3-none-any.whl\n'
    )
    found = resolution.resolve(installer(place), plan, place.root / "requirements")

    pins, own = [batch.files[0].read_text() for batch in found.batches]
    head = f"# requirements.txt for Python {environment.python_version(place.venv)}\n"
    head += "--no-index\n--find-links ../wheels\n--only-binary :all:\n"
    assert pins.startswith(f"{head}dep==1.1 \\\n    --hash=sha256:")
    assert "\ndjango==0.0.2 \\\n    --hash=sha256:" in pins
    assert "left-out" not in pins
    assert own.startswith(f"{head}./own/mine-1.0-py3-none-any.whl \\\n    --hash=sha256:")
    assert [(True, True), (True, False)] == [(batch.complete, batch.fixed) for batch in found.batches]

    installer(place).install(found)
    assert {"django": "0.0.2", "dep": "1.1", "mine": "1.0"} == environment.packages(place.venv)


def test_what_has_hashes_keeps_its_own_and_pip_chooses_by_itself(place: Place) -> None:
    hashed = wish(place, f"--no-index\n--find-links {place.wheels}\ndjango==0.0.1 {DIGEST}\n")
    assert hashed == resolution.resolve(installer(place), hashed, place.root / "requirements")
    with pytest.raises(RequirementsNotInstalled):
        installer(place).install(hashed)
    open_wish = wish(place, "django\n")
    assert open_wish == resolution.resolve(installer(place, "pip"), open_wish, place.root / "requirements")
    assert not (place.root / "requirements").exists()


def test_what_cannot_be_resolved_is_told_like_what_cannot_be_installed(place: Place) -> None:
    plan = wish(place, f"--no-index\n--find-links {place.wheels}\ndjango==9.9.9\n")
    with pytest.raises(RequirementsNotInstalled, match=r"uv could not install requirements\.txt") as caught:
        resolution.resolve(installer(place), plan, place.root / "requirements")
    assert "django==9.9.9" in caught.value.details
    assert "correct the pin and push, then run: bb-release deploy" == caught.value.remedy


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        (f"django==5.2 {DIGEST}", True),
        (f"django==5.2 \\\n    {DIGEST}\n# a remark\nasgiref[x] == 3.9 ; python_version > '3' {DIGEST}", True),
        (f"thing @ https://a.invalid/thing-1.whl {DIGEST}", True),
        ("django==5.2", False),
        (f"django>=5.2 {DIGEST}", False),
        (f"django==5.* {DIGEST}", False),
        (f"django==5.2 {DIGEST}\n./own-1.0-py3-none-any.whl {DIGEST}", False),
        (f"django==5.2 {DIGEST}\nown @ file:///own-1.0-py3-none-any.whl {DIGEST}", False),
        (f"django==5.2 {DIGEST}\n-e ./own", False),
        (f"django==5.2; platform_release >= '6' {DIGEST}", False),
    ],
)
def test_only_versions_and_addresses_with_hashes_decide_what_is_installed(place: Place, text: str, fixed: bool) -> None:
    plan = wish(place, text)
    assert fixed == plan.batches[0].fixed
    assert fixed == bool(name_for(installer(place), plan))


def test_a_set_is_named_by_all_that_decides_what_is_in_it_and_by_nothing_else(place: Place) -> None:
    text = f"django==5.2 {DIGEST}\n"
    plan = wish(place, text)
    name = name_for(installer(place), plan)
    same = [
        name_for(installer(place), wish(place, f"# another remark\n--index-url https://a.invalid/\n{text}", "b.txt")),
        name_for(installer(place, BB_RELEASE="2026-01-01-00-00-00", UV_INDEX_OURS_PASSWORD="x", LANG="C"), plan),
    ]
    others = [
        name_for(installer(place), wish(place, text.replace("5.2", "5.3"))),
        name_for(installer(place), wish(place, f"{text}    --hash=sha256:{'1' * 64}\n")),
        name_for(installer(place), wish(place, f"--no-binary django\n{text}")),
        name_for(installer(place), Plan("r", plan.batches, interpreter="another one")),
        name_for(installer(place, "pip"), wish(place, text)),
        name_for(installer(place, CFLAGS="-O3"), wish(place, text)),
    ]
    assert [name, name] == same
    assert len(others) == len({name, *others} - {name, ""})


@pytest.mark.parametrize("option", ["--no-binary django", "--only-binary :all:", "--config-settings opt=1", "--pre"])
def test_of_a_set_that_was_made_with_another_option_no_package_is_taken(place: Place, option: str) -> None:
    text = f"django==5.2 {DIGEST}\n"
    without, with_it = (package_sets.choose(installer(place), wish(place, t)) for t in (text, f"{option}\n{text}"))
    assert without is not None
    assert with_it is not None
    folder = place.root / "set"
    package_set.make(place.venv, folder, without)
    assert {"django"} == package_set.same(folder, without)
    assert set() == package_set.same(folder, with_it)
    assert without.pins == with_it.pins


def test_what_decides_a_resolution_is_all_that_it_comes_from(place: Place) -> None:
    def decides(text: str, made_by: Installer | None = None, **facts: str) -> str:
        plan = wish(place, text)
        return resolution.what_decides(made_by or installer(place), replace(plan, **facts))  # type: ignore[arg-type]

    (place.root / "constraints.txt").write_text("dep==1.0\n")
    (place.root / "base.txt").write_text("dep\n")
    text = "-r base.txt\n-c constraints.txt\n--no-binary dep\ndjango[x]>=5; python_version > '3'\n"
    first = decides(text)
    assert first
    assert first == decides(text)
    others = {
        decides(f"{text}# a remark\n"),
        decides(text, interpreter="another"),
        decides(text, installer(place, CFLAGS="-O3")),
        decides(text, installer(place, UV_INDEX="https://one.invalid/simple")),
        decides(f"--index-url https://one.invalid/simple\n{text}"),
    }
    (place.root / "constraints.txt").write_text("dep==1.1\n")
    others.add(decides(text))
    (place.root / "base.txt").write_text("dep>1\n")
    others.add(decides(text))
    assert 7 == len(others - {first, ""})
    secret = installer(place, UV_INDEX="https://one:secret@a.invalid/simple")
    assert decides(text, secret) == decides(text, installer(place, UV_INDEX="https://a.invalid/simple"))


@pytest.mark.parametrize(
    "line",
    [
        "./own", "../own-1.0-py3-none-any.whl", "own/lib", "own-1.0.tar.gz", "-e ./own", "--editable=own",
        "own @ file:///own", "own @ git+https://a.invalid/own@main", "https://a.invalid/own-1.0.zip",
        "--find-links ./wheels", "-c https://a.invalid/constraints.txt", "-r missing.txt", "-r https://a.invalid/r.txt",
        "-c nested.txt", "own; platform_release > '6'",
    ],
)  # fmt: skip
def test_what_may_be_another_thing_by_the_same_name_is_resolved_anew(place: Place, line: str) -> None:
    (place.root / "nested.txt").write_text("-r other.txt\n")
    assert "" == resolution.what_decides(installer(place), wish(place, f"django\n{line}\n"))
    assert resolution.what_decides(installer(place), wish(place, "django\n"))
