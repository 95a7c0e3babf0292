"""What an answer of Django's has to be like: each value of its kind, and of more than that nothing is kept.

The questions are those of `inside/probe.py`, but the site's own code runs beside it and can write any answer.
"""

from __future__ import annotations

from bb_release.model.shape import Kind, is_anything, is_printable, is_text, is_truth, is_whole, list_of, record


def _is_header(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and list_of(is_text)(value)


_STATIC: dict[str, Kind] = {"static_sources": is_printable, "static_way": is_printable, "static_unknown": is_text}
_FACTS: dict[str, Kind] = {
    **dict.fromkeys(("application", "django", "python", "settings", "static_root"), is_printable),
    "staticfiles": is_truth,
}
_MIGRATIONS: dict[str, Kind] = {
    **dict.fromkeys(("pending", "applied", "unknown"), list_of(is_printable)),
    "listed": list_of(is_anything),  # only ever compared as a whole
}
_REHEARSAL: dict[str, Kind] = {"status": is_whole, "headers": list_of(_is_header), "body": is_text}

FACTS_KEPT = (*_FACTS, *_STATIC)
KINDS: dict[str, Kind] = {
    "facts": record({**_FACTS, **_STATIC}, needed=tuple(_FACTS)),
    "migrations": record(_MIGRATIONS, needed=tuple(_MIGRATIONS)),
    "rehearse": record(_REHEARSAL, needed=tuple(_REHEARSAL)),
    "static": record(_STATIC, needed=tuple(_STATIC)),
}
