"""Runs in the app's own Python, in the release: the questions that the agent asks Django. stage.py starts it.

Standard library and Django only, Python 3.8 and later. An exception is the project's: its traceback is the output,
the exit code is 1.
"""

import importlib
import io
import os
import sys

import sources


def application(name):
    """Import the WSGI or ASGI application: the configured one, or the one Django's settings name."""
    from django.conf import settings

    if not name:
        wsgi = getattr(settings, "WSGI_APPLICATION", None)
        asgi = getattr(settings, "ASGI_APPLICATION", None)
        dotted = wsgi or asgi
        if not dotted:
            project = os.environ.get("DJANGO_SETTINGS_MODULE", "").split(".")[0]
            dotted = project + ".wsgi.application"
        name = ":".join(dotted.rsplit(".", 1))
    module, _, attribute = name.partition(":")
    return name, getattr(importlib.import_module(module), attribute or "application")


def facts(arguments):
    """What shapes the later steps; importing the application proves that it can be imported."""
    import django
    from django.conf import settings

    name, _ = application(arguments["application"])
    installed = "django.contrib.staticfiles" in settings.INSTALLED_APPS
    known = static(arguments) if installed and arguments.get("static") else {}
    return {
        **known,
        "application": name,
        "django": django.get_version(),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "settings": os.environ.get("DJANGO_SETTINGS_MODULE", ""),
        "static_root": str(settings.STATIC_ROOT or ""),
        "staticfiles": installed,
    }


def static(arguments):
    """What decides what collectstatic makes, as it is now: a command of the site's own may have built some of it."""
    return sources.look()


def migrations(arguments):
    """Which migrations of this code each database has applied, and which are pending. Reads only.

    Those of another database than the default one are marked with its alias.
    """
    from django.db import connections
    from django.db.migrations.executor import MigrationExecutor

    answer = {"pending": [], "applied": [], "unknown": []}
    listed = []
    for alias in connections:
        executor = MigrationExecutor(connections[alias])
        if alias != "default" and not executor.recorder.has_table():  # nobody migrates it: it is not this project's
            connections[alias].close()
            continue
        loader = executor.loader
        plan = executor.migration_plan(loader.graph.leaf_nodes())
        mark = "" if alias == "default" else alias + ":"
        answer["pending"] += [mark + "%s.%s" % (m.app_label, m.name) for m, _ in plan]
        answer["applied"] += sorted(mark + "%s.%s" % key for key in loader.applied_migrations)
        known = set(loader.disk_migrations)
        apps = {label for label, _ in known}
        answer["unknown"] += sorted(
            mark + "%s.%s" % key for key in loader.applied_migrations if key[0] in apps and key not in known
        )
        where = [str(connections[alias].settings_dict.get(key)) for key in ("ENGINE", "NAME", "HOST", "PORT")]
        disk = [[*key, sorted(map(str, migration.replaces))] for key, migration in loader.disk_migrations.items()]
        listed.append([alias, where, sorted(disk)])
        connections[alias].close()
    answer["listed"] = sorted(listed)
    return answer


def rehearse(arguments):
    """Call the application once with the health request, in this process, before anyone else sees it."""
    import asyncio

    name, called = application(arguments["application"])
    if asyncio.iscoroutinefunction(called) or asyncio.iscoroutinefunction(getattr(called, "__call__", None)):
        status, headers, body = asyncio.run(_ask_asgi(called, arguments))
    else:
        status, headers, body = _ask_wsgi(called, arguments)
    return {"status": status, "headers": headers, "body": body[:65536].decode("utf-8", "replace")}


def _split(arguments):
    path, _, query = arguments["path"].partition("?")
    return path, query, {key.lower(): value for key, value in arguments["headers"].items()}


def _ask_wsgi(called, arguments):
    path, query, headers = _split(arguments)
    host, _, port = headers.get("host", "localhost").partition(":")
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": host,
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": arguments["scheme"],
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": True,
    }
    for key, value in headers.items():
        environ["HTTP_" + key.upper().replace("-", "_")] = value
    got = []
    chunks = []

    def start_response(status, headers, exc_info=None):
        got[:] = [int(status.split(None, 1)[0]), [[k, v] for k, v in headers]]
        return chunks.append

    result = called(environ, start_response)
    try:
        chunks.extend(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    return got[0], got[1], b"".join(chunks)


async def _ask_asgi(called, arguments):
    path, query, headers = _split(arguments)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": arguments["scheme"],
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()],
    }
    import asyncio

    sent = []
    asked = [False]

    async def receive():
        if asked[0]:
            await asyncio.sleep(3600)
        asked[0] = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await called(scope, receive, send)
    start = next(m for m in sent if m["type"] == "http.response.start")
    body = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    headers = [[k.decode("latin-1"), v.decode("latin-1")] for k, v in start.get("headers", [])]
    return start["status"], headers, body


QUESTIONS = {"facts": facts, "migrations": migrations, "rehearse": rehearse, "static": static}
