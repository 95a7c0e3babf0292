"""Archives: what an ordinary one becomes, and a table of hostile ones, none of which gets anything out."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest

from bb_release import errors
from bb_release.tools import archive as subject
from bb_release.tools import members

FILTERS = [False, True] if hasattr(tarfile, "data_filter") else [False]  # with Python's own filter and without


class Tar:
    """Writes a tar member by member, as nobody's program would."""

    def __init__(self, **options: object) -> None:
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", **options)  # noqa: SIM115

    def add(self, name: str, content: bytes = b"x", **facts: object) -> Tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in facts.items():
            setattr(info, key, value)
        self.tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
        return self

    def folder(self, name: str, mode: int = 0o755) -> Tar:
        return self.add(name, b"", type=tarfile.DIRTYPE, mode=mode)

    def link(self, name: str, target: str) -> Tar:
        return self.add(name, b"", type=tarfile.SYMTYPE, linkname=target)

    def bytes(self) -> bytes:
        self.tar.close()
        return self.buffer.getvalue()


class Zip:
    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self.zip = zipfile.ZipFile(self.buffer, "w", zipfile.ZIP_DEFLATED)

    def add(self, name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644, **facts: object) -> Zip:
        info = zipfile.ZipInfo("placeholder")
        info.filename = info.orig_filename = name
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        for key, value in facts.items():
            setattr(info, key, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a name that is there twice is what is wanted
            self.zip.writestr(info, content)
        return self

    def link(self, name: str, target: str) -> Zip:
        return self.add(name, target.encode(), stat.S_IFLNK | 0o777)

    def bytes(self) -> bytes:
        self.zip.close()
        return self.buffer.getvalue()


def unpack(folder: Path, content: bytes, wanted: str = "manage.py") -> Path:
    """Unpack below `folder`; the canaries that lie around the tree must be as they were."""
    file = folder / "archive"
    file.write_bytes(content)
    release = folder / "release"
    release.mkdir()
    (release / "canary").write_text("untouched")
    tree = release / "app"
    tree.mkdir()
    try:
        subject.unpack(file, tree, revision=subject.digest(file), wanted=wanted)
    finally:
        assert ["app", "canary"] == sorted(os.listdir(release))
        assert "untouched" == (release / "canary").read_text()
        assert ["archive", "release"] == sorted(os.listdir(folder))
        assert not Path("/tmp/bb-canary").exists()
    return tree


def shape(tree: Path) -> dict[str, str]:
    """Every path below a tree: its mode and content, or where it leads."""
    found = {}
    for path in sorted(tree.rglob("*")):
        mode = path.lstat().st_mode
        what = f"-> {os.readlink(path)}" if path.is_symlink() else "" if path.is_dir() else path.read_text()
        found[str(path.relative_to(tree))] = what if path.is_symlink() else f"{stat.S_IMODE(mode):o} {what}".strip()
    return found


PLAIN = {
    "a": "755", "a/b.txt": "644 b", "a/run": "755 run", "empty": "755", "link": "-> a/b.txt", "manage.py": "644 m",
    "ä.txt": "644 ä",
}  # fmt: skip


def plain_tar(prefix: str = "") -> bytes:
    tar = Tar().folder(f"{prefix}empty", 0o2700).add(f"{prefix}a/b.txt", b"b", mode=0o666)
    tar.add(f"{prefix}a/run", b"run", mode=0o777).add(f"{prefix}manage.py", b"m", mode=0o600)
    return tar.link(f"{prefix}link", "a/b.txt").add(f"{prefix}ä.txt", "ä".encode()).bytes()


def plain_zip(prefix: str = "") -> bytes:
    made = Zip().add(f"{prefix}empty/", b"", stat.S_IFDIR | 0o700).add(f"{prefix}a/b.txt", b"b", stat.S_IFREG | 0o666)
    made.add(f"{prefix}a/run", b"run", stat.S_IFREG | 0o777).add(f"{prefix}manage.py", b"m", 0)
    return made.link(f"{prefix}link", "a/b.txt").add(f"{prefix}ä.txt", "ä".encode()).bytes()


PACKED = {
    "tar": plain_tar(), "tar.gz": gzip.compress(plain_tar()), "tar.bz2": bz2.compress(plain_tar()),
    "tar.xz": lzma.compress(plain_tar()), "zip": plain_zip(), "two gz": gzip.compress(plain_tar()[:700])
    + gzip.compress(plain_tar()[700:]), "dot": plain_tar("./"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_an_ordinary_archive_becomes_its_tree_with_known_modes(tmp_path: Path, kind: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert PLAIN == shape(unpack(tmp_path, PACKED[kind]))
    finally:
        os.umask(before)


@pytest.mark.parametrize("content", [plain_tar("site-1.0/"), plain_zip("site-1.0/")], ids=["tar", "zip"])
def test_one_top_folder_is_left_out_when_manage_py_lies_below_it(tmp_path: Path, content: bytes) -> None:
    assert PLAIN == shape(unpack(tmp_path, content))


def test_one_top_folder_stays_when_manage_py_is_found_with_it(tmp_path: Path) -> None:
    tree = unpack(tmp_path, plain_tar("site/"), "site/manage.py")
    assert (tree / "site" / "manage.py").exists()


def test_an_archive_of_git_is_unpacked_and_its_extended_header_is_no_file(tmp_path: Path) -> None:
    work = tmp_path / "work"
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "-q", work], check=True, env=env)
    (work / "manage.py").write_text("m")
    (work / ("x" * 120)).write_text("a long name")
    subprocess.run(["git", "-C", work, "add", "-A"], check=True, env=env)
    subprocess.run(["git", "-C", work, *names, "commit", "-q", "-m", "x"], check=True, env=env)
    for kind in ("tar", "tar.gz", "zip"):
        made = subprocess.check_output(
            ["git", "-C", work, "archive", f"--format={kind}", "--prefix=p/", "HEAD"], env=env
        )
        (tmp_path / kind).mkdir()
        assert {"manage.py", "x" * 120} == set(shape(unpack(tmp_path / kind, made)))


def sparse() -> bytes:
    """A file with holes in the form 1.0 of GNU tar: its map comes before its data."""
    headers = {"major": "1", "minor": "0", "name": "s", "realsize": "1"}
    named = {f"GNU.sparse.{key}": value for key, value in headers.items()}
    content = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    return Tar(format=tarfile.PAX_FORMAT).add("s", content, pax_headers=named).bytes()


def negative_size() -> bytes:
    """A header whose size is negative in base 256, which older tarfile follows backwards for ever."""
    raw = bytearray(Tar().add("evil", b"").add("b").bytes())
    raw[124:136] = b"\xff" * 10 + b"\xfc\x00"
    return checksummed(raw)


def checksummed(raw: bytearray, at: int = 0) -> bytes:
    raw[at + 148 : at + 156] = b" " * 8
    raw[at + 148 : at + 156] = b"%06o\0 " % sum(raw[at : at + 512])
    return bytes(raw)


def damaged_header() -> bytes:
    """The second of three members has a header that does not add up: tarfile takes that for the end."""
    raw = bytearray(Tar().add("a").add("b").add("c").bytes())
    raw[1024 + 3] ^= 0xFF
    return bytes(raw)


def huge_header() -> bytes:
    return Tar(format=tarfile.PAX_FORMAT).add("a", pax_headers={"comment": "x" * 100_000}).bytes()


def raw_name(name: bytes) -> bytes:
    raw = bytearray(Tar().add("x" * len(name)).bytes())
    raw[: len(name)] = name
    return checksummed(raw)


def renamed(content: bytes, old: bytes, new: bytes, times: int = 2) -> bytes:
    """A zip with another name of the same length in both of its headers."""
    assert (times, len(old)) == (content.count(old), len(new))
    return content.replace(old, new)


def lying_size(size: int) -> bytes:
    """A zip whose headers say so many bytes, and whose data unpacks to a thousand."""
    raw = bytearray(Zip().add("a", b"x" * 1000).bytes())
    for at in (raw.index(b"PK\x03\x04") + 22, raw.index(b"PK\x01\x02") + 24):
        raw[at : at + 4] = struct.pack("<I", size)
    return bytes(raw)


def lying_place() -> bytes:
    """A zip whose directory says to begin far behind the end: its members would lie before the beginning."""
    raw = bytearray(Zip().add("a").bytes())
    at = raw.index(b"PK\x05\x06") + 16
    raw[at : at + 4] = struct.pack("<I", 100_000)
    return bytes(raw)


GOOD_TAR = Tar().add("a", b"x" * 5000).add("b", b"y" * 5000).bytes()
BOMB = bytes(members.RATIO_FROM_BYTES + (1 << 20))
CLIMBING = ["../evil", "a/../../evil", "a/../b", "..", "a/..", "/tmp/bb-canary"]
CHAINS = {
    "absolute": {"a": "/etc/passwd"}, "up": {"a": "../x"}, "deep": {"d/e": "../../x"}, "through a folder": {"a": "b/../../x"},
    "link to a link": {"a": "b", "b": "../x"}, "through a link": {"d/up": "..", "a": "d/up/../x"}, "loop": {"a": "b", "b": "a"},
    "below the top that is left out": {"site/a": "../site/../x"}, "empty": {"a": ""}, "control": {"a": "x\ny"}, "long": {"a": "x" * 1025},
}  # fmt: skip


def links(made: Tar | Zip, chain: dict[str, str]) -> bytes:
    for name, target in chain.items():
        made.link(name, target)
    return made.bytes()


HOSTILE: dict[str, tuple[bytes, str]] = {
    **{f"tar name {n}": (Tar().add(n).bytes(), "absolute or climbs") for n in CLIMBING},
    **{f"zip name {n}": (Zip().add(n).bytes(), "absolute or climbs") for n in CLIMBING},
    **{f"tar link {n}": (links(Tar(), c), "is a link") for n, c in CHAINS.items()},
    **{f"zip link {n}": (links(Zip(), c), "is a link") for n, c in CHAINS.items()},
    "tar file through a link": (Tar().link("a", "b").add("a/x").bytes(), "lies below a"),
    "zip file through a link": (Zip().link("a", "b").add("a/x").bytes(), "lies below a"),
    "tar link over a folder": (Tar().add("a/x").link("a", "b").bytes(), "there twice"),
    "tar file over a link": (Tar().link("a", "b").add("a").bytes(), "there twice"),
    "tar folder over a link": (Tar().link("a", "b").folder("a").bytes(), "there twice"),
    "tar twice": (Tar().add("a").add("./a").bytes(), "there twice"),
    "zip twice": (Zip().add("a").add("a").bytes(), "there twice"),
    "tar file and folder": (Tar().add("a").folder("a").bytes(), "there twice"),
    "zip file and folder": (Zip().add("a").add("a/", b"", stat.S_IFDIR).bytes(), "there twice"),
    "tar file below a file": (Tar().add("a").add("a/b").bytes(), "lies below a"),
    "tar device": (Tar().add("a", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3).bytes(), "no file, folder or link"),
    "tar block device": (Tar().add("a", b"", type=tarfile.BLKTYPE).bytes(), "no file, folder or link"),
    "tar pipe": (Tar().add("a", b"", type=tarfile.FIFOTYPE).bytes(), "no file, folder or link"),
    "tar contiguous": (Tar().add("a", type=tarfile.CONTTYPE).bytes(), "no file, folder or link"),
    "tar unknown type": (Tar().add("a", b"", type=b"V").bytes(), "no file, folder or link"),
    "tar sparse": (sparse(), "no file, folder or link"),
    "tar hard link": (Tar().add("a").add("b", b"", type=tarfile.LNKTYPE, linkname="a").bytes(), "hard link"),
    "tar hard link out": (Tar().add("b", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd").bytes(), "hard link"),
    "tar setuid": (Tar().add("a", mode=0o4755).bytes(), "setuid"),
    "tar setgid": (Tar().add("a", mode=0o2755).bytes(), "setuid or setgid"),
    "zip setuid": (Zip().add("a", mode=stat.S_IFREG | 0o4755).bytes(), "setuid"),
    "zip device": (Zip().add("a", b"", stat.S_IFCHR | 0o644).bytes(), "no file, folder or link"),
    "zip pipe": (Zip().add("a", b"", stat.S_IFIFO | 0o644).bytes(), "no file, folder or link"),
    "zip folder that is a file": (Zip().add("a/", b"", stat.S_IFREG | 0o644).bytes(), "no file, folder or link"),
    "tar control": (Tar().add("a\nb").bytes(), "control"),
    "tar escape": (Tar().add("a\x1b[2Jb").bytes(), "control"),
    "zip NUL": (renamed(Zip().add("aaXbb").bytes(), b"aaXbb", b"aa\0bb"), "NUL"),
    "zip backslash": (Zip().add("..\\evil").bytes(), "backslash"),
    "zip control": (Zip().add("a\nb").bytes(), "control"),
    "tar not UTF-8": (raw_name(b"a\xff\xfe"), "not UTF-8"),
    "zip not UTF-8": (renamed(Zip().add("aXXb").bytes(), b"aXXb", b"a\x84\x84b"), "not UTF-8"),
    "tar long name": (Tar(format=tarfile.GNU_FORMAT).add("a" * 256).bytes(), "more than 255"),
    "tar long name in bytes": (Tar(format=tarfile.PAX_FORMAT).add("ä" * 128).bytes(), "more than 255"),
    "tar long path": (Tar(format=tarfile.PAX_FORMAT).add("a/" * 600 + "b").bytes(), "more than 255"),
    "zip long name": (Zip().add("a" * 256).bytes(), "more than 255"),
    "tar deep": (Tar().add("a/" * 100 + "b").bytes(), "more than 100 folders"),
    "zip deep": (Zip().add("a/" * 100 + "b").bytes(), "more than 100 folders"),
    "tar no name": (Tar().add("./").add(".", b"x").bytes(), "no name"),
    "zip encrypted": (renamed(Zip().add("a").bytes(), b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01", 1)
                      .replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"), "archive is encrypted"),
    "zip bzip2": (Zip().add("a", compress_type=zipfile.ZIP_BZIP2).bytes(), "other than deflate"),
    "zip other name in the data": (renamed(Zip().add("abc").bytes(), b"abc", b"abd").replace(b"abd", b"xyz", 1), "damaged"),
    "zip that says less than it holds": (lying_size(10), "damaged"),
    "zip that says more than it holds": (lying_size(5000), "in the archive is cut short"),
    "tar cut in a file": (GOOD_TAR[:2000], "damaged|cut short"),
    "tar cut between two members": (GOOD_TAR[:5632], "no end"),
    "tar cut in a header": (GOOD_TAR[:5800], "damaged|no end"),
    "tar with a damaged header": (damaged_header(), "no end"),
    "tar that goes on": (GOOD_TAR + GOOD_TAR, "goes on"),
    "tar negative size": (negative_size(), "size that cannot be|damaged"),
    "tar huge header": (huge_header(), "size that cannot be"),
    "gz cut": (gzip.compress(GOOD_TAR)[:-10], "damaged"),
    "gz with a wrong checksum": (gzip.compress(GOOD_TAR)[:-8] + b"\0" * 8, "damaged"),
    "bz2 cut": (bz2.compress(GOOD_TAR)[:-10], "damaged"),
    "bz2 garbage": (b"BZh9" + b"garbage" * 100, "damaged"),
    "xz cut": (lzma.compress(GOOD_TAR)[:-10], "damaged"),
    "zip cut": (Zip().add("a", os.urandom(5000)).bytes()[:-30], "damaged"),
    "zip that leads before its beginning": (lying_place(), "damaged"),
    "zip garbage": (b"PK\x03\x04" + b"garbage" * 100, "damaged"),
    "garbage": (b"garbage" * 1000, "damaged"),
    "no bytes": (b"", "damaged"),
    "tar empty": (Tar().bytes(), "empty"),
    "zip empty": (Zip().bytes(), "empty"),
    "tar bomb": (gzip.compress(Tar().add("a", BOMB).bytes()), "unpacks to more"),
    "tar bomb of folders": (gzip.compress(b"".join([Tar().folder("a").bytes()[:512]] * (len(BOMB) // 512))), "unpacks to more"),
    "zip bomb": (Zip().add("a", BOMB).bytes(), "unpacks to more"),
    "zip bomb in parts": (Zip().add("a", BOMB[::2]).add("b", BOMB[::2]).bytes(), "unpacks to more"),
}  # fmt: skip


@pytest.mark.parametrize("filtered", FILTERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused(
    tmp_path: Path, name: str, filtered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not filtered:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    content, wanted = HOSTILE[name]
    if filtered:
        wanted += "|Python's extraction filter"
    with pytest.raises(errors.ArchiveRefused, match=wanted) as caught:
        unpack(tmp_path, content)
    assert caught.value.remedy
    assert caught.value.message.isprintable()
    assert [] == os.listdir(tmp_path / "release" / "app")


def test_too_many_members_are_refused_whether_named_or_only_implied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MOST_MEMBERS", 10)
    for number, made in enumerate((Tar().add("a/b/c/d/e/f/g/h/i/j/k"), Tar())):
        for count in range(0 if number == 0 else 11):
            made.folder("a") if count % 2 else made.add(f"{count}")
        (tmp_path / str(number)).mkdir()
        with pytest.raises(errors.ArchiveRefused, match="more than 10 members"):
            unpack(tmp_path / str(number), made.bytes())


def many(count: int, *, comment: bytes = b"", says: int | None = None) -> bytes:
    """A zip of so many members, whose end may say another count."""
    made = Zip()
    for number in range(count):
        made.add(f"{number}", b"", comment=comment)
    raw = bytearray(made.bytes())
    if says is not None:
        at = raw.rindex(b"PK\5\6") + 8
        raw[at : at + 4] = struct.pack("<HH", says, says)
    return bytes(raw)


@pytest.mark.parametrize("limit", [zipfile.ZIP_FILECOUNT_LIMIT, 5], ids=["zip", "zip64"])
@pytest.mark.parametrize("says", [None, 1])
def test_the_directory_of_a_zip_is_refused_before_there_is_an_object_of_each_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, says: int | None
) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", limit)
    content, fits = many(11, says=says), many(10)
    assert (limit == 5) == (b"PK\6\6" in content)
    monkeypatch.setattr(members, "MOST_MEMBERS", 10)
    made = []

    class Counted(zipfile.ZipInfo):
        def __init__(self, name: str) -> None:
            made.append(name)
            super().__init__(name)

    monkeypatch.setattr(zipfile, "ZipInfo", Counted)
    with pytest.raises(errors.ArchiveRefused, match="more than 10 members"):
        unpack(tmp_path, content)
    assert [] == made
    (tmp_path / "fits").mkdir()
    assert 10 == len(list(unpack(tmp_path / "fits", fits).iterdir()))


def test_a_zip_whose_few_entries_have_a_directory_of_megabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = many(20, comment=b"x" * 60_000)
    monkeypatch.setattr(members, "MOST_MEMBERS", 100)
    with pytest.raises(errors.ArchiveRefused, match="more than 100 members"):
        unpack(tmp_path, content)


def large_dictionary() -> bytes:
    """An xz that says to need 4 GB for its dictionary (xz-file-format.txt, 3.1 and 5.3.1)."""
    raw = bytearray(lzma.compress(plain_tar(), filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    size = (raw[12] + 1) * 4
    assert b"\x21\x01" == raw[14:16]
    raw[16] = 40
    raw[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(raw[12 : 12 + size - 4]))
    return bytes(raw)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from bb_release.errors import ArchiveRefused
from bb_release.tools import archive

resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
file, tree = map(Path, sys.argv[1:])
try:
    archive.unpack(file, tree, revision=archive.digest(file), wanted="manage.py")
except ArchiveRefused as error:
    print(error.message)
"""


def test_an_archive_that_needs_more_memory_than_there_is_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(large_dictionary())
    (tmp_path / "app").mkdir()
    said = subprocess.check_output(
        [sys.executable, "-c", LITTLE_MEMORY, tmp_path / "archive", tmp_path / "app"], text=True
    )
    assert "the archive needs more memory to be read than there is\n" == said
    assert ["app", "archive"] == sorted(os.listdir(tmp_path))


def test_a_file_that_packs_well_is_unpacked_below_the_size_from_which_the_ratio_counts(tmp_path: Path) -> None:
    content = Tar().add("zeros", bytes(1 << 20)).bytes()
    assert 1 << 20 == (unpack(tmp_path, gzip.compress(content)) / "zeros").stat().st_size


def test_a_submodule_that_git_left_empty_is_refused(tmp_path: Path) -> None:
    made = Tar().add(".gitmodules", b'[submodule "x"]\n\tpath = vendor/x\n\turl = ../x\n').folder("vendor/x")
    file, tree = tmp_path / "archive", tmp_path / "app"
    file.write_bytes(made.bytes())
    tree.mkdir()
    with pytest.raises(errors.ArchiveRefused, match="submodule vendor/x"):
        subject.unpack(file, tree, revision=subject.digest(file), wanted="manage.py")


def test_an_archive_that_has_changed_since_it_was_chosen_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(plain_tar())
    (tmp_path / "app").mkdir()
    with pytest.raises(errors.ArchiveRefused, match="changed"):
        subject.unpack(tmp_path / "archive", tmp_path / "app", revision="0" * 64, wanted="manage.py")


def test_what_is_no_file_is_refused_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "absent"):
        with pytest.raises(errors.ArchiveRefused):
            subject.digest(path)
