"""Cost against size, as an SVG drawn by hand: both axes logarithmic, one line for each contestant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 50, 60
TITLE = "Seconds from the command to the swapped link, one line of code changed"
X_AXIS = "files in the tree and in its packages"
COLOURS = ("#0b6e4f", "#c1440e", "#7a5195", "#2f6fb3", "#777777", "#a0a0a0")
SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def points(known: dict[str, dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Lines of (files of a release, seconds of a code-only deploy)."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for facts in known.values():
        files = facts["size"]["files"] + facts["size"]["installed_files"]
        for name, scenarios in facts["results"].items():
            lines.setdefault(name, []).append((files, scenarios["code"]["link_seconds"]["median"]))
        for name, key in (("raw steps", "collected"), ("raw steps, static linked", "linked")):
            lines.setdefault(name, []).append((files, facts["floor_sums"][key]["median"]))
    return lines


def drawn(known: dict[str, dict[str, Any]]) -> str:
    return "\n".join(parts(points(known))) + "\n"


def parts(lines: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    xs = [x for line in lines.values() for x, _ in line]
    ys = [y for line in lines.values() for _, y in line]
    first_x, last_x = math.log(min(xs) / 1.3), math.log(max(xs) * 1.3)
    ticks = [s for s in SECONDS if min(ys) / 2 <= s <= max(ys) * 2]
    first_y, last_y = math.log(min(*ys, ticks[0])), math.log(max(*ys, ticks[-1]))

    def at_x(x: float) -> float:
        return LEFT + (math.log(x) - first_x) / (last_x - first_x) * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - (math.log(y) - first_y) / (last_y - first_y) * (HEIGHT - TOP - BOTTOM)

    box = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">'
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield f'<text x="{LEFT}" y="26" font-size="15">{TITLE}</text>'
    for tick in ticks:
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(tick):.1f}" y2="{at_y(tick):.1f}" stroke="#e4e4e4"/>'
        yield f'<text x="{LEFT - 10}" y="{at_y(tick) + 4:.1f}" text-anchor="end" fill="#555555">{tick:g}</text>'
    for x in sorted(set(xs)):
        yield f'<line x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>'
        yield f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="#555555">{x:,.0f}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle:.1f}" y="{HEIGHT - 16}" text-anchor="middle" fill="#555555">{X_AXIS}</text>'
    names = apart({name: at_y(line[-1][1]) for name, line in lines.items()})
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y in line:
            yield f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3.5" fill="{colour}"/>'
        yield f'<text x="{WIDTH - RIGHT + 12}" y="{names[name] + 4:.1f}" fill="{colour}">{escape(name)}</text>'
    yield "</svg>"


def apart(heights: dict[str, float], least: float = 17) -> dict[str, float]:
    """Move names so far apart that they can be read."""
    moved: dict[str, float] = {}
    lowest = -math.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        lowest = moved[name] = max(height, lowest + least)
    return moved
