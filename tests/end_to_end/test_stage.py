"""What a command does in the stage is what it does alone: real projects, each with one thing that projects do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bb_release.tools import process
from stage_projects import (
    MANAGE,
    SETTINGS,
    VERSIONS,
    WSGI,
    as_collectstatic,
    both,
    environment,
    in_settings,
    python_of,
    require_python,
    when_ready,
)

SOME = ("check", "collectstatic", "migrate")
EVERYTHING = ("check", "facts", "collectstatic", "migrations", "rehearse", "migrate")

TELLS = """\
import __main__, gc, os, signal
facts = {
    "argv": sys.argv, "orig_argv": getattr(sys, "orig_argv", None), "main": __main__.__file__, "name": __main__.__name__,
    "path": sys.path[0], "folder": os.getcwd(), "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
    "priority": os.getpriority(os.PRIO_PROCESS, 0), "variable": os.environ.get("BB_RELEASE"),
    "open": [n for n in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + n)],
    "shown": [word for word in open("/proc/self/cmdline").read().split("\\0") if word],
    "terminal": [sys.stdin.isatty(), sys.stdout.isatty()], "input": sys.stdin.read(),
    "term": str(signal.getsignal(signal.SIGTERM)), "type": type(sys.argv).__name__,
    "garbage": [gc.isenabled(), gc.get_threshold()],
    "modules": sorted({"changed", "collected", "probe", "sources", "traps", "stage"} & set(sys.modules)),
}
for item in sorted(facts.items()):
    self.stdout.write("%s: %s" % item)
