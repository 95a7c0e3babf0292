"""What a Django project's files say of it: read, never run. Each finding with where it came from."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

from bb_release.actions.survey_site import Survey, find_celery, find_health
from bb_release.errors import NoDjangoProject
from bb_release.tools import places, process, syntax
from bb_release.tools.syntax import Source, Variable

_PRODUCTION = re.compile(r"(.*[._])?(production|prod|live|deploy|deployment)(_settings)?")
_REQUIREMENTS = (
    "requirements.txt", "requirements/production.txt", "requirements/prod.txt", "requirements-production.txt",
    "requirements-prod.txt", "requirements_prod.txt", "requirements/base.txt", "requirements/requirements.txt",
)  # fmt: skip
_LOCKS = ("pylock.toml", "uv.lock", "poetry.lock", "Pipfile.lock", "pyproject.toml")
MOST_SETTINGS = 20


def survey(tree: Path) -> Survey:
    """Look at the files of one revision. Raises NoDjangoProject when there is no manage.py."""
    found = Survey()
    project = find_project(tree, found)
    find_sources(tree, found)
    settings = find_settings(project, found)
    find_requirements(tree, project, found)
    find_python(tree, project, found)
    if settings is None:
        return found
    find_application(project, settings, found)
    find_static(project, settings, found)
    find_shared(project, settings, found)
    find_health(project, settings, found)
    find_celery(project, settings, found)
    return found


def find_sources(tree: Path, found: Survey) -> None:
    """What git does not bring by itself."""
    if (tree / ".gitmodules").is_file():
        found.values["submodules"] = True, "the repository has .gitmodules"
    attributes = tree / ".gitattributes"
    if attributes.is_file() and b"filter=lfs" in attributes.read_bytes():
        found.values["lfs"] = True, ".gitattributes names Git LFS"


def find_project(tree: Path, found: Survey) -> Path:
    candidates = sorted(
        (path for path in places.walk(tree, "manage.py") if b"DJANGO_SETTINGS_MODULE" in path.read_bytes()),
        key=lambda path: (len(path.parts), str(path)),
    )
    if not candidates:
        raise NoDjangoProject(
            "the repository has no manage.py that names DJANGO_SETTINGS_MODULE",
            remedy="is it the right repository and branch (--branch)? Else start from example.toml by hand",
        )
    project = candidates[0].parent
    if project != tree:
        found.values["subfolder"] = str(project.relative_to(tree)), "manage.py lies there"
    others = [str(path.relative_to(tree)) for path in candidates[1:]]
    if others:
        found.missing.append(f"which manage.py: {candidates[0].relative_to(tree)} was taken, not {', '.join(others)}")
    return project


def find_settings(project: Path, found: Survey) -> Source | None:
    """The settings module: a production one beside those that are named, else what wsgi.py or manage.py names."""
    named: dict[str, str] = {}
    for path in [project / "manage.py", *places.walk(project, "wsgi.py"), *places.walk(project, "asgi.py")]:
        source = syntax.read(path)
        module = syntax.settings_module(source) if source else ""
        if places.is_module(module):
            named.setdefault(module, str(path.relative_to(project)))
    for module, by in list(named.items()):
        place = (places.file_of(project, module) or project / module.replace(".", "/")).parent
        for path in sorted(place.glob("*.py")) if place.is_relative_to(project) else ():
            if _PRODUCTION.fullmatch(path.stem):
                sibling = ".".join(path.relative_to(project).with_suffix("").parts)
                named.setdefault(sibling, f"{path.relative_to(project)} lies beside what {by} names")
    there = [module for module in named if places.file_of(project, module)]
    best = [module for module in there if _PRODUCTION.fullmatch(module.rpartition(".")[2])]
    # wsgi.py before manage.py, whose default is the developers' as a rule
    best += [module for module in there if named[module].endswith(("wsgi.py", "asgi.py"))]
    chosen = next(iter([*best, *there]), "")
    if not chosen:
        wanted = ", ".join(named) or "none is named in manage.py"
        found.missing.append(f"settings: {wanted}, but there is no such file: is it a local one (shared_files)?")
        return None
    found.values["settings"] = chosen, _why(named[chosen], [m for m in there if m != chosen])
    file = places.file_of(project, chosen)
    return followed(project, file, found) if file else None


def _why(by: str, others: list[str]) -> str:
    reason = by if " " in by else f"{by} names it"
    return reason + (f"; there is also {', '.join(others)}" if others else "")


def followed(project: Path, path: Path, found: Survey) -> Source | None:
    """The settings file with all that it takes over by `from … import *`; its variables go into the survey."""
    chain: list[Source] = []
    needed: dict[str, bool] = {}
    waiting = [path]
    while waiting and len(chain) < MOST_SETTINGS:
        source = syntax.read(waiting.pop(0))
        if source is None or source.path in [known.path for known in chain]:
            continue
        chain.append(source)
        for variable in syntax.variables(source):
            needed[variable.name] = needed.get(variable.name, False) or variable.needed
        for module, optional in syntax.star_imports(source):
            there = places.imported_file(project, source.path, module)
            if there:
                waiting.append(there)
            elif module.startswith("."):
                local = source.path.parent.relative_to(project) / (module.strip(".").replace(".", "/") + ".py")
                found.missing.append(
                    f"{local}: {source.path.name} imports it, {'if it is there' if optional else 'always'},"
                    " and the repository has none: shared_files can bring it in"
                )
    if not chain:
        found.missing.append(f"settings: {path.relative_to(project)} cannot be read as Python")
        return None
    for source in chain[1:]:
        chain[0].names = source.names | chain[0].names
    found.variables = [Variable(n, needed[n]) for n in sorted(needed) if n != "DJANGO_SETTINGS_MODULE"]
    return chain[0]


def find_requirements(tree: Path, project: Path, found: Survey) -> None:
    """A requirements file that is there was meant to be installed from; else a lock; beside manage.py, else above."""
    there = [
        name
        for name in (*_REQUIREMENTS, *_LOCKS)
        for folder in dict.fromkeys((project, tree))
        if (folder / name).is_file() and (name != "pyproject.toml" or "dependencies" in _text(folder / name))
    ]
    if not there:
        found.missing.append("requirements: neither a requirements.txt nor a lock file was found")
        return
    if there == there[:1] and there[0] in (*_LOCKS, *_REQUIREMENTS[:3]):
        found.notes["requirements"] = f"{there[0]} is there, and is found in each release by itself"
        return
    others = [name for name in there[1:] if name in _LOCKS]
    also = f"; there is also {', '.join(dict.fromkeys(others))}" if others and there[0] not in _LOCKS else ""
    found.values["requirements"] = [there[0]], f"{there[0]} is there{also}"


def find_python(tree: Path, project: Path, found: Survey) -> None:
    """An exact wish wins; else the least that pyproject.toml asks for, when the agent's own is older."""
    for folder in dict.fromkeys((project, tree)):
        for name, pattern in (
            (".python-version", r"\s*(?:cpython-?)?(3\.\d+)"), ("runtime.txt", r"\s*python-(3\.\d+)"),
            ("Pipfile", r'(?s).*\npython_version\s*=\s*"(3\.\d+)'),
        ):  # fmt: skip
            match = re.match(pattern, _text(folder / name))
            if match:
                found.values["python"] = match[1], f"{name} names it" + _unless_here(match[1])
                return
        match = re.search(r'(?m)^requires-python\s*=\s*"([^"\n]*)"', _text(folder / "pyproject.toml"))
        if match:
            least = re.search(r"(?:>=|~=|==)\s*3\.(\d+)", match[1])
            ours = f"3.{sys.version_info.minor}"
            if least and int(least[1]) > sys.version_info.minor:
                version = f"3.{least[1]}"
                found.values["python"] = version, f"pyproject.toml wants {match[1]}" + _unless_here(version)
            else:
                found.notes["python"] = f"pyproject.toml wants {match[1]}; bb-release itself runs on {ours}"
            return


