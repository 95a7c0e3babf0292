"""What must not be shown of an app: known to a run from its begin, and to `status`, `check` and `plan`, which are none.

What the site and its units say of themselves may hold any of it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import urlsplit

from bb_release.actions import notify, site_environment
from bb_release.actions.wanted import access_of
from bb_release.envfile import read as read_envfile
from bb_release.errors import ReleaseError
from bb_release.model.app import App
from bb_release.tools.git_access import secrets_of as secrets_of_git
from bb_release.tools.process import Mask

# what a proxy or a browser says to any site
_PLAIN_HEADER = re.compile(r"host|user-agent|accept(-.*)?|forwarded|x-forwarded-.*|x-real-ip", re.IGNORECASE)


def mask_of(app: App) -> Mask:
    """Reads the files anew: to be asked once for what is shown at once."""
    return Mask(secrets_of(app))


def secrets_of(app: App) -> list[str]:
    """Every value that is one, as far as it can be read: a file that cannot is told by who needs it."""
    found = [*header_secrets(app), *secrets_of_git(access_of(app))]
    shown = _shown(app)
    for read in (site_environment.read, _build_environment):
        with suppress(ReleaseError, OSError):
            values = [value for name, value in read(app).items() if name not in app.public]
            found += [value for value in values if value not in shown]
    if app.webhook_file:
        with suppress(ReleaseError, OSError):
            address = read_envfile(app.webhook_file).get(notify.VARIABLE, "")
            found += [address, address.partition("://")[2].partition("/")[2]]  # the host is no secret, what follows is
    return found


def header_secrets(app: App) -> list[str]:
    """Values of headers that only the health request has: they open a page that is closed to visitors."""
    return [value for name, value in app.health.headers if not _PLAIN_HEADER.fullmatch(name)] if app.health else []


def _shown(app: App) -> str:
    """What the configuration says itself, which many messages name: the site's host and folders are no secrets."""
    headers = app.health.headers if app.health else ()
    health = [urlsplit(app.health.url).hostname or ""] if app.health else []  # its path and query may hold a secret
    health += [value for name, value in headers if _PLAIN_HEADER.fullmatch(name)]
    return " ".join([str(app.root), app.settings, app.application, *health, *(unit.name for unit in app.units)])


def _build_environment(app: App) -> dict[str, str]:
    return read_envfile(app.build_env_file) if app.build_env_file else {}