"""

NO_APPLICATION = "an application that cannot be imported"
ENVIRONMENT_ALONE = "settings that only the environment names, while manage.py and wsgi.py name others"
KILLED = "a migration that is killed half way, and then run to its end"
TO_HTTPS = "every address led to https, behind a proxy"
ACTS = {
    TO_HTTPS: ("check", "rehearse", "rehearse http"),
    "nothing special": EVERYTHING, "django-configurations": EVERYTHING, ENVIRONMENT_ALONE: EVERYTHING,
    NO_APPLICATION: EVERYTHING, KILLED: ("check", "migrations", "migrate", "migrations", "migrate", "migrations"),
}  # fmt: skip
DRAWS = "import numpy\nself.stdout.write(str(numpy.random.random()))\n"
LOGS = """\
LOGGING = {
    "version": 1,
    "handlers": {
        "plain": {"class": "logging.FileHandler", "filename": "plain.log"},
        "small": {"class": "logging.handlers.RotatingFileHandler", "filename": "small.log", "maxBytes": 60,
                  "backupCount": 9},
        "system": {"class": "logging.handlers.SysLogHandler", "address": ("127.0.0.1", 9)},
    },
    "loggers": {"shop": {"handlers": ["plain", "small", "system"]}},
}
"""

STAGED: dict[str, dict[str, str]] = {
    "nothing special": {},
    "manage.py reads a .env file with dotenv": {
        "manage.py": "import dotenv; dotenv.load_dotenv('site.env')\n" + MANAGE,
        "site.env": "SHOP_COLOUR=green\n",
        **in_settings("print('colour', os.environ['SHOP_COLOUR'])\n"),
    },
    "django-configurations": {
        "manage.py": MANAGE.replace(
            "from django.core", "os.environ.setdefault('DJANGO_CONFIGURATION', 'Live')\nfrom configurations"
        ),
        "shop/settings.py": "from configurations import Configuration\nclass Live(Configuration):\n"
        + "".join(f"    {line}\n" for line in SETTINGS.splitlines()),
        "shop/wsgi.py": "from configurations.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
    },
    "settings that say how often garbage is looked for": as_collectstatic(
        "import gc; self.stdout.write(str(gc.get_threshold()))\n", "import gc; gc.set_threshold(12345, 6, 7)\n"
    ),
    "settings that are relative to the working directory": {
        **in_settings("VERSION = open('VERSION').read()\nprint(VERSION)\n"),
        "VERSION": "1.2",
    },
    "random numbers of numpy, with a seed": as_collectstatic(DRAWS, "import numpy.random; numpy.random.seed(7)\n"),
    "settings that ask how the process is called": in_settings(
        "print(open('/proc/self/cmdline').read().split(chr(0))[1])\n"
    ),
    "static files that are collected into their own folder, which the repository has": in_settings(
        "STATIC_ROOT = BASE_DIR / 'shop/static'\n"
        "STORAGES = {'staticfiles': {'BACKEND': 'django.contrib.staticfiles.storage.ManifestStaticFilesStorage'},\n"
        "            'default': {'BACKEND': 'django.core.files.storage.FileSystemStorage'}}\n"
    )
    | {"shop/static/staticfiles.json": '{"paths": {"built.css": "built.0123456789ab.css"}, "version": "1.0"}'},
    ENVIRONMENT_ALONE: {
        "manage.py": MANAGE.replace("shop.settings", "shop.development"),
        "shop/wsgi.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.nowhere')\n" + WSGI,
        **in_settings("print('read by', os.environ['DJANGO_SETTINGS_MODULE'])\n"),
    },
    KILLED: {
        "shop/migrations/0002_dies.py": "import os, signal\nfrom django.db import migrations\n"
        "def die_once(apps, editor):\n    if not os.path.exists('died'):\n        open('died', 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "class Migration(migrations.Migration):\n    dependencies = [('shop', '0001_initial')]\n"
        "    operations = [migrations.RunPython(die_once)]\n",
        "shop/migrations/0003_more.py": "from django.db import migrations\n"
        "class Migration(migrations.Migration):\n    dependencies = [('shop', '0002_dies')]\n"
        "    operations = [migrations.RunSQL('create table more (id integer)')]\n",
    },
    "settings that print, and warn": in_settings(
        "import warnings\nprint('loading')\nprint('careful', file=sys.stderr)\nwarnings.warn('old')\n"
    ),
    "settings that ask whether this is a test": in_settings(
        "TESTING = 'test' in sys.argv or sys.argv[1:2] == ['test'] or sys.argv.count('test') > 0\n"
        "NAME = os.path.basename(sys.argv[0])\n"
    ),
    "log files, one of them rotating": in_settings(LOGS)
    | when_ready(
        "import logging\nfrom django.core.checks import register\n@register('staticfiles')\n"
        "def tell(**named):\n    for n in range(3): logging.getLogger('shop').error('a line of some length %d', n)\n"
        "    return []"
    ),
    "the database is asked while Django is set up": when_ready(
        "from django.db import connection\nwith connection.cursor() as c: c.execute('select 1')"
    ),
    "checks that find errors": when_ready(
        "from django.core.checks import Error, Warning, register\n"
        "@register()\ndef wrong(app_configs, **options): return [Error('wrong', id='shop.E001'), Warning('hm')]"
    ),
    TO_HTTPS: in_settings(
        "MIDDLEWARE = ['django.middleware.security.SecurityMiddleware']\nSECURE_SSL_REDIRECT = True\n"
        "SECURE_PROXY_SSL_HEADER = ('HTTP_X_FORWARDED_PROTO', 'https')\nALLOWED_HOSTS = ['shop.example.org']\n"
    ),
    NO_APPLICATION: {"shop/wsgi.py": "raise RuntimeError('no such service')\n"},
    "a migration that fails in the middle": {
        "shop/migrations/0002_wrong.py": "from django.db import migrations\n"
        "def wrong(apps, editor):\n    print('at work')\n    raise ValueError('wrong')\n"
        "class Migration(migrations.Migration):\n    dependencies = [('shop', '0001_initial')]\n"
        "    operations = [migrations.RunPython(wrong)]\n"
    },
    "a migration that tells its priority": {
        "shop/migrations/0002_tells.py": "import os\nfrom django.db import migrations\n"
        "def tell(apps, editor):\n    print(os.getpriority(os.PRIO_PROCESS, 0))\n"
        "class Migration(migrations.Migration):\n    dependencies = [('shop', '0001_initial')]\n"
        "    operations = [migrations.RunPython(tell)]\n"
    },
    "a command that raises": as_collectstatic("print('first')\nraise ValueError('wrong')"),
    "a command that says its own exit code": as_collectstatic("print('first')\nsys.exit(7)"),
    "a command that is killed": as_collectstatic(
        "import os, signal\nprint('first', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    ),
    "a command that leaves a program with its output": as_collectstatic(
        "import subprocess\nsubprocess.Popen(['sleep', '20'], start_new_session=True)\nprint('left')"
    ),
    "a handler of signals": as_collectstatic(TELLS)
    | when_ready("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"),
    "a command that tells of its process": as_collectstatic(TELLS),
    "a manage.py with something around the command": {
        "manage.py": MANAGE.replace(
            "    execute_from_command_line(sys.argv)",
            "    print('before')\n    try:\n        execute_from_command_line(sys.argv)\n"
            "    except Exception as error:\n        print('caught', repr(error))\n        sys.exit(9)\n"
            "    finally:\n        print('after')\n    print('the end')",
        )
    }
    | as_collectstatic("raise ValueError('wrong')"),
    "a manage.py that runs another command first": {
        "manage.py": MANAGE.replace(
            "    execute_from_command_line(sys.argv)",
            "    execute_from_command_line(['manage.py', 'showmigrations', '--plan'])\n"
            "    execute_from_command_line(sys.argv)",
        )
    },
    "threads of a library that ends them before a fork": in_settings(
        "import _thread, threading, time\nstop, stopped = threading.Event(), threading.Event()\n"
        "def work():\n    stop.wait(); stopped.set()\n_thread.start_new_thread(work, ())\n"
        "os.register_at_fork(before=lambda: (stop.set(), stopped.wait(), time.sleep(0.05)))\n"
    ),
    "weak receivers of signals": when_ready(
        "from django.db.models.signals import post_save\nclass A:\n    def got(self, **named): pass\n"
        "self.a = A()\npost_save.connect(self.a.got)"
    ),
}

ALONE = {
    "threads": ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='w').start()\n",
                r"starts threads \(w\)"),
    "threads of a library": ("import _thread, time\n_thread.start_new_thread(time.sleep, (1000,))\n",
                             "a library of it starts threads"),
    "a look at the command": ("FIRST = sys.argv[1]\n", r"reads sys.argv \(settings.py:\d+\)"),
    "a look at all words": ("TESTING = any('test' in word for word in sys.argv)\n", "reads sys.argv"),
    "a look at the rest of the words": ("import argparse\nargparse.ArgumentParser().parse_known_args()\n",
                                        "reads sys.argv"),
    "a look at the words before": ("WORDS = ['x'] + sys.argv\n", "reads sys.argv"),
    "a change of the words": ("sys.argv.append('--traceback'); sys.argv.pop()\n", "reads sys.argv"),
    "other words": ("sys.argv = list.copy(sys.argv)\n", "replaces sys.argv"),
    "a socket": ("import socket\nPAIR = socket.socketpair()\n", "keeps socket:.* open"),
    "a file": ("FILE = open('note.txt', 'w')\n", "keeps .*note.txt open"),
    "a log file that begins anew": (LOGS.replace('"filename": "plain.log"', '"filename": "plain.log", "mode": "w"'),
                                    "keeps .*plain.log open"),
    "another output": ("FILE = open('note.txt', 'a')\nos.dup2(FILE.fileno(), 2)\nFILE.close()\n", "keeps .* open"),
    "a temporary folder": ("import tempfile\nFOLDER = tempfile.TemporaryDirectory()\n", r"at exit \(tempfile\)"),
    "something to do at exit": (
        "import atexit\n@atexit.register\ndef leave(): print('left')\n", r"at exit \(shop.settings\)"),
    "a lock for processes": ("import multiprocessing\nLOCK = multiprocessing.Lock()\n", "shares memory"),
    "a program that stays": ("import subprocess\nP = subprocess.Popen(['sleep', '5'])\n", "leaves programs running"),
    "deaf to its children": ("import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n", "handles SIGCHLD"),
    "a timer": ("import signal\nsignal.setitimer(signal.ITIMER_REAL, 1000)\n", "sets a timer"),
    "a loop for coroutines": ("import asyncio\nLOOP = asyncio.new_event_loop()\n", "keeps .* open"),
    "settings that cannot be read": ("from django.core.exceptions import ImproperlyConfigured as No\nraise No('x')\n",
                                     "settings cannot be read"),
    "settings that cannot be compiled": ("this is no Python\n", "came to no command"),
}  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A Python with Django and what the projects here use."""
    packages = ("django~=5.2.0", "django-configurations", "python-dotenv", "gevent", "eventlet", "numpy")
    return environment(tmp_path_factory.mktemp("python"), sys.executable, cache, *packages)


