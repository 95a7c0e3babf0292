"""Run inside a booted systemd (see test_begin_booted.py): init, units --install, check, and a first deploy.

Each line that `check` prints is done as it stands, until nothing stops a deploy. Everything is gone with the overlay.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TESTS = PROJECT / "tests"
ROOT = Path("/srv/shop")
REPOSITORY = Path("/srv/shop-repository")
AGENT = Path("/usr/local/bin/bb-release")
REDIS = Path("/run/shop-redis/redis.sock")


def sh(*words: str | Path, user: str = "root", cwd: str = "/", check: bool = True) -> subprocess.CompletedProcess[str]:
    entry = pwd.getpwnam(user)
    env = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": entry.pw_dir, "LANG": "C.UTF-8"}
    env.update({name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ})
    groups = {"user": user, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, **groups
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def checked() -> dict[str, list[str]]:
    """What `check` says to the deploy user: the texts of each level, and what to do."""
    done = sh(AGENT, "check", "--json", user="deploy", check=False)
    assert "Traceback" not in done.stderr, done.stderr
    facts = json.loads(done.stdout)
    levels = {level: [f["text"] for f in facts["facts"] if f["level"] == level] for level in ("ok", "warn", "problem")}
    assert done.returncode == (1 if levels["problem"] else 0)
    return {**levels, "to_do": facts["to_do"]}


def test_from_nothing_to_a_first_deploy_by_what_the_commands_say() -> None:
    sh("useradd", "--create-home", "--groups", "www-data", "deploy")
    sh(PROJECT / "scripts/install")
    shutil.copytree(TESTS / "broken_brackets", REPOSITORY)
    with (REPOSITORY / "requirements.txt").open("a") as requirements:
        requirements.write("packaging==26.3\nredis==8.1.0\n")
    REDIS.parent.mkdir()
    sh("systemd-run", "-q", "--unit=shop-redis", "redis-server", "--port", "0", "--unixsocket", REDIS,
       "--unixsocketperm", "777", "--save", "")  # fmt: skip
    sh("chown", "-R", "deploy:", REPOSITORY)
    git = ("git", "-C", REPOSITORY, "-c", "user.name=Dev", "-c", "user.email=dev@example.org")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "the first revision")):
        sh(*git, *words, user="deploy")

    said = sh(AGENT, "init", REPOSITORY, "-a", "shop", user="deploy", cwd="/home/deploy").stdout
    commands = [line.partition(". ")[2].partition("   #")[0] for line in said.partition("\nnext")[2].splitlines()[1:]]
    install, root, shared, last = commands
    assert (install, root) == (
        "sudo install -D -m 644 /home/deploy/shop.toml /etc/bb-release/shop.toml",
        "sudo install -d -o deploy -m 755 /srv/shop",
    )
    assert last == "bb-release -a shop check"
    for command in (install, root):
        sh("sh", "-c", command)
    sh("sh", "-c", shared, user="deploy")
    # the one thing that nobody else can know
    (ROOT / "shared/site.env").write_text(f"SECRET_KEY={'x' * 60}\nCELERY_BROKER_URL=redis+socket://{REDIS}\n")

    first = checked()
    assert any("shop.service: systemd cannot use the unit" in text for text in first["problem"])
    assert "sudo bb-release units --install" in first["to_do"]
    installed = sh(AGENT, "units", "--install").stdout
    assert "wrote: /etc/systemd/system/shop.socket" in installed
    for line in installed.partition("now:")[2].splitlines():
        command = line.strip().partition("   #")[0]
        if command and "nginx" not in command and "bb-release@shop.timer" not in command:
            sh("sh", "-c", command)
    assert "as it was" in sh(AGENT, "units", "--install").stdout
    another_app_of_another_owner()

    rights = Path("/etc/sudoers.d/bb-release-shop")
    assert 0o440 == rights.stat().st_mode & 0o7777
    assert [] == checked()["problem"]
    rights.rename("/root/rights")  # without it, check prints the lines

    second = checked()
    lines = [line.partition("add: ")[2] for line in second["to_do"] if "sudoers" in line]
    assert [] == [text for text in second["problem"] if "may not change" not in text]
    assert 3 == len(lines), second  # the web service, its socket, the worker
    Path("/etc/sudoers.d/bb-release").write_text("\n".join(lines) + "\n")
    Path("/etc/sudoers.d/bb-release").chmod(0o440)
    sh("visudo", "-cf", "/etc/sudoers.d/bb-release")

    third = checked()
    assert [] == third["problem"]
    Path("/etc/sudoers.d/bb-release").unlink()
    Path("/root/rights").rename(rights)
    assert any("deploy may restart shop.service, shop.socket, shop-celery.service" in text for text in third["ok"])
    assert any("bb-release-recover@shop.service runs at boot" in text for text in third["ok"])
    # SQLite's file, and its journal beside it, belong to the deploy user: the site user could not write
    mend = [line for line in third["to_do"] if line.startswith("sudo chgrp")]
    assert len(mend) == 2, third
    for line in mend:
        sh("sh", "-c", line.replace("sudo ", ""))
    assert not [text for text in checked()["warn"] if "cannot write" in text]

    assert "nothing is live yet" in sh(AGENT, "deploy", "--plan", user="deploy").stdout
    sh(AGENT, "deploy", user="deploy")
    for unit in ("shop.service", "shop.socket", "shop-celery.service"):
        verified = sh("systemd-analyze", "verify", f"/etc/systemd/system/{unit}", check=False)
        assert (verified.returncode, verified.stderr) == (0, ""), unit
    live = checked()
    assert [] == live["problem"]
    assert [] == [text for text in live["warn"] if text.startswith("shop")]  # nothing wrong with what units wrote
    assert any("names " + os.readlink(ROOT / "current")[9:] in text for text in live["ok"])
    assert sh("sudo", "-u", "www-data", "test", "-w", ROOT / "shared/db.sqlite3", check=False).returncode == 0

    sh("systemctl", "disable", "-q", "shop.service")
    sh("systemctl", "stop", "shop-celery.service")
    broken = checked()
    assert "sudo systemctl enable shop.service" in broken["to_do"]
    assert "bb-release restart shop-celery.service" in broken["to_do"]


def another_app_of_another_owner() -> None:
    """The agent's units are there already, for the first app: they serve the second one too, as its own owner."""
    sh("useradd", "--create-home", "ann")
    sh("install", "-d", "-o", "ann", "-m", "755", "/srv/blog")
    config = Path("/etc/bb-release/blog.toml")
    text = Path("/etc/bb-release/shop.toml").read_text()
    config.write_text(text.replace("shop", "blog"))
    said = sh(AGENT, "units", "--install", "-a", "blog").stdout
    assert "as it was: /etc/systemd/system/bb-release@.service" in said
    for name, user in (("shop", "deploy"), ("blog", "ann")):
        for unit in (f"bb-release@{name}.service", f"bb-release-recover@{name}.service"):
            assert f"User={user}\n" == sh("systemctl", "show", unit, "--property=User").stdout
    config.unlink()  # from here on there is one app, and no option is needed
