"""Text, code and bytes that look like a site's: made from a seed, the same on every run."""

from __future__ import annotations

import random

POOL_BYTES = 400_000


class Text:
    """Slices of prepared pools: a site of 100,000 files is made in seconds."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - the same text again is what is wanted
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = ["".join(self.random.choices(letters, k=self.random.randint(2, 11))) for _ in range(3_000)]
        self._prose = " ".join(self.random.choices(words, k=POOL_BYTES // 7))
        self._bytes = self.random.randbytes(POOL_BYTES)
        self._functions = [self._function(words) for _ in range(400)]

    def _function(self, words: list[str]) -> str:
        name, first, second, third = self.random.sample(words, 4)
        return (
            f"def do_{name}(v_{first}, v_{second}=None):\n"
            f'    """{" ".join(self.random.sample(words, 12)).capitalize()}."""\n'
            f"    v_{third} = {{'{first}': v_{first}, '{second}': v_{second}, 'at': {self.random.randint(1, 9999)}}}\n"
            f"    if v_{second} is None:\n"
            f"        return [key for key, value in v_{third}.items() if value]\n"
            f"    for number, v_{name}x in enumerate(v_{first}):\n"
            f"        v_{third}[number] = (v_{name}x, v_{second}, '{third}')\n"
            f"    return v_{third}\n"
        )

    def size(self, mean: int) -> int:
        """A length around a mean, with a long tail as files have it."""
        return min(int(self.random.lognormvariate(0, 0.8) * mean * 0.72) + 40, POOL_BYTES // 2)

    def prose(self, size: int) -> str:
        begin = self.random.randrange(len(self._prose) - size)
        return self._prose[begin : begin + size]

    def noise(self, size: int) -> bytes:
        """What does not compress: pictures and fonts."""
        begin = self.random.randrange(len(self._bytes) - size)
        return self._bytes[begin : begin + size]

    def code(self, size: int) -> str:
        """A Python module of about that size, which can be imported."""
        count = max(1, size // 430)
        return f'"""{self.prose(60)}"""\n\n\n' + "\n\n".join(self.random.choices(self._functions, k=count))

    def script(self, size: int) -> str:
        return f"/* {self.prose(40)} */\nvar text = '{self.prose(size)}';\n"
