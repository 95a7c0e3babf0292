"""The unit files and the nginx site as `units` writes them: what `systemd/` holds, and for other configurations."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bb_release.actions import units as subject
from bb_release.errors import AlreadyThere, ConfigurationInvalid, NotTheOwner, UnitsNotRestarted
from bb_release.model.app import App, Health, Unit

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
WHO = subject.People("deploy", "www-data", "www-data", "/opt/bb-release/bin/bb-release")
EXAMPLE = App(
    "broken_brackets", "git@git.example.org:a/b.git", Path("/srv/broken_brackets"),
    health=Health("http+unix:///run/broken_brackets/web.sock:/health/"),
    units=tuple(Unit(f"broken_brackets{end}.service") for end in ("", "-celery", "-beat")),
    env_file=Path("/srv/broken_brackets/shared/site.env"), application="broken_brackets.wsgi:application",
)  # fmt: skip


def rendered(app: App, **more: object) -> dict[str, str]:
    return {file.path.name: file.content for file in subject.render(app, WHO, **more)}  # type: ignore[arg-type]


def test_what_lies_in_systemd_is_what_units_writes_for_the_example_and_the_systemd_tests_run() -> None:
    ours = {path.name: path.read_text() for path in SYSTEMD.iterdir() if path.is_file() and path.name != "README.md"}
    program = ours["bb-release@.service"].partition("\nExecStart=")[2].partition(" ")[0]  # ours to choose
    by_sudo, by_polkit = (subject.render(EXAMPLE, replace(WHO, program=program, by_sudo=way)) for way in (True, False))
    assert ours == {file.path.name: file.content for file in (*by_sudo, *by_polkit)}
    assert ["bb-release-broken_brackets"] == [file.path.name for file in by_sudo if file not in by_polkit]


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
    lines = subject.enable_commands(EXAMPLE, subject.render(replace(EXAMPLE, units=pair), WHO))
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
    units = (*EXAMPLE.units[:1], Unit("nginx.service", runs_release=False), Unit("u.service", user=True),
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
    if not shutil.which("visudo", path="/usr/sbin:/usr/bin"):
        assert not os.environ.get("REQUIRE_SUDO"), "sudo is not installed"
        pytest.skip("skipped: sudo is not installed")
    units = (*EXAMPLE.units, Unit("nginx.service", runs_release=False), Unit("shop@.service", handover="blue-green"))
    for user in ("deploy", "a.b-c_d"):
        who = replace(WHO, deploy_user=user)
        (file,) = [f for f in subject.render(replace(EXAMPLE, units=units), who) if f.mode == 0o440]
        subject.systemctl.check_sudoers(file.content)
    broken = subject.File(tmp_path / "bb-release-x", "deploy ALL=(root NOPASSWD: ALL\n", 0o440)
    with pytest.raises(ConfigurationInvalid, match="visudo does not take"):
        subject.systemctl.check_sudoers(broken.content)
    if os.geteuid() == 0:
        with pytest.raises(ConfigurationInvalid, match="visudo does not take"):
            subject.install([broken])
        assert [] == os.listdir(tmp_path)


def test_units_of_other_managers_are_left_alone() -> None:
    app = replace(EXAMPLE, units=(Unit("web", kind="supervisor", socket="/s"), Unit("u.service", user=True)))
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
    assert "    location /media/ {\n        root /srv/broken_brackets/shared;\n    }\n" in site
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
            subject.install(files)
        pytest.skip("skipped: writing units is root's")
    monkeypatch.setattr(subject.systemctl, "SYSTEMCTL", "/bin/true")  # there may be no systemd to tell
    (tmp_path / "broken_brackets.service").write_text("[Service]\nUser=root\n")

    with pytest.raises(AlreadyThere) as caught:
        subject.install(files)
    assert "-User=root" in caught.value.details
    assert "+User=www-data" in caught.value.details
    assert ["broken_brackets.service"] == os.listdir(tmp_path)

    (tmp_path / "broken_brackets.service").unlink()
    assert [file.path for file in files] == subject.install(files)
    assert [] == subject.install(files)
    assert {0o644} == {path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()}
    monkeypatch.setattr(subject.systemctl, "SYSTEMCTL", "/bin/false")
    files[0].path.unlink()
    with pytest.raises(UnitsNotRestarted, match="the files are written"):
        subject.install(files)


def test_the_commands_to_type_name_every_unit() -> None:
    lines = "\n".join(subject.enable_commands(EXAMPLE, subject.render(EXAMPLE, WHO)))
    assert "systemctl enable --now broken_brackets.socket" in lines
    assert (
        "systemctl enable broken_brackets.service broken_brackets-celery.service broken_brackets-beat.service" in lines
    )
    assert "systemctl enable bb-release-recover@broken_brackets.service" in lines