def compare(
    folder: Path, python: Path, files: dict[str, str], acts: tuple[str, ...], *, staged: bool,
    manage_path: str = "manage.py", **variables: str,
) -> str:  # fmt: skip
    """Do the same with a stage and without; the same has to come of it. Returns why there was no stage."""
    env = {"BB_RELEASE": "2026-11-23-12-00-00", **variables}
    with both(folder, python, files, env=env, manage_path=manage_path) as (alone, other):
        for act in acts:
            assert alone.do(act) == other.do(act), act
        assert alone.left() == other.left()
        assert (1 + acts.count("extra steps") if staged else alone.starts()) == other.starts()
        why = other.why_not()
    assert [] == process._running
    return why


@pytest.mark.parametrize("name", STAGED)
def test_in_the_stage_all_is_as_it_is_alone_with(name: str, tmp_path: Path, python: Path) -> None:
    variables = {"DJANGO_SETTINGS_MODULE": "shop.settings"} if name == ENVIRONMENT_ALONE else {}
    assert "" == compare(tmp_path, python, STAGED[name], ACTS.get(name, SOME), staged=True, **variables)


def test_in_the_stage_a_manage_py_below_the_working_directory_finds_what_it_finds_alone(
    tmp_path: Path, python: Path
) -> None:
    """Python looks for modules where manage.py is; files are opened where the command was begun."""
    files = {
        "bin/manage.py": "import os, sys\nsys.path.append(os.getcwd())\nimport beside\n" + MANAGE,
        "bin/beside.py": "print('beside')\n",
        "VERSION": "1.2",
        **in_settings("print(sys.path[0], open('VERSION').read())\n"),
    }
    assert "" == compare(tmp_path, python, files, EVERYTHING, staged=True, manage_path="bin/manage.py")


