"""Run inside a booted systemd by `scripts/bench handover`: one site for each way of handing over, and the rounds.

All four are the example site from the same two commits, in the units and the nginx site that `bb-release units`
writes; the two whose gunicorn opens its own socket have a line or two less and more. All is gone with the overlay.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/systemd"))

import booted_host
from booted_host import AGENT, CACHE, REPOSITORY, current, health, sh

from benchmark import tally
from benchmark.visitors import Visit

VISITORS = Path(__file__).with_name("visitors.py")
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 1.0
LEAST_SECONDS = 10.0  # of visits since the order, however quick the switch: a reload is over long before its pause is
UNITS, NGINX_SITES = Path("/etc/systemd/system"), Path("/etc/nginx/sites-available")
# Says in each answer where the code and the packages behind it were imported from.
WHICH = """
import os
import django

def release_of(path):
    return os.path.realpath(path).partition("/releases/")[2].partition("/")[0]

CODE, PACKAGES = release_of(__file__), release_of(django.__file__)

def which(get_response):
    def answer(request):
        response = get_response(request)
        response["X-Code"], response["X-Packages"] = CODE, PACKAGES
        return response
    return answer
"""
HEALTH = '[health]\nurl = "http+unix:///run/bench-{0}/web.sock:/health/"\nrelease = "header:X-Release"\n'
UNIT = HEALTH + '[[units]]\nname = "bench-{0}.service"\nhandover = "{0}"\n'
PAIR = HEALTH + ('[[units]]\nname = "bench-{0}@.service"\nhandover = "{0}"\nsocket = "/run/bench-{0}/web.sock"\n')
# what each configuration says of its processes; of those that are reloaded bb-release knows nothing
TABLES = {
    "restart": UNIT.format("restart"),
    "hup": "units = []\n",
    "socket": UNIT.format("socket"),
    "blue-green": PAIR.format("blue-green"),
}


def root_of(way: str) -> Path:
    return Path(f"/srv/bench-{way}")


def socket_of(way: str) -> str:
    return f"/run/bench-{way}/web.sock"


def bb(way: str, *words: str) -> None:
    sh(AGENT, "-a", f"bench-{way}", *words, user="deploy")


def prepare() -> None:
    """The host, the sites with two releases each, nginx in front of them."""
    booted_host.make_host()
    (REPOSITORY / "brackets/which.py").write_text(WHICH)
    with (REPOSITORY / "broken_brackets/settings.py").open("a") as settings:
        settings.write('\nMIDDLEWARE.append("brackets.which.which")\n')
    booted_host.commit("answers say which release they come from")
    Path("/etc/sudoers.d/bench").write_text("deploy ALL=(root) NOPASSWD: ALL\n")  # rights are not what is measured
    Path("/etc/bb-release").mkdir(exist_ok=True)
    for way, table in TABLES.items():
        booted_host.make_root(root_of(way))
        sh("chown", "-R", "deploy:www-data", root_of(way) / "shared")
        (root_of(way) / "shared").chmod(0o2770)
        Path(f"/etc/bb-release/bench-{way}.toml").write_text(
            f'repository = "{REPOSITORY}"\nallow_file_url = true\nroot = "{root_of(way)}"\ncache = "{CACHE}"\n'
            f'env_file = "{root_of(way)}/shared/site.env"\napplication = "broken_brackets.wsgi:application"\n{table}'
        )
    write_units()
    for way in TABLES:
        bb(way, "deploy")
    booted_host.note("the second revision")
    for way in TABLES:
        bb(way, "deploy")
    begin_anew()
    start_nginx()


def write_units() -> None:
    """Those of bb-release for `socket` and `blue-green`; from the first, those without a socket of systemd's."""
    for way in ("socket", "blue-green"):
        sh(AGENT, "-a", f"bench-{way}", "units", "--install")
    unit = (UNITS / "bench-socket.service").read_text()
    for way in ("restart", "hup"):
        text = re.sub(r"^Requires=.*\n| bench-socket\.socket$", "", unit, flags=re.MULTILINE)
        text = text.replace(" --graceful-timeout", f" --bind unix:{socket_of(way)} --graceful-timeout")
        text = text.replace("[Service]\n", f"[Service]\nRuntimeDirectory=bench-{way}\n").replace(
            "bench-socket", f"bench-{way}"
        )
        if way == "hup":
            # without --chdir a reload never leaves the first release: github.com/benoitc/gunicorn/issues/394
            text = text.replace(" --graceful-timeout", f" --chdir {root_of(way)}/current/app --graceful-timeout")
            text = text.replace("[Service]\n", "[Service]\nExecReload=/bin/kill -s HUP $MAINPID\n")
        (UNITS / f"bench-{way}.service").write_text(text)
    sh("systemctl", "daemon-reload")
    sh("systemctl", "start", "bench-socket.socket")
    sh("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/bench-blue-green.conf")