def _unless_here(version: str) -> str:
    there = any(os.access(f"{folder}/python{version}", os.X_OK) for folder in process.PATH.split(":"))
    return "" if there or version == f"3.{sys.version_info.minor}" else "; this host has none yet"


def find_application(project: Path, settings: Source, found: Survey) -> None:
    def named(key: str) -> str:
        return syntax.text(settings.names[key][0]) if key in settings.names else ""

    apps = syntax.texts(settings.names["INSTALLED_APPS"][0]) if "INSTALLED_APPS" in settings.names else []
    wsgi, asgi = named("WSGI_APPLICATION"), named("ASGI_APPLICATION")
    if asgi and (not wsgi or {"channels", "daphne"} & set(apps)):
        wsgi, key = asgi, "ASGI_APPLICATION"
    else:
        key = "WSGI_APPLICATION"
    if wsgi:
        module, _, attribute = wsgi.rpartition(".")
        found.values["application"] = f"{module}:{attribute}", f"{key} of the settings"
        return
    for kind in ("wsgi.py", "asgi.py"):
        for path in places.walk(project, kind):
            module = ".".join(path.relative_to(project).with_suffix("").parts)
            found.values["application"] = f"{module}:application", f"{path.relative_to(project)} is there"
            return
    found.missing.append("application: neither WSGI_APPLICATION nor a wsgi.py or asgi.py was found")


