"""The configured site, frozen. Pure: knows nothing of the host, reads nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bb_release.model.layout import Layout

SHAPING = (
    "repository", "subfolder", "python", "copies", "installer", "requirements", "groups", "extras", "index_url",
    "settings", "application", "manage", "collect_static", "static_root_outside", "shared_files", "shared_folders",
    "environment", "run", "submodules", "lfs",
)  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """What systemd, Supervisor or commands of one's own run."""

    name: str
    kind: str = "systemd"  # "systemd", "supervisor" or "command"
    runs_release: bool = True  # False: only needs a reload (nginx), and is not asked which release it runs
    handover: str = ""  # "socket", "restart" or "blue-green"; empty: by its socket where it has one, else a restart
    # supervisor: supervisord's unix socket, or http://host:port. blue-green: the link that leads to an instance's own
    socket: str = ""
    # command: each a list of arguments; `status` exits 0 when the unit runs, and prints its main process id
    start: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    # systemd
    user: bool = False  # a `systemctl --user` unit
    stop_seconds: float = 90.0  # how long a restart may take
    settle_seconds: float = 2.0  # how long it must stay up before it counts as running
    celery: str = ""  # the Celery application of a worker, which is then asked over its broker too


@dataclass(frozen=True)
class Health:
    """How the site is asked whether it is well."""

    url: str
    expect: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""  # a text that the answer's body must contain; empty: any
    release: str = ""  # where the answer names its release: "header:NAME" or "body"
    timeout_seconds: float = 30.0  # for all attempts together
    interval_seconds: float = 0.5


@dataclass(frozen=True)
class Run:
    """One command of the site's own, at a named place of the pipeline."""

    at: str
    command: tuple[str, ...]
    folder: str = "."
    timeout_seconds: float = 600.0
    first_only: bool = False


@dataclass(frozen=True)
class Timeouts:
    """Seconds each kind of program may take; 0 means no limit."""

    fetch: float = 600.0
    checkout: float = 300.0
    environment: float = 300.0
    requirements: float = 1800.0
    check: float = 300.0
    collect_static: float = 900.0
    plan_migrations: float = 300.0
    migrate: float = 0.0
    rehearse: float = 120.0


@dataclass(frozen=True)
class App:
    """One configured Django site on this host."""

    name: str
    repository: str
    root: Path
    branch: str = "main"
    health: Health | None = None
    units: tuple[Unit, ...] = ()
    subfolder: str = ""  # the Django project below the tree's root; manage.py lies in it
    python: str = ""  # "3.12" or a path; empty: the Python that runs the agent
    copies: bool = False  # environments with copied interpreters, so that a process's program names its release
    installer: str = "uv"
    requirements: tuple[str, ...] = ()  # files below the subfolder or the tree; empty: found in each release
    groups: tuple[str, ...] = ()  # dependency groups to install too
    extras: tuple[str, ...] = ()  # optional dependencies of the project to install too
    index_url: str = ""
    cache: Path | None = None  # installers' caches; empty: <root>/cache
    settings: str = ""  # DJANGO_SETTINGS_MODULE; empty: what manage.py says
    application: str = ""  # "project.wsgi:application"; empty: Django's WSGI_APPLICATION
    manage: str = "manage.py"
    check_deploy: bool = True
    collect_static: bool = True
    static_root_outside: bool = False
    rehearse: bool = True
    stage: bool = True  # Django is loaded once for several commands, where the project bears it
    env_file: Path | None = None  # the site's environment, systemd's EnvironmentFile syntax
    build_env_file: Path | None = None  # what installers and build commands see
    webhook_file: Path | None = None  # names the address that is told how runs ended
    environment: tuple[tuple[str, str], ...] | str = ()  # inline values for the site; or "unit:NAME", that unit's own
    public: tuple[str, ...] = ()  # names in env files whose values are no secrets
    pass_environment: tuple[str, ...] = (
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    )  # fmt: skip
    shared_files: tuple[str, ...] = ()
    shared_folders: tuple[str, ...] = ()
    keep: int = 20
    deploy_key: Path | None = None
    known_hosts: Path | None = None
    git_credentials: Path | None = None
    allow_file_url: bool = False  # repositories on this machine by path or file://
    verify: str = ""  # "commit" or "tag": what has to be signed before a release is built from it
    signers: tuple[Path, ...] = ()  # whose signatures count
    submodules: bool = False
    lfs: bool = False
    run: tuple[Run, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def layout(self) -> Layout:
        """Every path of this app."""
        return Layout(self.root)

    @property
    def cache_folder(self) -> Path:
        """Where installers keep what they downloaded; several apps of one user may share one."""
        return self.cache or self.root / "cache"

    @property
    def inline_environment(self) -> dict[str, str]:
        """What the configuration itself says of the site's environment."""
        return {} if isinstance(self.environment, str) else dict(self.environment)

    @property
    def environment_unit(self) -> str:
        """The unit that has the site's environment; "" where the configuration says it."""
        return self.environment.removeprefix("unit:") if isinstance(self.environment, str) else ""

    def project_in(self, folder: Path | str) -> str:
        """Where manage.py lies, in what has the tree as its `app`: a release, `current`, a slot."""
        return "/".join(word for word in (f"{folder}/app", self.subfolder.strip("/")) if word)

    @property
    def shape(self) -> str:
        """A hash of the keys that shape what is built: a change of these makes a new release, no other does."""
        facts = asdict(self)
        text = json.dumps({key: facts[key] for key in SHAPING}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