def start_nginx() -> None:
    """The site that `units` writes, once for each way, on a unix socket instead of port 80."""
    site = (NGINX_SITES / "bench-socket.conf").read_text()
    port = "    listen 80;\n    listen [::]:80;\n"
    sites = "".join(
        site.replace("bench-socket", f"bench-{way}").replace(port, f"    listen unix:/run/nginx-{way}.sock;\n")
        for way in TABLES
    )
    Path("/srv/nginx.conf").write_text(
        "user www-data;\nworker_processes auto;\nworker_rlimit_nofile 16384;\n"
        # the default, 512 for each worker, would end before those who wait do
        f"events {{ worker_connections 8192; }}\nhttp {{\naccess_log off;\n{sites}}}\n"
    )
    sh("systemd-run", "-q", "--unit=bench-nginx", "nginx", "-c", "/srv/nginx.conf", "-g", "daemon off;")


def switch(way: str, release: str) -> None:
    """Make a release live, and return when who ordered it would be told that it is."""
    if way == "hup":
        link = root_of(way) / "current"
        sh("ln", "-sfn", f"releases/{release}", f"{link}.new")
        sh("mv", "-T", f"{link}.new", link)
        sh("systemctl", "reload", "bench-hup.service")
    elif way == "build":
        bb("socket", "deploy", "--build-only", "--force")
    elif way != "steady":
        bb(way, "switch", release)


def measure(way: str, rate: int) -> tally.Facts:
    """One switch to the release that is not live, under visitors. Raises NotMeasured."""
    site = {"steady": "blue-green", "build": "socket"}.get(way, way)
    live, (first, second, *_) = current(root_of(site)), sorted(os.listdir(root_of(site) / "releases"))
    release = live if way in tally.NO_SWITCH else second if live == first else first
    program = [sys.executable, VISITORS, f"/run/nginx-{site}.sock", str(rate)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as visitors:
        time.sleep(0.5 + BEFORE_SECONDS)  # half a second for Python to start
        if way == "build":  # all is installed and compiled anew, as after a change of Python
            shutil.rmtree(root_of(site) / "sets")
        began = time.monotonic()
        switch(way, release)
        ended = time.monotonic()
        time.sleep(max(AFTER_SECONDS, began + LEAST_SECONDS - ended))
        told, _ = visitors.communicate()
    if way == "hup":
        begin_anew()
    until = ended if way == "build" else math.inf  # the rest that follows would make the build look lighter
    seen = [Visit(*visit) for visit in json.loads(told)]
    return tally.tally(seen, began, ended, live, release, until=until)


def begin_anew() -> None:
    """The reloaded site from processes of the live release alone. Where it is not well, `tally` says so."""
    sh("systemctl", "restart", "bench-hup.service")
    for _ in range(100):
        with suppress(OSError):
            health(socket_of("hup"))
            return
        time.sleep(0.1)


def versions() -> list[str]:
    """What takes part."""
    gunicorn = sh(root_of("socket") / "current/venv/bin/gunicorn", "--version").stdout
    return [
        f"Python {platform.python_version()}", f"gunicorn {gunicorn.split()[-1].strip(')')}",
        sh("nginx", "-v").stderr.split()[-1].replace("/", " "),
        " ".join(sh("systemctl", "--version").stdout.split()[:2]),
    ]  # fmt: skip


def main() -> None:
    kept, deploys, rate = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    prepare()
    measure("steady", rate)  # just after the builds times are not what they are later: not counted
    load = os.getloadavg()[0]
    ways = list(tally.WAYS)
    runs: dict[str, list[tally.Facts]] = {way: [] for way in ways}
    for number in range(deploys):
        turn = number % len(ways)
        for way in ways[turn:] + ways[:turn]:
            run = measure(way, rate)
            runs[way].append(run)
            said = f"{tally.failed(run)} failures, p99 {tally.ms(run['p99'])} ms"
            print(f"  round {number + 1} of {deploys}  {way:<12}{run['seconds']:5.1f} s  {said}", flush=True)
    facts = {
        "rate": rate, "deploys": deploys, "measured_on": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(), "load": [round(load, 1), round(os.getloadavg()[0], 1)], "versions": versions(),
        "runs": runs,
    }  # fmt: skip
    kept.write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