def test_in_the_stage_a_long_command_is_shown_whole(tmp_path: Path, python: Path) -> None:
    """However short the path of the stage's own program is, in whose place the command's words are written."""
    manage = f"{'/'.join(['a folder of some length'] * 5)}/manage.py"
    files = {manage: "import os, sys\nsys.path.append(os.getcwd())\n" + MANAGE, **as_collectstatic(TELLS)}
    assert "" == compare(tmp_path, python, files, SOME, staged=True, manage_path=manage)


def test_in_the_stage_a_command_sees_what_a_step_between_two_commands_did(tmp_path: Path, python: Path) -> None:
    acts = ("check", "extra steps", "collectstatic", "migrations", "migrate")
    caches = (
        "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.db.DatabaseCache', 'LOCATION': 'shop_cache'}}\n"
    )
    assert "" == compare(tmp_path, python, in_settings(caches), acts, staged=True)
    assert (tmp_path / "staged" / "collected" / "shop" / "built.css").is_file()


def test_each_command_in_the_stage_draws_random_numbers_of_its_own_from_numpy(tmp_path: Path, python: Path) -> None:
    with both(tmp_path, python, as_collectstatic(DRAWS, "import numpy.random\n")) as (_, staged):
        (first, said), (second, said_then) = staged.do("collectstatic"), staged.do("collectstatic")
        assert 0 == first == second
        assert said != said_then
        assert 1 == staged.starts()


