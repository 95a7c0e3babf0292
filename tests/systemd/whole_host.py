"""Debian's PostgreSQL, Redis and nginx on ports of their own, each started by its own unit."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from booted_host import sh

CLUSTER = "whole"
SITES_ENABLED = Path("/etc/nginx/sites-enabled")


def free_port() -> int:
    """The network is the machine's, so that packages can be had: fixed ports could be taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(wanted: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, f"{what} within {seconds} s"
        time.sleep(0.1)


class PostgreSQL:
    """A cluster of Debian's, and a database with a password for each site."""

    def __init__(self) -> None:
        self.port = free_port()
        version = max(os.listdir("/usr/lib/postgresql"), key=float)
        sh("pg_createcluster", version, CLUSTER, "-p", str(self.port))
        sh("systemctl", "start", f"postgresql@{version}-{CLUSTER}")

    def make(self, name: str) -> str:
        """A role and its database; what DATABASE_URL is."""
        self.ask("postgres", f"CREATE ROLE {name} LOGIN PASSWORD 'of-{name}'")
        self.ask("postgres", f"CREATE DATABASE {name} OWNER {name}")
        return f"postgresql://{name}:of-{name}@127.0.0.1:{self.port}/{name}"

    def ask(self, database: str, query: str) -> str:
        words = ("psql", "-X", "-q", "-p", str(self.port), "-d", database, "-tAc", query)
        return sh(*words, user="postgres").stdout.strip()


def start_redis() -> str:
    """What CELERY_BROKER_URL begins with; a number is to follow."""
    port, conf = free_port(), Path("/etc/redis/redis.conf")
    conf.write_text(re.sub(r"(?m)^port .*", f"port {port}", conf.read_text()))
    sh("systemctl", "start", "redis-server")
    return f"redis://127.0.0.1:{port}"


def start_nginx() -> None:
    (SITES_ENABLED / "default").unlink(missing_ok=True)  # it is on port 80
    sh("systemctl", "start", "nginx")


def listen(app: str) -> int:
    """Have the written site of nginx on a port of its own; everything else in it stays."""
    port, site = free_port(), Path(f"/etc/nginx/sites-available/{app}.conf")
    text = site.read_text()
    assert text.count("    listen 80;\n    listen [::]:80;\n") == 1, text
    site.write_text(text.replace("    listen 80;\n    listen [::]:80;\n", f"    listen 127.0.0.1:{port};\n"))
    return port


def processes_of(root: Path) -> dict[int, tuple[str, set[str]]]:
    """Every process of the host that has something of a release of this app: its words, and of which releases.

    Looked at is what the kernel says, without the agent: the working folder, the mapped files, the environment.
    """
    found: dict[int, tuple[str, set[str]]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            seen = f"{os.readlink(place / 'cwd')}/\n{(place / 'maps').read_text()}"
            environment = (place / "environ").read_bytes().decode(errors="replace")
        except (OSError, UnicodeDecodeError):
            continue  # it has ended, or is the kernel's own
        releases = set(re.findall(rf"{re.escape(str(root))}/releases/([^/\n]+)/", seen))
        if releases:
            found[int(place.name)] = words, releases | set(re.findall(r"(?:^|\0)BB_RELEASE=([^\0]+)", environment))
    return found
