"""From requirements that leave something open to pins with hashes, by uv: then it is known what will be installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bb_release.tools import environment, uv
from bb_release.tools.installers import Installer
from bb_release.tools.requirements import pins, plain
from bb_release.tools.requirements.pins import Locked, Pin, Plan


def resolve(installer: Installer, plan: Plan, folder: Path) -> Plan:
    """The same plan with every package pinned, in files below `folder`, as a lock would have given it.

    What has hashes already is left as it is: uv would note down those of the index instead. So is what pip
    installs, since only pip knows what pip would choose. Raises RequirementsNotInstalled, OSError.
    """
    files = [file for batch in plan.batches for file in batch.files]
    found = plain.read(files, folder)
    if installer.name != "uv" or found.hashes or all(batch.complete for batch in plan.batches):
        return plan
    argv = [uv.program(), "pip", "compile", "--python", str(installer.venv / "bin" / "python")]
    argv += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    text = installer.run([*argv, *(str(file) for file in files)], plan, capture=True)
    locked = Locked(tuple(Pin(*one) for one in plain.pinned(text)))
    version = environment.python_version(installer.venv)
    return replace(plan, batches=pins.write(locked, folder, plan.shown, version, found.options))
