"""From requirements that leave something open to pins with hashes, by uv: then it is known what will be installed.

What they came down to stays beside the release. The next one takes it from there as long as nothing that decides it
is another: a deploy of changed code alone brings no other package, and asks no index. So do `uv lock` and `uv pip
compile` with the file that they have written before; who wants newer ones says so.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from bb_release.tools import environment, indexes, package_set, uv
from bb_release.tools.installers import Installer
from bb_release.tools.requirements import pins, plain
from bb_release.tools.requirements.pins import Batch, Locked, Pin, Plan

NOTE = "resolution.json"


def resolve(installer: Installer, plan: Plan, folder: Path, *, before: Path | None = None) -> Plan:
    """The same plan with every package pinned, in files below `folder`, as a lock would have given it.

    `before`: the same folder of another release, whose pins are taken where the same decided them.
    What has hashes already is left as it is: uv would note down those of the index instead. So is what pip
    installs, since only pip knows what pip would choose. Raises RequirementsNotInstalled, OSError.
    """
    files = [file for batch in plan.batches for file in batch.files]
    found = plain.read(files, folder)
    if installer.name != "uv" or found.hashes or all(batch.complete for batch in plan.batches):
        return plan
    decided_by = what_decides(installer, plan)
    if decided_by and before is not None:
        batches = _as_before(before, folder, decided_by)
        if batches:
            installer.say(f"the packages of release {before.parent.name}: the requirements are the same")
            return replace(plan, batches=batches)
    argv = [uv.program(), "pip", "compile", "--python", str(installer.venv / "bin" / "python")]
    argv += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    text = installer.run([*argv, *(str(file) for file in files)], plan, capture=True)
    locked = Locked(tuple(Pin(*one) for one in plain.pinned(text)))
    version = environment.python_version(installer.venv)
    batches = pins.write(locked, folder, plan.shown, version, found.options)
    if decided_by:
        note = {"decided_by": decided_by, "pins": package_set.digest(_texts(folder))}
        pins.write_lines(folder / NOTE, [json.dumps(note, indent=1)])
    return replace(plan, batches=batches)


def what_decides(installer: Installer, plan: Plan) -> str:
    """A short text for all that a resolution comes from; "" where part of it lies in the tree or at an address."""
    found = plain.read([file for batch in plan.batches for file in batch.files])
    if not found.names_only_packages:
        return ""
    added, words = indexes.choose(installer.name, installer.env, installer.index_url, plan.indexes)
    places = [pins.same_index(place) for value in added.values() for place in re.split(r"[\s,]+", value)]
    return package_set.digest([found.texts, plan.interpreter, installer.version, installer.shaping, places, words])


def _texts(folder: Path) -> dict[str, str]:
    """The files of pins by name. Raises OSError."""
    return {name: (folder / name).read_text("utf-8") for name, _ in pins.FILES if (folder / name).exists()}


def _as_before(before: Path, folder: Path, decided_by: str) -> tuple[Batch, ...]:
    """Write the pins that a release before had; none where it had others, or they are not what was written."""
    try:
        note, texts = json.loads((before / NOTE).read_text("utf-8")), _texts(before)
        if note != {"decided_by": decided_by, "pins": package_set.digest(texts)}:
            return ()
    except (OSError, ValueError):
        return ()
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, text in {**texts, NOTE: (before / NOTE).read_text("utf-8")}.items():
        pins.write_lines(folder / name, [text.removesuffix("\n")])
    for name, _ in pins.FILES:
        if name not in texts:
            (folder / name).unlink(missing_ok=True)
    return pins.batches(folder)
