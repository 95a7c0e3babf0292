"""Whether what was read from a file of ours is what we would have written: each value of its kind. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite

Kind = Callable[[object], bool]


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_printable(value: object) -> bool:
    """A text of one line, for a person or a path: no control characters, no halves of a pair."""
    return isinstance(value, str) and value.isprintable()


def is_truth(value: object) -> bool:
    return isinstance(value, bool)


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return is_whole(value) or (isinstance(value, float) and isfinite(value))


def is_moment(value: object) -> bool:
    """A moment as we write it, with its zone; "" where there is none yet."""
    try:
        return value == "" or (isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None)
    except ValueError:
        return False


def is_anything(value: object) -> bool:
    return True


def list_of(kind: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(kind(one) for one in value)


def table_of(kind: Kind) -> Kind:
    """Any names (in JSON they are texts), each value of the kind."""
    return lambda value: isinstance(value, dict) and all(kind(one) for one in value.values())


def record(kinds: Mapping[str, Kind], *, needed: tuple[str, ...] = ()) -> Kind:
    """Known names with a kind each; other names are passed over, a newer agent may have written them."""
    return lambda value: isinstance(value, dict) and not misfits(value, kinds) and all(name in value for name in needed)


def misfits(facts: Mapping[str, object], kinds: Mapping[str, Kind]) -> list[str]:
    """The names whose values are not of their kind."""
    return [name for name, kind in kinds.items() if name in facts and not kind(facts[name])]


_ACTIVATION = record({"sequence": is_whole, "at": is_moment, "previous": is_text}, needed=("sequence",))
_FACTS = {
    **dict.fromkeys(
        ("application", "database", "static_key", "static_root", "static_tree", "static_way"), is_printable
    ),
    **dict.fromkeys(("pending", "unapplied", "warnings"), list_of(is_text)),
}
_UNIT = record({
    **dict.fromkeys(("name", "kind", "socket"), is_text), "user": is_truth, "status": list_of(is_text)
})  # fmt: skip
_TEXTS = (
    "name", "state", "ref", "revision", "shape", "before", "previous", "makes_bad", "agent", "boot", "python", "reason",
    "package_set",
)  # fmt: skip
MANIFEST: dict[str, Kind] = {
    **dict.fromkeys(_TEXTS, is_text), "began_at": is_moment, "sequence": is_whole, "format": is_whole,
    "activations": list_of(_ACTIVATION), "steps": table_of(is_number), "migrations": list_of(is_text),
    "facts": record(_FACTS), "packages": table_of(is_text),
    "units": list_of(_UNIT), "proof": table_of(is_text), "proven": table_of(is_text), "failure": table_of(is_text),
    "size": list_of(is_number), "switch_back": is_truth,
}  # fmt: skip
