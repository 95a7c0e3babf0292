"""Runs in the app's own Python, in collectstatic: what the live release has compressed is not compressed again.

WhiteNoise's two compressions make bytes of bytes. They are looked up by what goes in; all else is done by WhiteNoise.
The agent says where only if the same versions with the same settings made what is there.
Standard library only, Python 3.8 and later.
"""

import hashlib
import os

SUFFIXES = {"compress_brotli": ".br", "compress_gzip": ".gz"}  # whitenoise/compress.py, Compressor


def remember(folder):
    """Have WhiteNoise, where there is one, take from this folder what it made before."""
    try:
        from whitenoise.compress import Compressor
    except ImportError:
        return
    known = {}
    for top, _, files in os.walk(folder):
        names = set(files)
        for name in names:
            if any(name + suffix in names for suffix in SUFFIXES.values()):
                path = os.path.join(top, name)
                known[digest(read(path))] = path
    for name, suffix in SUFFIXES.items():
        compress = vars(Compressor).get(name)
        if isinstance(compress, staticmethod):
            setattr(Compressor, name, staticmethod(looked_up(known, suffix, compress.__func__)))


def looked_up(known, suffix, compress):
    def look_up(data):
        path = known.get(digest(data))
        try:
            return read(path + suffix) if path else compress(data)
        except OSError:  # it was of no use to have it smaller
            return compress(data)

    return look_up


def digest(data):
    return hashlib.blake2b(data, digest_size=16).digest()


def read(path):
    with open(path, "rb") as file:
        return file.read()