def find_static(project: Path, settings: Source, found: Survey) -> None:
    apps = syntax.texts(settings.names["INSTALLED_APPS"][0]) if "INSTALLED_APPS" in settings.names else []
    if apps and "django.contrib.staticfiles" not in apps:
        return
    if "STATIC_ROOT" not in settings.names:
        found.values["collect_static"] = False, "the settings have no STATIC_ROOT"
        found.missing.append("STATIC_ROOT: set it to BASE_DIR / 'staticfiles' and remove collect_static = false")
        return
    root = syntax.path_of(settings, "STATIC_ROOT", project)
    if root is None:
        found.notes["collect_static"] = "STATIC_ROOT could not be read; it must lie inside the release"
    elif root.is_absolute():
        found.values["static_root_outside"] = True, f"STATIC_ROOT is {root}: better inside, BASE_DIR / 'staticfiles'"
    else:
        found.notes["collect_static"] = f"STATIC_ROOT is {root} in the tree"


def find_shared(project: Path, settings: Source, found: Survey) -> None:
    """Uploads and a SQLite file outlive releases."""
    media = syntax.path_of(settings, "MEDIA_ROOT", project)
    if media is not None and not media.is_absolute():
        found.values["shared_folders"] = [str(media)], "MEDIA_ROOT of the settings"
    elif "MEDIA_ROOT" in settings.names:
        found.notes["shared_folders"] = f"MEDIA_ROOT is {media or 'not a path that can be read here'}"
    if "DATABASES" not in settings.names:
        return
    databases, here = settings.names["DATABASES"]
    files = []
    for node in ast.walk(databases):
        if not isinstance(node, ast.Dict):
            continue
        keys = {syntax.text(key): value for key, value in zip(node.keys, node.values, strict=True)}
        if "sqlite3" in syntax.text(keys.get("ENGINE")) and "NAME" in keys:
            path = syntax.path_in(settings, keys["NAME"], here, project)
            if path is not None and not path.is_absolute() and str(path) != ":memory:":
                files.append(str(path))
    if files:
        found.values["shared_files"] = files, "a SQLite database of the settings; shared/ must be writable for the site"
    elif any("sqlite" in word for word in syntax.texts(databases)):
        found.missing.append("shared_files: the settings speak of SQLite, but its path could not be read")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace") if path.is_file() and not path.is_symlink() else ""
    except OSError:
        return ""
