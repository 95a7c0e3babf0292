"""Every parser of outside input with known inputs and made-up ones: only errors with a remedy come out."""

from __future__ import annotations

import pytest
from fuzz_targets import SEEDS, TARGETS, call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def test_every_target_has_seeds() -> None:
    assert set(TARGETS) == set(SEEDS)
    assert [] == [name for name, seeds in SEEDS.items() if not seeds]


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_is_read_or_refused_with_a_remedy(name: str) -> None:
    refused = [call(name, seed) for seed in SEEDS[name]]
    assert None in refused, "no seed of this target gets through: it would test nothing but the door"


@st.composite
def cut_up(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with a part of it replaced, or bytes of no kind at all."""
    seed = draw(st.sampled_from(seeds))
    begin = draw(st.integers(0, len(seed)))
    end = draw(st.integers(begin, min(len(seed), begin + 40)))
    return seed[:begin] + draw(st.binary(max_size=40) | st.text(max_size=20).map(str.encode)) + seed[end:]


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_made_of_a_seed_is_read_or_refused_with_a_remedy(name: str) -> None:
    short = [seed for seed in SEEDS[name] if len(seed) < 20_000]

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=200) | cut_up(short))
    def read_or_refuse(data: bytes) -> None:
        call(name, data)

    read_or_refuse()