@pytest.mark.parametrize("name", ALONE)
def test_there_is_no_stage_for_a_project_with(name: str, tmp_path: Path, python: Path) -> None:
    text, why = ALONE[name]
    assert re.search(why, compare(tmp_path, python, in_settings(text), ("check", "migrate"), staged=False))


@pytest.mark.parametrize(
    ("text", "why"),
    [("from gevent import monkey; monkey.patch_all()\n", "with gevent"),
     ("import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()\n", "with eventlet")],
    ids=["gevent", "eventlet"],
)  # fmt: skip
def test_there_is_no_stage_for_a_project_that_patches_python(text: str, why: str, tmp_path: Path, python: Path) -> None:
    files = {"manage.py": text + MANAGE}
    assert re.search(why, compare(tmp_path, python, files, ("check", "migrate"), staged=False))


def test_there_is_no_stage_for_a_project_that_uses_its_static_files_while_it_loads(
    tmp_path: Path, python: Path
) -> None:
    storages = (
        "STORAGES = {'staticfiles': {'BACKEND': 'django.contrib.staticfiles.storage.ManifestStaticFilesStorage'},\n"
        "            'default': {'BACKEND': 'django.core.files.storage.FileSystemStorage'}}\n"
    )
    ready = "from django.contrib.staticfiles.storage import staticfiles_storage as s\nprint(sorted(s.hashed_files))"
    files = when_ready(ready) | in_settings(storages)
    assert "uses its static files" in compare(tmp_path, python, files, SOME, staged=False)


@pytest.mark.parametrize(
    "manage",
    [
        "import django, os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'\ndjango.setup()\n"
        "from django.core.management import call_command\nprint('called', sys.argv)\ncall_command(*sys.argv[1:])\n",
        "import sys\nprint('nothing to do')\nsys.exit(3)\n",
        MANAGE.replace("sys.argv)", "sys.argv + ['--traceback'])"),
        "this is no Python\n",
    ],
    ids=["calls", "exits", "adds", "broken"],
)
def test_there_is_no_stage_for_a_manage_py_that_goes_another_way(manage: str, tmp_path: Path, python: Path) -> None:
    acts = ("check", "migrate")
    assert compare(tmp_path, python, {"manage.py": manage}, acts, staged=False)


def test_a_manage_py_that_is_not_there_is_as_python_says_it(tmp_path: Path, python: Path) -> None:
    with both(tmp_path, python, {}) as places:
        for place in places:
            (place.folder / "manage.py").unlink()
        assert places[0].do("check") == places[1].do("check")
        assert "ended with exit code 2" == places[1].do("check")[0]


@pytest.mark.parametrize(("version", "requirement"), VERSIONS, ids=[" ".join(v) for v in VERSIONS])
def test_each_supported_django_and_python_has_a_stage(
    version: str, requirement: str, tmp_path: Path, cache: Path
) -> None:
    require_python(version)
    python = environment(tmp_path / "venv", python_of(version), cache, requirement)
    names = ("nothing special", "a command that tells of its process", "a look at the command")
    for number, name in enumerate(names):
        staged = name in STAGED
        folder = tmp_path / str(number)
        folder.mkdir()
        files = STAGED[name] if staged else in_settings(ALONE[name][0])
        why = compare(folder, python, files, EVERYTHING if not number else SOME, staged=staged)
        assert re.search("^$" if staged else ALONE[name][1], why)
