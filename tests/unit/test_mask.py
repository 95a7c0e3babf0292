"""What is left of a secret where a text was cut: nothing that tells it."""

from __future__ import annotations

import pytest

from bb_release.errors import CUT, shortened
from bb_release.tools.mask import SHORTEST_PART, Mask, in_two

SECRET = "gulf-of-canaries/ä-β-never-seen"
MASK = Mask(["another-secret-of-some-length", SECRET, "gulf-of-mexico-is-another"])


def parts(least: int) -> list[str]:
    """Every piece of the secret, of so many characters."""
    return [SECRET[at : at + least] for at in range(len(SECRET) - least + 1)]


@pytest.mark.parametrize("column", range(270, 302))
def test_a_text_that_was_cut_in_a_secret_does_not_end_in_its_beginning(column: int) -> None:
    told = MASK(shortened("." * column + SECRET + " and more", 300))
    assert told.startswith("." * min(column, 300))
    assert [] == [part for part in parts(SHORTEST_PART) if part in told]


@pytest.mark.parametrize("at", range(1, len(SECRET.encode()) + 1))
def test_a_line_that_was_cut_in_two_shows_less_than_four_characters_of_a_secret(at: int) -> None:
    line = ("é" * 20 + SECRET + "z" * 20).encode()
    first, second = in_two(line[: 40 + at])
    told = [MASK(first.decode()), MASK((second + line[40 + at :]).decode())]
    assert [] == [(part, text) for part in parts(SHORTEST_PART) for text in told if part in text]
    assert told[0].startswith("é" * 20)
    assert told[1].endswith("z" * 20)


def test_what_was_cut_elsewhere_stays_as_it_is() -> None:
    for text in (
        f"nothing of it{CUT}",
        f"gul{CUT}en",
        f"gulf-of-canaries, they say{CUT}",
        f"{CUT} never-seen.",
        "x gulf-of-",
    ):
        assert text == MASK(text)
    assert f"****{CUT}" == MASK(f"gulf-of-{CUT}")
    assert f"{CUT}****" == MASK(f"{CUT}never-seen")
    assert f"a ****{CUT}**** b {CUT} c" == MASK(f"a gulf-of-ca{CUT}naries/ä-β-never-seen b {CUT} c")


def test_a_password_that_nobody_named_is_masked_in_an_address_that_was_cut() -> None:
    assert f"at https://me:****{CUT}" == MASK(f"at https://me:hunter{CUT}")


def test_values_are_masked_as_deep_as_they_go() -> None:
    value = {"a": [SECRET, {"b": f"x{SECRET}"}], SECRET: (1, None, True, 0.5, f"{SECRET}y")}
    assert {"a": ["****", {"b": "x****"}], "****": [1, None, True, 0.5, "****y"]} == MASK.all_of(value)
