"""The uv program that is installed with bb-release, and how it is told to behave."""

from __future__ import annotations

from pathlib import Path

from bb_release.errors import RequirementsNotInstalled


def program() -> str:
    """The path of our own uv. Raises RequirementsNotInstalled when it is gone."""
    import uv  # not needed where pip installs

    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise RequirementsNotInstalled(
            "the uv program of bb-release is not there",
            remedy='install bb-release again, or set the installer to "pip"',
        ) from error


def version() -> str:
    """Which uv it is, such as "0.9.2"; nothing is started."""
    from importlib import metadata

    return metadata.version("uv")


def settings(cache: Path) -> dict[str, str]:
    """The variables that make uv behave on this host as pip does; `cache` is the folder of all installers' caches."""
    return {
        "UV_CACHE_DIR": str(cache / "uv"),
        "UV_PYTHON_DOWNLOADS": "never",
        # what is installed depends on the requirements files and the index alone
        "UV_NO_CONFIG": "1",
        # the system's certificates; the second name is for older versions
        "UV_SYSTEM_CERTS": "1",
        "UV_NATIVE_TLS": "1",
    }
