"""The same by Fabric 3: its own local runner, so that no ssh is in the number. Needs what deploy.sh needs."""

import os
from datetime import UTC, datetime

from fabric import task

ROOT, REPOSITORY = os.environ["ROOT"], os.environ["REPOSITORY"]
PYTHON, KEEP = os.environ["PYTHON"], int(os.environ["KEEP"])
MIRROR, RELEASES, CURRENT = f"{ROOT}/mirror.git", f"{ROOT}/releases", f"{ROOT}/current"


@task
def deploy(c):
    if c.run(f"test -d {MIRROR}", warn=True, hide=True).ok:
        c.run(f"git -C {MIRROR} fetch --quiet --prune origin")
    else:
        c.run(f"git clone --quiet --mirror {REPOSITORY} {MIRROR}")
    release = f"{RELEASES}/{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}"
    c.run(f"mkdir -p {RELEASES} && mkdir {release}")
    c.run(f"git -C {MIRROR} archive main | tar -x -C {release}")
    with c.cd(release):
        c.run(f"{PYTHON} -m venv venv")
        c.run("venv/bin/pip install --quiet -r requirements.txt")
        c.run("mkdir staticfiles")
        c.run("venv/bin/python manage.py check --deploy")
        c.run("venv/bin/python manage.py collectstatic --noinput")
        c.run("venv/bin/python manage.py migrate --noinput")
    point_at(c, release)
    # here the services would be restarted
    old = c.run(f"ls -1 {RELEASES}", hide=True).stdout.split()[:-KEEP]
    if old:
        c.run("rm -rf " + " ".join(f"{RELEASES}/{name}" for name in old))


@task
def rollback(c):
    names = c.run(f"ls -1 {RELEASES}", hide=True).stdout.split()
    now = c.run(f"readlink {CURRENT}", hide=True).stdout.strip().rpartition("/")[2]
    point_at(c, f"{RELEASES}/{names[names.index(now) - 1]}")


def point_at(c, release):
    c.run(f"ln -sfn {release} {CURRENT}.new && mv -T {CURRENT}.new {CURRENT}")
