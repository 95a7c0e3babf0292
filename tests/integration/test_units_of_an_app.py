"""The unit files and the nginx site as `units` writes them: what `systemd/` holds, and for other configurations."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bb_release.actions import unit_files, unit_scope
from bb_release.actions import units as subject
from bb_release.errors import AlreadyThere, ConfigurationInvalid, NotTheOwner, UnitsNotRestarted
from bb_release.model.app import App, Health, Unit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from example_site import NOBODY, agent, unprivileged
from programs import required

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
WHO = subject.People("deploy", "www-data", "www-data", "/opt/bb-release/bin/bb-release")
EXAMPLE = App(
    "broken_brackets", "git@git.example.org:a/b.git", Path("/srv/broken_brackets"),
    health=Health("http+unix:///run/broken_brackets/web.sock:/health/"),
    units=tuple(Unit(f"broken_brackets{end}.service") for end in ("", "-celery", "-beat")),
    env_file=Path("/srv/broken_brackets/shared/site.env"), application="broken_brackets.wsgi:application",
)  # fmt: skip
# the same site as units of the deploy user's own
HOME = Path("/home/deploy")
# and handed over blue-green
LINK = "/run/broken_brackets/active.sock"
TWICE = replace(
    EXAMPLE, health=Health(f"http+unix://{LINK}:/health/"), units=(
        Unit("broken_brackets@.service", handover="blue-green", socket=LINK),
        Unit("broken_brackets-celery@.service", handover="blue-green"), Unit("broken_brackets-beat.service"),
    ),
)  # fmt: skip
OWN = replace(
    EXAMPLE, root=HOME / "broken_brackets", units=tuple(replace(unit, user=True) for unit in EXAMPLE.units),
    env_file=HOME / "broken_brackets/shared/site.env", health=Health("http://127.0.0.1:8000/health/"),
)  # fmt: skip


def rendered(app: App, **more: object) -> dict[str, str]:
    return {file.path.name: file.content for file in subject.render(app, WHO, **more)}  # type: ignore[arg-type]


def test_what_lies_in_systemd_is_what_units_writes_for_the_example_and_the_systemd_tests_run() -> None:
    ours = {path.name: path.read_text() for path in SYSTEMD.iterdir() if path.is_file() and path.name != "README.md"}
    program = ours["bb-release@.service"].partition("\nExecStart=")[2].partition(" ")[0]  # ours to choose
    by_sudo, by_polkit = (subject.render(EXAMPLE, replace(WHO, program=program, by_sudo=way)) for way in (True, False))
    assert ours == {file.path.name: file.content for file in (*by_sudo, *by_polkit)}
    assert ["bb-release-broken_brackets"] == [file.path.name for file in by_sudo if file not in by_polkit]

    theirs = {path.name: path.read_text() for path in (SYSTEMD / "user").iterdir()}
    who = replace(WHO, program=program)
    assert theirs == {file.path.name: file.content for file in subject.render(OWN, who, nginx=False)}

    twice = {path.name: path.read_text() for path in (SYSTEMD / "blue-green").iterdir()}
    files = {file.path.name: file.content for file in subject.render(TWICE, who, nginx=False)}
    assert twice == {name: content for name, content in files.items() if name not in ours or ours[name] != content}


# one reason may be that of several lines, each below the other
TOGETHER = (
    {"After", "Wants", "Requires"}, {"StartLimitIntervalSec", "StartLimitBurst"}, {"Type", "NotifyAccess"},
    {"User", "Group"}, {"SocketUser", "SocketGroup"}, {"RuntimeDirectory", "StateDirectory"}, {"KillMode", "KillSignal"},
    {"Restart", "RestartSec"}, {"RandomizedDelaySec", "AccuracySec"}, {"proxy_http_version", "proxy_set_header"},
    {"root", "open_file_cache"},
)  # fmt: skip


def without_reason(text: str) -> list[str]:
    """The lines of a unit, or of an nginx site, with no comment above them, nor above one that shares it."""
    found, last, explained = [], "", False
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("#"):
            explained = True
        elif not line or line == "}":
            explained, last = False, ""
        elif not line.startswith("[") and not line.endswith("{"):  # the comment above these is that of the first line
            name = line.replace("=", " ").split()[0]
            shared = name == last or any({name, last} <= group for group in TOGETHER)
            found += [] if explained or shared else [line]
            explained, last = False, name
    return found


def test_each_line_of_what_units_writes_has_its_reason_above_it() -> None:
    whole = {"environment": (("A", "1"),), "settings": "shop.settings", "shared_folders": ("media",)}
    for app in (EXAMPLE, OWN, TWICE, replace(TWICE, units=BLUE_GREEN.units, root=HOME), replace(EXAMPLE, **whole)):
        for file in subject.render(app, WHO):
            if file.path.parent not in (Path("/etc/sudoers.d"), Path("/etc/polkit-1/rules.d")):  # they have their own
                assert [] == without_reason(file.content), file.path.name
    bare = "# why\n[Unit]\nDescription=x\n\n[Service]\nType=notify\nUser=a\n# why\nGroup=b\nKillMode=mixed\n"
    assert ["Type=notify", "User=a", "KillMode=mixed"] == without_reason(bare)


def test_a_worker_has_as_long_for_its_tasks_as_the_configuration_gives_it_to_stop() -> None:
    for seconds, expected in ((Unit.stop_seconds, "600"), (3600.0, "3600"), (45.5, "45.5"), (1e6, "1000000")):
        app = replace(EXAMPLE, units=(Unit("shop-celery.service", stop_seconds=seconds, celery="conf.tasks"),))
        lines = rendered(app, nginx=False)["shop-celery.service"].splitlines()
        assert f"TimeoutStopSec={expected}" in lines
        assert any(line.startswith("ExecStart=") and " -A conf.tasks worker " in line for line in lines)
    beat = replace(EXAMPLE, units=(*app.units, Unit("shop-beat.service")))
    assert " -A conf.tasks beat " in rendered(beat, nginx=False)["shop-beat.service"]


def test_another_app_has_its_own_names_and_the_environment_that_manage_py_gets() -> None:
    app = replace(
        EXAMPLE, name="shop", root=Path("/srv/shop"), subfolder="site", env_file=None, settings="shop.production",
        environment=(("GREETING", 'a "50%" \\'),), application="shop.asgi:application",
        units=(Unit("shop-web.service"), Unit("shop-worker"), Unit("nginx.service", runs_release=False)),
        health=Health("http://127.0.0.1/"),
    )  # fmt: skip
    files = rendered(app, nginx=False)
    web, worker = files["shop-web.service"], files["shop-worker.service"]

    ours = {"shop-web.service", "shop-web.socket", "shop-worker.service", "bb-release-shop"}
    assert ours == {name for name in files if "@" not in name}
    assert "broken_brackets" not in "".join(files.values())
    assert "WorkingDirectory=/srv/shop/current/app/site\n" in web
    assert 'Environment="GREETING=a \\"50%%\\" \\\\"\nEnvironment="DJANGO_SETTINGS_MODULE=shop.production"\n' in web
    assert "--worker-class uvicorn_worker.UvicornWorker --workers 2 --graceful-timeout 30 shop.asgi:application" in web
    assert "celery -A shop worker" in worker
    assert "the site's own settings and secrets" not in web
    assert "ListenStream=/run/shop-web/web.sock" in files["shop-web.socket"]


@pytest.mark.parametrize(("app", "unit", "expected"), [
    ("shop", "shop.service", "web"), ("shop", "shop@.service", "web"), ("shop", "shop-web", "web"),
    ("shop", "shop-celery.service", "celery"), ("shop", "shop_worker@.service", "celery"),
    ("shop", "celeryd.service", "celery"), ("shop", "shop-worker2.service", "celery"), ("shop", "celery:*", "celery"),
    ("shop", "shop-beat.service", "beat"), ("shop", "shop.beat", "beat"), ("shop", "celerybeat.service", "beat"),
    ("shop", "shop-celery-beat.service", "beat"),
    # parts of words
    ("shop", "upbeat.service", "web"), ("shop", "heartbeat@.service", "web"), ("shop", "coworker.service", "web"),
    ("shop", "networker-web.service", "web"), ("shop", "shop-networker.service", "web"),
    # the app's own name
    ("beat", "beat.service", "web"), ("beat", "beat-celery.service", "celery"), ("beat", "beat-beat.service", "beat"),
    ("celery-shop", "celery-shop@.service", "web"), ("celery", "celery-worker.service", "celery"),
    ("shop", "shopbeat.service", "web"), ("shop", "shopping-beat.service", "beat"),
])  # fmt: skip
def test_what_a_unit_is_is_told_by_whole_words_of_its_name_and_never_by_those_of_the_app(
    app: str, unit: str, expected: str
) -> None:
    named = replace(EXAMPLE, name=app)
    assert expected == subject.role(named, Unit(unit))


def test_a_unit_that_the_configuration_calls_a_worker_is_one() -> None:
    assert "celery" == subject.role(EXAMPLE, Unit("broken_brackets-tasks.service", celery="broken_brackets"))


def test_where_a_unit_has_the_environment_the_others_are_told_to_have_it_too() -> None:
    files = rendered(replace(EXAMPLE, env_file=None, environment="unit:web.service"), nginx=False)
    note = "# what web.service has as Environment= and EnvironmentFile= belongs here\n"
    assert [1] * 3 == [files[f"broken_brackets{end}.service"].count(note) for end in ("", "-celery", "-beat")]


def test_a_blue_green_site_has_templates_of_its_slots_and_a_unit_that_starts_the_right_one_at_boot() -> None:
    pair = (
        Unit("shop@.service", handover="blue-green", socket="/run/shop/active.sock"),
        Unit("shop-celery@.service", handover="blue-green"), Unit("shop-beat.service"),
    )  # fmt: skip
    files = rendered(replace(EXAMPLE, name="shop", root=Path("/srv/shop"), units=pair))
    web, boot = files["shop@.service"], files["shop-boot.service"]

    ours = {"shop@.service", "shop-celery@.service", "shop-beat.service", "shop-boot.service", "shop.conf"}
    assert ours == {name for name in files if "bb-release" not in name}
    assert "WorkingDirectory=/srv/shop/slots/%i/app\n" in web
    assert "ExecStart=/srv/shop/slots/%i/venv/bin/gunicorn " in web
    assert " --bind unix:/run/shop/%i.sock " in web
    assert "current" not in web
    assert "--hostname %i@%%h" in files["shop-celery@.service"]
    assert "[ /srv/shop/slots/$$colour -ef /srv/shop/current ]" in boot
    assert "ln -sfn $$colour.sock /run/shop/active.sock; systemctl start --no-block" in boot
    assert "shop@$$colour.service shop-celery@$$colour.service; exit" in boot
    assert "server unix:/run/shop/active.sock fail_timeout=0;" in files["shop.conf"]
    lines = unit_files.enable_commands(EXAMPLE, subject.render(replace(EXAMPLE, units=pair), WHO))
    assert "systemd-tmpfiles --create /etc/tmpfiles.d/broken_brackets.conf" in lines
    assert any(line.endswith("broken_brackets-boot.service") for line in lines)


def test_the_agents_own_units_are_one_for_all_apps_and_another_owner_has_a_drop_in(tmp_path: Path) -> None:
    shop = replace(EXAMPLE, name="shop", root=Path("/srv/shop"), units=())
    first, second = rendered(EXAMPLE, nginx=False), rendered(shop, nginx=False)
    own = [name for _, name in subject.AGENT_UNITS]
    assert [first[name] for name in own] == [second[name] for name in own]
    assert "User=deploy\n" in first["bb-release@.service"]

    files = subject.render(shop, replace(WHO, deploy_user="ann"), nginx=False, folder=tmp_path)
    assert [second[name] for name in own] == [file.content for file in files if file.path.name in own]
    assert [
        (f"bb-release{end}@shop.service.d/owner.conf", "# the owner of /srv/shop\n[Service]\nUser=ann\n")
        for end in ("", "-recover")
    ] == [(str(file.path.relative_to(tmp_path)), file.content) for file in files if file.path.name not in own]


# the right to restart them


def test_the_deploy_user_may_change_exactly_the_units_and_each_line_has_its_reason() -> None:
    units = (*EXAMPLE.units[:1], Unit("nginx.service", runs_release=False), Unit("u-celery", user=True),
             Unit("web", kind="supervisor", socket="/s"), Unit("shop@.service", handover="blue-green"))  # fmt: skip
    (file,) = [f for f in subject.render(replace(EXAMPLE, units=units), WHO) if f.path.parts[2] == "sudoers.d"]
    assert ("/etc/sudoers.d/bb-release-broken_brackets", 0o440) == (str(file.path), file.mode)
    lines = [line for line in file.content.splitlines() if not line.startswith("#")]
    allowed = [word.removeprefix("/usr/bin/systemctl ") for line in lines for word in line.split(": ")[1].split(", ")]
    both = ("broken_brackets.service", "shop@blue.service", "shop@green.service")
    assert sorted(allowed) == sorted([
        *(f"{verb} {unit}" for unit in both for verb in ("start", "restart", "reset-failed")),
        "stop shop@blue.service", "stop shop@green.service", "reload nginx.service",
        "start broken_brackets.socket", "reset-failed broken_brackets.socket",
    ])  # fmt: skip
    assert [f"# {line.split()[-1]}: " for line in lines] == [
        line.partition(": ")[0] + ": " for line in file.content.splitlines()[2:] if line.startswith("#")
    ]


def test_root_and_a_site_without_units_of_the_system_need_no_right() -> None:
    for app, who in ((EXAMPLE, replace(WHO, deploy_user="root")), (replace(EXAMPLE, units=()), WHO)):
        assert [] == [file for file in subject.render(app, who) if file.path.parts[2] in ("sudoers.d", "polkit-1")]


def test_visudo_takes_what_is_written_and_a_mistake_is_written_nowhere(tmp_path: Path) -> None:
    required("visudo", "sudo", "REQUIRE_SUDO")
    units = (*EXAMPLE.units, Unit("nginx.service", runs_release=False), Unit("shop@.service", handover="blue-green"))
    for user in ("deploy", "a.b-c_d"):
        who = replace(WHO, deploy_user=user)
        (file,) = [f for f in subject.render(replace(EXAMPLE, units=units), who) if f.mode == 0o440]
        unit_files.systemctl.check_sudoers(file.content)
    broken = subject.File(tmp_path / "bb-release-x", "deploy ALL=(root NOPASSWD: ALL\n", 0o440)
    with pytest.raises(ConfigurationInvalid, match="visudo does not take"):
        unit_files.systemctl.check_sudoers(broken.content)
    if os.geteuid() == 0:
        with pytest.raises(ConfigurationInvalid, match="visudo does not take"):
            unit_files.install([subject.File(tmp_path / "a.conf", "x\n"), broken])
        assert [] == os.listdir(tmp_path)


def test_units_of_other_managers_are_left_alone() -> None:
    app = replace(EXAMPLE, units=(Unit("web", kind="supervisor", socket="/s"), Unit("u", kind="command")))
    assert {"bb-release@.service", "bb-release@.timer", "bb-release-recover@.service"} == set(
        rendered(app, nginx=False)
    )


def test_without_an_application_and_with_nothing_live_the_remedy_is_the_line_to_add() -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        rendered(replace(EXAMPLE, application=""))
    assert 'application = "broken_brackets.wsgi:application"' in caught.value.remedy


@pytest.mark.parametrize("root", ["/srv/a b", "/srv/a;b", '/srv/a"b', "/srv/50%", "/srv/a\nUser=root"])
def test_a_value_that_would_mean_something_to_systemd_or_nginx_is_refused(root: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be written"):
        rendered(replace(EXAMPLE, root=Path(root)))


def test_the_nginx_site_serves_static_files_of_the_live_release_and_media() -> None:
    site = rendered(replace(EXAMPLE, shared_folders=("media", "data")), systemd=False)["broken_brackets.conf"]
    assert "server unix:/run/broken_brackets/web.sock fail_timeout=0;" in site
    assert "root /srv/broken_brackets/current;" in site
    assert (
        "    # uploads outlive releases\n    location /media/ {\n        root /srv/broken_brackets/shared;\n    }\n"
        in site
    )
    assert "/data/" not in site
    assert "proxy_set_header Host $host;" in site


def test_nginx_itself_takes_the_site(tmp_path: Path) -> None:
    nginx = os.environ.get("NGINX") or shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if not nginx:
        assert not os.environ.get("REQUIRE_NGINX"), "nginx is not installed"
        pytest.skip("skipped: nginx is not installed")
    site = rendered(replace(EXAMPLE, shared_folders=("media",)), systemd=False)["broken_brackets.conf"]
    assert 2 == site.count("    listen ")
    here = site.replace("listen 80;", f"listen unix:{tmp_path}/s;").replace("    listen [::]:80;\n", "")
    (tmp_path / "site.conf").write_text(here)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\ninclude {tmp_path}/site.conf;\n}}\n"
    )

    def tried() -> subprocess.CompletedProcess[str]:
        argv = [nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
        return subprocess.run(argv, capture_output=True, text=True)

    done = tried()
    assert 0 == done.returncode, done.stderr
    (tmp_path / "site.conf").write_text(here.replace("proxy_pass http://broken_brackets;", "proxy_pas x;"))
    assert 0 != tried().returncode


def test_installing_writes_what_is_missing_and_nothing_when_a_file_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [file for file in subject.render(EXAMPLE, WHO, folder=tmp_path) if file.path.is_relative_to(tmp_path)]
    if os.geteuid() != 0:
        with pytest.raises(NotTheOwner):
            unit_files.install(files)
        pytest.skip("skipped: writing units is root's")
    monkeypatch.setattr(unit_files.systemctl, "SYSTEMCTL", "/bin/true")  # there may be no systemd to tell
    (tmp_path / "broken_brackets.service").write_text("[Service]\nUser=root\n")

    with pytest.raises(AlreadyThere) as caught:
        unit_files.install(files)
    assert "-User=root" in caught.value.details
    assert "+User=www-data" in caught.value.details
    assert ["broken_brackets.service"] == os.listdir(tmp_path)

    (tmp_path / "broken_brackets.service").unlink()
    assert [file.path for file in files] == unit_files.install(files)
    assert [] == unit_files.install(files)
    assert {0o644} == {path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()}
    monkeypatch.setattr(unit_files.systemctl, "SYSTEMCTL", "/bin/false")
    files[0].path.unlink()
    with pytest.raises(UnitsNotRestarted, match="the files are written"):
        unit_files.install(files)


# units of the deploy user's own


PAIR = (
    Unit("broken_brackets@.service", user=True, handover="blue-green", socket="/run/user/1000/bb/active.sock"),
    Unit("broken_brackets-celery@.service", user=True, handover="blue-green"),
)
BLUE_GREEN = replace(OWN, units=PAIR, health=Health("http+unix:///run/user/1000/bb/active.sock:/health/"))


def test_units_of_a_user_have_no_line_that_only_the_systems_can_do_and_lie_where_that_user_has_them() -> None:
    for app in (OWN, BLUE_GREEN):
        files = subject.render(app, WHO, nginx=False)
        assert {(unit_scope.own_folder("deploy"), "deploy", 0o644)} == {(f.path.parent, f.owner, f.mode) for f in files}
        text = "".join(file.content for file in files)
        for name in ("User", "Group", "SocketUser", "SocketGroup", "SocketMode", "ReadOnlyPaths"):
            assert f"\n{name}=" not in text
        for name in ("network", "multi-user.target", "$", "@user", "@system", "sudo", "systemd as root"):
            assert name not in text.replace("$$colour", "").replace("neither sudo nor polkit", "")
    names = {"broken_brackets@.service", "broken_brackets-celery@.service", "broken_brackets-boot.service"}
    assert names | {name for _, name in subject.AGENT_UNITS} == {file.path.name for file in files}
    commands = "\n".join(unit_files.enable_commands(OWN, files))
    assert "systemctl --user enable --now broken_brackets-boot.service" in commands  # it makes the folder for the first
    assert "tmpfiles" not in commands


def test_sockets_of_a_user_lie_below_its_own_runtime_folder_or_on_loopback() -> None:
    def listens(app: App) -> str:
        return rendered(app)["broken_brackets.socket"].partition("\nListenStream=")[2].partition("\n")[0]

    for url, place in (
        ("", "%t/broken_brackets/web.sock"), ("http://127.0.0.1/health/", "%t/broken_brackets/web.sock"),
        ("https://example.org:8443/", "%t/broken_brackets/web.sock"), ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
        ("http://localhost:8000/", "127.0.0.1:8000"), ("http://127.0.0.1:80/", "%t/broken_brackets/web.sock"),
        ("http+unix:///run/user/1000/bb/web.sock:/health/", "%t/bb/web.sock"),
        ("http+unix:///home/deploy/bb/web.sock:/health/", "/home/deploy/bb/web.sock"),
    ):  # fmt: skip
        assert place == listens(replace(OWN, health=Health(url) if url else None)), url
    site = rendered(OWN)["broken_brackets.conf"]
    assert "server 127.0.0.1:8000 fail_timeout=0;" in site
    site = rendered(replace(OWN, health=None))["broken_brackets.conf"]
    runtime = unit_scope.runtime_folder("deploy")
    assert f"server unix:{runtime}/broken_brackets/web.sock fail_timeout=0;" in site
    pair = rendered(BLUE_GREEN)
    assert " --bind unix:%t/bb/%i.sock " in pair["broken_brackets@.service"]
    assert "ExecStartPre=/bin/mkdir -p %t/bb\n" in pair["broken_brackets-boot.service"]
    assert "; ln -sfn $$colour.sock %t/bb/active.sock; systemctl --user start" in pair[
        "broken_brackets-boot.service"
    ].replace("then ln", "; ln")
    for app in (replace(OWN, health=EXAMPLE.health), replace(BLUE_GREEN, units=(replace(PAIR[0], socket="/run/a/b"),))):
        with pytest.raises(ConfigurationInvalid, match="which is root's"):
            rendered(app)


def test_where_only_some_units_are_the_users_own_each_is_written_for_its_systemd_and_the_agents_for_the_systems() -> (
    None
):
    web, celery, beat = EXAMPLE.units
    files = subject.render(replace(EXAMPLE, units=(web, replace(celery, user=True), beat)), WHO, nginx=False)
    assert ["broken_brackets-celery.service"] == [file.path.name for file in files if file.owner == "deploy"]
    assert "WantedBy=default.target" in next(file.content for file in files if file.owner == "deploy")
    system = {file.path.name for file in files if file.owner == "root"}
    assert {"broken_brackets.socket", "bb-release@.timer", "bb-release-broken_brackets"} <= system
    assert "User=www-data" in next(file.content for file in files if file.path.name == "broken_brackets-beat.service")


@pytest.mark.parametrize("app", [EXAMPLE, TWICE, OWN, BLUE_GREEN], ids=["socket", "blue-green", "user", "user-twice"])
def test_systemd_takes_every_unit_that_is_written_of_the_system_and_of_a_user(app: App, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze", path="/usr/bin:/bin")
    if not analyze:
        assert not os.environ.get("REQUIRE_SYSTEMD"), "systemd-analyze is not installed"
        pytest.skip("skipped: systemd-analyze is not installed")
    app = replace(app, root=tmp_path, env_file=tmp_path / "site.env")
    program = shutil.which("true")
    for folder in ("current", "slots/blue"):
        (tmp_path / folder / "venv/bin").mkdir(parents=True)
        for name in ("gunicorn", "celery"):
            (tmp_path / folder / "venv/bin" / name).symlink_to(program or "")
    scope = "user" if unit_scope.are_own(app) else "system"
    place = tmp_path / "config/systemd" / scope
    place.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    for file in subject.render(app, replace(WHO, program=program or ""), nginx=False):
        if file.path.suffix in (".service", ".socket", ".timer"):
            (place / file.path.name).write_text(file.content)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"),
           "XDG_RUNTIME_DIR": str(tmp_path / "run")}  # fmt: skip

    def said(path: Path) -> tuple[int, str]:
        argv = [analyze, f"--{scope}", "--man=no", "verify", str(path).replace("@.", "@blue.")]
        done = subprocess.run(argv, capture_output=True, text=True, env=env)
        return done.returncode, done.stderr + done.stdout

    assert len(app.units) + len(subject.AGENT_UNITS) + 1 == len(list(place.iterdir()))  # a socket, or the boot unit
    for path in sorted(place.iterdir()):
        assert (0, "") == said(path)
    path = next(place.glob("broken_brackets*.service"))
    path.write_text(path.read_text().replace("[Service]", "[Service]\nNoSuchThing=1"))
    assert "'NoSuchThing'" in said(path)[1]


def test_the_user_installs_its_own_units_and_root_does_not() -> None:
    with running_folder() as (folder, program):
        config = folder / "shop.toml"
        config.write_text(
            f'repository = "https://git.example.org/a/b.git"\nroot = "{folder}/shop"\napplication = "shop.wsgi:app"\n'
            '[health]\nurl = "http://127.0.0.1:8000/health/"\n'
            '[[units]]\nname = "shop.service"\nuser = true\n'
        )
        (folder / "shop").mkdir()
        place = folder / "config/systemd/user"
        if os.geteuid() == 0:
            subprocess.run(["chown", str(NOBODY), folder, folder / "shop"], check=True)
            refused = install(program, config, {})
            assert 2 == refused.returncode, refused.stdout
            assert "error: not-the-owner" in refused.stderr
            assert f"sudo -u {pwd.getpwuid(NOBODY).pw_name} bb-release" in refused.stderr
            assert not place.exists()

        done = install(program, config, unprivileged())

        assert 0 == done.returncode, done.stderr
        ours = {"shop.service", "shop.socket", *(name for _, name in subject.AGENT_UNITS)}
        assert ours == set(os.listdir(place))
        assert {0o644} == {path.stat().st_mode & 0o777 for path in place.iterdir()}
        assert 0o700 == place.parent.stat().st_mode & 0o777
        for line in (
            "sudo loginctl enable-linger", "systemctl --user enable --now shop.socket",
            "systemctl --user enable shop.service", "systemctl --user enable bb-release-recover@shop.service",
            "systemctl --user enable --now bb-release@shop.timer",
        ):  # fmt: skip
            assert line in done.stdout
        for closed in ("/proc/1/x", str(config)):
            refused = install(program, config, unprivileged(), closed)
            assert "error: preflight-failed" in refused.stderr, refused.stderr
        # a second time there is nothing to write, and what differs is not overwritten
        assert "wrote:" not in install(program, config, unprivileged()).stdout
        (place / "shop.socket").write_text("[Socket]\nListenStream=1\n")
        (place / "shop.service").unlink()
        refused = install(program, config, unprivileged())
        assert "error: already-there" in refused.stderr
        assert not (place / "shop.service").exists()


@contextmanager
def running_folder() -> Iterator[tuple[Path, Path]]:
    """A folder that the unprivileged user may reach, and the agent that it may run."""
    folder = Path(tempfile.mkdtemp(prefix="bb-"))
    folder.chmod(0o755)
    try:
        yield folder, agent()
    finally:
        shutil.rmtree(folder)


def install(program: Path, config: Path, who: dict[str, object], folder: str = "") -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": folder or str(config.parent / "config")}
    argv = [program, "--config", config, "units", "--install", "--systemd"]  # nothing in the machine's own /etc
    return subprocess.run(argv, cwd="/", env=env, capture_output=True, text=True, **who)  # type: ignore[call-overload, no-any-return]


def test_the_commands_to_type_name_every_unit() -> None:
    lines = "\n".join(unit_files.enable_commands(EXAMPLE, subject.render(EXAMPLE, WHO)))
    assert "systemctl enable --now broken_brackets.socket" in lines
    assert (
        "systemctl enable broken_brackets.service broken_brackets-celery.service broken_brackets-beat.service" in lines
    )
    assert "systemctl enable bb-release-recover@broken_brackets.service" in lines
