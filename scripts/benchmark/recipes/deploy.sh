#!/usr/bin/env bash
# The article's third stage, typed on the server: a cached repository, a release folder with its own environment
# and static files, one link. ROOT, REPOSITORY, PYTHON and KEEP come from the environment.
set -eu

deploy() {
    if [ -d "$ROOT/mirror.git" ]; then
        git -C "$ROOT/mirror.git" fetch --quiet --prune origin
    else
        git clone --quiet --mirror "$REPOSITORY" "$ROOT/mirror.git"
    fi
    release="$ROOT/releases/$(date -u +%Y-%m-%d-%H-%M-%S)"
    mkdir -p "$ROOT/releases"
    mkdir "$release"
    cd "$release"
    git -C "$ROOT/mirror.git" archive main | tar -x
    "$PYTHON" -m venv venv
    venv/bin/pip install --quiet -r requirements.txt
    mkdir staticfiles
    venv/bin/python manage.py check --deploy
    venv/bin/python manage.py collectstatic --noinput
    venv/bin/python manage.py migrate --noinput
    point_at "$release"
    # here the services would be restarted
    ls -1d "$ROOT"/releases/* | head -n "-$KEEP" | xargs --no-run-if-empty rm -rf
}

rollback() {
    now=$(readlink "$ROOT/current")
    before=$(ls -1d "$ROOT"/releases/* | grep -B 1 -x -F "$now" | head -n 1)
    [ "$before" != "$now" ]
    point_at "$before"
}

point_at() {
    ln -sfn "$1" "$ROOT/current.new"
    mv -T "$ROOT/current.new" "$ROOT/current"
}

"$1"
