"""Whether somebody who is trusted signed what is to be built: asked before anything is built from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from bb_release.actions.run import Run
from bb_release.errors import UsageInvalid
from bb_release.model.app import App
from bb_release.model.fact import Fact, warn
from bb_release.tools import signature


def signer(app: App, revision: str) -> str:
    """Who signed the commit, or a tag of it; "" where nothing has to be signed.

    Raises SignatureInvalid, ConfigurationInvalid.
    """
    if not app.verify:
        return ""
    signers = signature.read_signers(app.signers, outside=app.root)
    asked = signature.signer_of_tag if app.verify == "tag" else signature.signer_of_commit
    return asked(app.layout.mirror, revision, signers)


def require_no_archive(app: App) -> None:
    """An archive has no commit, and so nothing that git could verify. Raises UsageInvalid."""
    if app.verify:
        raise UsageInvalid(
            f'an archive cannot be verified, and verify = "{app.verify}" wants that',
            remedy="deploy a revision of the repository",
        )


def require_signed(run: Run, revision: str) -> None:
    """Stop what is not signed, `--force` or not. Raises SignatureInvalid."""
    found = signer(run.app, revision)
    if found:
        run.facts["signed_by"] = found
        run.log.say(f"signed by {found}")


def probe(app: App) -> Iterator[Fact]:
    """For `check`: are the keys readable, and the programs that ask them there? Raises ConfigurationInvalid."""
    if app.verify:
        found = signature.check_signers(signature.read_signers(app.signers, outside=app.root))
        yield Fact(f"a release is built from a signed {app.verify} only; signers: {', '.join(found)}")
        for path in app.signers:
            if path.stat().st_uid != 0:
                yield warn(f"signers {path} is not root's: code of a release could add a key for the next one",
                           f"sudo chown root {shlex.quote(str(path))}")  # fmt: skip
