"""What `check` finds in nginx's own files: a cache of paths, and links that are not followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bb_release.actions import check_site, units
from bb_release.model.app import App, Health
from bb_release.model.fact import Fact, Level
from bb_release.tools import nginx

ROOT = "/srv/shop"
APP = App("shop", "git@git.example.org:a/b.git", Path(ROOT), health=Health("http+unix:///run/shop/web.sock:/health/"))
SITE = "server {\n  listen 80;\n  location /static/ {\n    %s\n  }\n}\n"
Check = Callable[..., list[Fact]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """The findings for one site, included by a main file as Debian's does."""
    monkeypatch.setattr(nginx, "MAIN", tmp_path / "nginx.conf")
    (tmp_path / "conf.d").mkdir()

    def found(site: str, http: str = "") -> list[Fact]:
        (tmp_path / "conf.d/shop.conf").write_text(site)
        (tmp_path / "nginx.conf").write_text(
            f"events {{}}\nhttp {{\n  # {{ a comment;\n  {http}\n  include conf.d/*.conf;\n}}\n"
        )
        return list(check_site.static_files(APP))

    return found


@pytest.mark.parametrize("folder", [f"root {ROOT}/current;", f"alias {ROOT}/current/static/;", f'root "{ROOT}";'])
def test_a_cache_of_paths_is_found_wherever_it_is_set_and_off_ends_it(
    check: Check, tmp_path: Path, folder: str
) -> None:
    cache = "open_file_cache max=1000 inactive=20s;"
    for site, http, line in (
        (SITE % folder, cache, f"{tmp_path}/nginx.conf, line 4,"),
        (SITE % f"{cache} {folder}", "", f"{tmp_path}/conf.d/shop.conf, line 4,"),
    ):
        (fact,) = check(site, http)
        assert Level.WARN is fact.level
        assert f"{line} has open_file_cache max=1000 inactive=20s" in fact.text
        assert f"in location /static/ of {tmp_path}/conf.d/shop.conf, line 3: open_file_cache off;" == fact.do
    (fact,) = check(SITE % f"{folder} open_file_cache off;", cache)
    assert (Level.OK, True) == (fact.level, "at once" in fact.text)


def test_links_that_nginx_does_not_follow_stop_every_static_file(check: Check) -> None:
    (fact,) = check(SITE % f"root {ROOT}/current;", "disable_symlinks on from=/srv;")
    assert (Level.PROBLEM, True) == (fact.level, "disable_symlinks on from=/srv" in fact.text)
    assert [Level.OK] == [one.level for one in check(SITE % f"root {ROOT}/current;", "disable_symlinks off;")]


@pytest.mark.parametrize("folder", ["root /srv/shop-staging/current;", f"root {ROOT}/shared;", "return 204;"])
def test_what_serves_other_folders_is_no_concern(check: Check, folder: str) -> None:
    assert [] == check(SITE % folder, "open_file_cache max=1000;")


def test_the_site_that_we_write_has_no_finding_under_a_cache_for_all_sites(check: Check) -> None:
    who = units.People("deploy", "www-data", "www-data", "/opt/bb-release/bin/bb-release")
    (site,) = units.render(APP, who, systemd=False)
    (fact,) = check(site.content, "open_file_cache max=1000;")
    assert (Level.OK, True) == (fact.level, "at once" in fact.text)
    (fact,) = check(site.content.replace("open_file_cache off;", ""), "open_file_cache max=1000;")
    assert Level.WARN is fact.level


def test_without_nginx_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "MAIN", tmp_path / "nginx.conf")
    assert [] == list(check_site.static_files(APP))


def test_quotes_braces_and_comments_are_read_as_nginx_reads_them(tmp_path: Path) -> None:
    main = tmp_path / "nginx.conf"
    main.write_text(
        'log_format a \'$x { "y" }\'\n  \'# no comment\';\nmap $a $b { default "}"; "~^/a{2}" 1; }\nhttp {\n'
        'server { root "/srv/a b"; location ~ "\\.(js|css){1}$" { expires ${x}d; } }\n}\ninclude nowhere/*.conf;\n'
    )
    read = nginx.read(main)
    assert [("log_format", "a", '$x { "y" }', "# no comment"), ("map", "$a", "$b"), ("http",)] == [
        one.words for one in read
    ]
    assert ["/srv/a b", "/srv/a b"] == [way.folder for way in nginx.served(read)]
    assert 5 == next(nginx.served(read)).block.line
