"""Wheels of our own, and the few real ones, as a package index in a folder (PEP 503, with PEP 658's metadata)."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from benchmark.sizes import REAL_PACKAGES, Size
from benchmark.text import Text

CHANGING = "bench-lib-000"  # the package whose pin changes; it has a version for every round
IMPORTED_MODULES = 7  # of each package, when the site starts: 518 in the standard size
DATE = (2026, 1, 1, 0, 0, 0)
SHARE_OF_CODE = 0.25  # of a package's files; with the real ones about 5,000 modules in the standard size
MEAN_CODE, MEAN_DATA = 11_000, 13_000


def names(size: Size) -> list[str]:
    return [f"bench-lib-{number:03}" for number in range(size.own_packages)]


def module_of(name: str) -> str:
    return name.replace("-", "_")


def requirements(size: Size, changed: int) -> str:
    """The requirements file; `changed` is how often the one pin has changed."""
    pins = [f"{name}=={version}" for name, version in REAL_PACKAGES.items()]
    pins += [f"{name}==1.0.{changed if name == CHANGING else 0}" for name in names(size)]
    return "".join(f"{pin}\n" for pin in pins)


def make_index(folder: Path, size: Size, text: Text, *, versions: int) -> int:
    """Fill `folder` with wheels and pages; returns how many files one installation has, without byte code."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    download(wheels)
    each = size.package_files // max(1, size.own_packages)
    for number, name in enumerate(names(size)):
        content = package_files(name, each, text)
        requires = names(size)[number // 3] if number else ""
        for version in range(versions if name == CHANGING else 1):
            write_wheel(wheels, name, f"1.0.{version}", content, requires, script=number % 5 == 0)
    count = 0
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as opened:
            if not (wheel.name.startswith(module_of(CHANGING)) and "-1.0.0-" not in wheel.name):
                count += len(opened.namelist())
            metadata = next(n for n in opened.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            wheel.with_name(wheel.name + ".metadata").write_bytes(opened.read(metadata))
    write_pages(folder)
    return count


def download(wheels: Path) -> None:
    """The real packages, once, from the host's own index. Raises CalledProcessError."""
    pins = [f"{name}=={version}" for name, version in REAL_PACKAGES.items()]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
         "--only-binary", ":all:", "-d", wheels, *pins],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def package_files(name: str, count: int, text: Text) -> dict[str, bytes]:
    """A package: modules and data in folders, of which some modules are imported with the package."""
    module = module_of(name)
    modules = max(IMPORTED_MODULES, int(count * SHARE_OF_CODE))
    parts = [f"part_{number:02}" for number in range(modules)]
    imported = ", ".join(parts[:IMPORTED_MODULES])
    files = {f"{module}/__init__.py": f'"""Generated."""\n\nfrom {module} import {imported}\n'.encode()}
    for part in parts:
        files[f"{module}/{part}.py"] = text.code(text.size(MEAN_CODE)).encode()
    for number in range(max(0, count - modules - 4)):  # 4: __init__.py and the three of .dist-info
        files[f"{module}/data_{number // 20:02}/{number:03}.txt"] = text.prose(text.size(MEAN_DATA)).encode()
    return files


def write_wheel(
    wheels: Path, name: str, version: str, content: dict[str, bytes], requires: str, *, script: bool
) -> None:
    module = module_of(name)
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        **content,
        f"{module}/version.py": f'VERSION = "{version}"\n'.encode(),
        f"{info}/METADATA": (metadata + (f"Requires-Dist: {requires}\n" if requires else "")).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {module}.part_00:do\n".encode()
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    with zipfile.ZipFile(wheels / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, DATE)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data, compresslevel=1)


def write_pages(folder: Path) -> None:
    """simple/NAME/index.html for each project, as the public index writes it."""
    links: dict[str, list[str]] = {}
    for wheel in sorted((folder / "wheels").glob("*.whl")):
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        metadata = hashlib.sha256(wheel.with_name(wheel.name + ".metadata").read_bytes()).hexdigest()
        project = wheel.name.split("-", 1)[0].replace("_", "-").lower()
        links.setdefault(project, []).append(
            f'<a href="/wheels/{wheel.name}#sha256={digest}" data-core-metadata="sha256={metadata}"'
            f' data-dist-info-metadata="sha256={metadata}">{wheel.name}</a><br/>\n'
        )
    for project, found in links.items():
        page = folder / "simple" / project / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<!DOCTYPE html><html><body>\n{''.join(found)}</body></html>\n")
