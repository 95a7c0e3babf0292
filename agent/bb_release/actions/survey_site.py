"""What the files of a project say of the running site: how it is asked whether it is well, and Celery."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bb_release.tools import places, syntax
from bb_release.tools.syntax import Source, Variable

_APPLICATION = re.compile(r"^[^#\n]*\bCelery\(", re.MULTILINE)
_HEALTH = re.compile(r"(.*/)?_?(health[a-z_-]*|livez?|readyz|ping|ht|up|status)/?")


@dataclass
class Survey:
    """`values` are keys of the configuration with their values and the reasons; `missing` is for a person."""

    values: dict[str, tuple[object, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)  # for keys that stay as they are
    variables: list[Variable] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    celery: str = ""  # what follows `celery -A`; "" where there is none
    beat: bool = False
    health: tuple[str, str] = ("/", "")  # path and reason
    headers: dict[str, str] = field(default_factory=dict)
    release: tuple[str, str] = ("", "")


def find_health(project: Path, settings: Source, found: Survey) -> None:
    module = syntax.text(settings.names["ROOT_URLCONF"][0]) if "ROOT_URLCONF" in settings.names else ""
    routes = list(routes_of(project, module, "", 0)) if module else []
    fitting = sorted((route for route in routes if _HEALTH.fullmatch(route)), key=lambda r: (len(r), r))
    if fitting:
        found.health = f"/{fitting[0]}", f"a path of {module}"
    else:
        found.health = "/", "the front page: the urls have nothing that looks like a health view"
        found.missing.append("health: no health view was found; one that asks the database proves more than /")
    redirect = settings.names.get("SECURE_SSL_REDIRECT")
    if redirect and any(isinstance(n, ast.Constant) and n.value is True for n in ast.walk(redirect[0])):
        found.headers["X-Forwarded-Proto"] = "https"
    if "ALLOWED_HOSTS" in settings.names:
        value = settings.names["ALLOWED_HOSTS"][0]
        hosts = [host.lstrip(".") for host in syntax.texts(value)] if isinstance(value, (ast.List, ast.Tuple)) else []
        hosts = [host for host in hosts if re.fullmatch(r"[A-Za-z0-9.-]+|\*", host)]
        if hosts and not {"*", "localhost"} & set(hosts):
            found.headers["Host"] = hosts[0]
        elif not hosts:
            found.missing.append("health: ALLOWED_HOSTS must have localhost, or headers a Host that it has")
    for path in places.walk(project, ".py"):
        if b"BB_RELEASE" in (content := path.read_bytes()):
            header = re.search(rb"""["'](X-[A-Za-z-]*Release)["']""", content)
            if header:
                found.release = f"header:{header[1].decode()}", f"{path.relative_to(project)} answers with it"
                return


def routes_of(project: Path, module: str, prefix: str, depth: int) -> Iterator[str]:
    """The paths of a urls module without parameters, those of included modules too."""
    path = places.file_of(project, module)
    source = syntax.read(path) if path and depth < 5 else None
    for node in ast.walk(source.tree) if source else ():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or len(node.args) < 2:
            continue
        if node.func.id not in ("path", "re_path", "url") or not isinstance(node.args[0], ast.Constant):
            continue
        route = prefix + str(node.args[0].value).lstrip("^").rstrip("$")
        if not re.fullmatch(r"[A-Za-z0-9_./-]*", route):
            continue
        view = node.args[1]
        if isinstance(view, ast.Call) and isinstance(view.func, ast.Name) and view.func.id == "include":
            included = next(iter(syntax.texts(view)), "")
            if included.startswith("health_check"):  # of the package django-health-check, which is not in the tree
                yield route
            yield from routes_of(project, included, route, depth + 1)
        else:
            yield route


def find_celery(project: Path, settings: Source, found: Survey) -> None:
    modules = {path: path.read_text("utf-8", "replace") for path in places.walk(project, "celery.py")}
    settings_package = settings.path.relative_to(project).parts[:1] if settings.path.is_relative_to(project) else ()
    apps = syntax.texts(settings.names["INSTALLED_APPS"][0]) if "INSTALLED_APPS" in settings.names else []
    named = [path.relative_to(project).parent.parts for path, text in modules.items() if _APPLICATION.search(text)]
    importable = [parts for parts in named if all(part.isidentifier() for part in parts)]
    if importable:  # beside the settings, or else nearest to the top
        best = min(importable, key=lambda parts: (parts[:1] != settings_package, len(parts), parts))
        found.celery = ".".join(best) or "celery"
    found.beat = bool(found.celery) and (
        "django_celery_beat" in apps
        or bool({"CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE"} & set(settings.names))
        or any("beat_schedule" in module or "add_periodic_task" in module for module in modules.values())
    )
