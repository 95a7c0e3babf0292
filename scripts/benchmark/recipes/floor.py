"""One release made by raw steps, each timed: what a deploy that wastes nothing would cost. Standard library only.

    python3 floor.py ROOT REPOSITORY UV PYTHON

ROOT has mirror.git, set/ (an environment with the site's packages, their byte code compiled) and current. The
answer, seconds by step, is the last line.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT, REPOSITORY, UV, PYTHON = Path(sys.argv[1]), *sys.argv[2:5]
MIRROR = ROOT / "mirror.git"
DJANGO = """
import json, os, time, sys
sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
import django
django.setup()
from django.core.management import call_command
began = time.monotonic()
seconds = {}
def timed(name, *words, **options):
    at = time.monotonic()
    call_command(*words, **options)
    seconds[name] = time.monotonic() - at
timed("check", "check", deploy=True)
timed("migrate, nothing to do", "migrate", interactive=False, verbosity=0)
timed("collectstatic", "collectstatic", interactive=False, verbosity=0)
print(json.dumps([time.monotonic() - began, seconds]))
"""
seconds = {}


def timed(name, *argv, **options):
    began = time.monotonic()
    done = subprocess.run([str(word) for word in argv], check=True, stdout=subprocess.PIPE, **options)
    seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began
    return done.stdout.decode()


def main():
    timed("git ls-remote", "git", "ls-remote", REPOSITORY, "refs/heads/main")
    timed("python start", PYTHON, "-c", "pass")
    release = ROOT / "releases" / time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())
    tree, venv, static = release / "app", release / "venv", release / "app" / "staticfiles"
    tree.mkdir(parents=True)
    timed("fetch", "git", "-C", MIRROR, "fetch", "-q", "origin")
    git = ["git", "-c", "checkout.workers=2", f"--git-dir={MIRROR}", f"--work-tree={tree}"]
    index = {**os.environ, "GIT_INDEX_FILE": str(release / "index")}
    timed("tree", *git, "read-tree", "--reset", "-u", "main", env=index, cwd=tree)
    timed("environment", UV, "venv", "-q", "--python", PYTHON, venv)
    (installed,) = (ROOT / "set").glob("lib/python3*/site-packages")
    (target,) = venv.glob("lib/python3*/site-packages")
    timed("packages, hard links", "cp", "-al", f"{installed}/.", target)
    began = time.monotonic()
    inner, parts = json.loads(timed("", venv / "bin" / "python", "-c", DJANGO, cwd=tree).splitlines()[-1])
    seconds.pop("")
    seconds["Django start"] = time.monotonic() - began - inner
    seconds.update(parts)
    timed("static files, hard links", "cp", "-al", static, release / "static-linked")
    began = time.monotonic()
    descriptor = os.open(release, os.O_RDONLY)
    assert ctypes.CDLL(None).syncfs(descriptor) == 0
    seconds["syncfs"] = time.monotonic() - began
    began = time.monotonic()
    (ROOT / "current.new").symlink_to(release)
    (ROOT / "current.new").replace(ROOT / "current")
    folder = os.open(ROOT, os.O_RDONLY)
    os.fsync(folder)
    seconds["link and fsync"] = time.monotonic() - began
    print(json.dumps(seconds))


main()
