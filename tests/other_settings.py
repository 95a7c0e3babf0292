"""Other settings of a site for a while, and commands of its own at a place of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from example_site import Site


@contextmanager
def configured(site: Site, **settings: str) -> Iterator[None]:
    """Other settings for a while."""
    before = dict(site.settings)
    site.write_config(**settings)
    site.own(site.config)
    try:
        yield
    finally:
        site.settings.clear()
        site.write_config(**before)
        site.own(site.config)


def run_at(at: str, command: str) -> str:
    """The table of a command of the site's own, for the key `[run]` of the settings."""
    return f"\n[[run]]\nat = \"{at}\"\ncommand = ['sh', '-c', '''{command}''']\n"
