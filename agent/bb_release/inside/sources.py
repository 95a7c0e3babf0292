"""Runs in the app's own Python: what decides what collectstatic makes, as one short text.

Two releases with the same key would collect the same bytes. Where that cannot be told, there is no key, but a reason.
Standard library and Django only, Python 3.8 and later.
"""

import hashlib
import json
import os
import sys
import types
import zlib

# Their code is Django's and WhiteNoise's alone, and they make files of files: nothing else goes in.
STORAGES = {
    "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
    "django.contrib.staticfiles.storage.StaticFilesStorage",
    "whitenoise.storage.CompressedManifestStaticFilesStorage",
    "whitenoise.storage.CompressedStaticFilesStorage",
}
FINDERS = {
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "django.contrib.staticfiles.finders.FileSystemFinder",
}
PACKAGES = ("Django", "whitenoise", "Brotli", "brotlicffi")
SETTINGS = ("DEBUG", "FILE_UPLOAD_DIRECTORY_PERMISSIONS", "FILE_UPLOAD_PERMISSIONS", "FORCE_SCRIPT_NAME", "STATIC_URL")
OTHER_SETTINGS = {"WHITENOISE_ROOT"}  # of those with that prefix: where other files lie, with the release's name in it


class Unknown(Exception):
    """Something decides that cannot be looked at; the text says what."""


def look():
    """Two keys: of what goes in and how it is made (`static_sources`), and of how alone (`static_way`).

    Or neither, and why. Whatever the project raises here, collectstatic tells better.
    """
    try:
        way, sources = [versions(), settings_that_decide(), classes()], files()
        # a compressed copy that the project brings itself is not what WhiteNoise would have made
        brought = any(os.path.splitext(name)[0] in sources for name in sources if name.endswith((".br", ".gz")))
        return {"static_sources": key([way, sources]), "static_way": "" if brought else key(way), "static_unknown": ""}
    except Unknown as error:
        unknown = str(error)
    except Exception as error:
        unknown = "%s: %s" % (type(error).__name__, error)
    return {"static_sources": "", "static_way": "", "static_unknown": unknown}


def key(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def versions():
    """Of all whose code makes the files; the umask, too, where no setting says a mode."""
    import importlib.metadata  # slow, and asked once only

    found = {"python": sys.version, "zlib": zlib.ZLIB_RUNTIME_VERSION}
    for name in PACKAGES:
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if package.read_text("direct_url.json"):  # from git or a folder: its version does not say what it is
            raise Unknown("%s is not from an index" % name)
        found[name] = package.version
    with open("/proc/self/status") as file:
        found["umask"] = next((line.split()[1] for line in file if line.startswith("Umask:")), "")
    return found


def settings_that_decide():
    """STATIC_ROOT and STATICFILES_DIRS are not among them: they name the release, and their files are hashed."""
    from django.conf import settings

    storage = (getattr(settings, "STORAGES", None) or {}).get("staticfiles", {})
    if storage.get("OPTIONS"):
        raise Unknown("their storage has OPTIONS")
    # asked of the settings first: nothing of the project's own is begun here
    storage_name = storage.get("BACKEND") or getattr(settings, "STATICFILES_STORAGE", "")
    for name in [storage_name, *settings.STATICFILES_FINDERS]:
        if name not in STORAGES | FINDERS:
            raise Unknown("what %s does is not known" % name)
    names = {name for name in dir(settings) if name.startswith("WHITENOISE_") and not callable(getattr(settings, name))}
    names = names - OTHER_SETTINGS | set(SETTINGS)
    return {"storage": storage_name, **{name: plain(getattr(settings, name, None)) for name in names}}


def classes():
    """The values that their classes have, as some projects set them anew (`manifest_strict = False`)."""
    from django.contrib.staticfiles.finders import get_finders
    from django.contrib.staticfiles.management.commands.collectstatic import Command
    from django.contrib.staticfiles.storage import staticfiles_storage
    from django.core.management import get_commands

    if get_commands().get("collectstatic") != "django.contrib.staticfiles":
        raise Unknown("collectstatic is a command of the project's own")
    staticfiles_storage.url  # noqa: B018 - a look at it has it made
    used = [Command, type(staticfiles_storage._wrapped), *(type(finder) for finder in get_finders())]
    if "whitenoise.compress" in sys.modules:
        used.append(sys.modules["whitenoise.compress"].Compressor)
    bases = [base for a_class in used for base in a_class.__mro__ if base is not object]
    return [["%s.%s" % (base.__module__, base.__qualname__), values(base)] for base in bases]


def values(a_class):
    """The plain values of a class. Raises Unknown where other code was put in place of its own."""
    require_theirs(a_class.__module__, a_class.__qualname__)
    found = {}
    for name, value in vars(a_class).items():
        function = next((getattr(value, way) for way in ("__func__", "fget", "func") if hasattr(value, way)), value)
        if isinstance(function, types.FunctionType):
            require_theirs(function.__globals__["__name__"], "%s.%s" % (a_class.__qualname__, name))
        elif not name.startswith("__"):
            found[name] = plain(value, strict=False)
    return found


def require_theirs(module, what):
    if module.partition(".")[0] not in ("django", "whitenoise"):
        raise Unknown("%s is of %s" % (what, module))


def plain(value, strict=True):
    """A value of a setting or a class for JSON. Raises Unknown for one of another type, or names the type."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item, strict) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(plain(item, strict)) for item in value)
    if isinstance(value, dict):
        return {str(name): plain(item, strict) for name, item in value.items()}
    if strict:
        raise Unknown("a setting of theirs is a %s" % type(value).__name__)
    return type(value).__name__


def files():
    """The files that would be collected, by the names that they would get, with a hash each."""
    found_files = {}
    for name, (_, storage, path) in found().items():
        with open(storage.path(path), "rb") as file:
            found_files[name] = hashlib.blake2b(file.read(), digest_size=16).hexdigest()
    return found_files


def found():
    """The finder, the storage and the path there of each file that would be collected, as collectstatic finds them."""
    from django.apps import apps
    from django.contrib.staticfiles.finders import get_finders

    ignored = list({os.path.normpath(pattern) for pattern in apps.get_app_config("staticfiles").ignore_patterns})
    places = {}
    for finder in get_finders():
        for path, storage in finder.list(ignored):
            name = os.path.join(storage.prefix, path) if getattr(storage, "prefix", None) else path
            places.setdefault(name, (finder, storage, path))
    return places
