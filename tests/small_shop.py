"""A Django site as small as can be, in place of the example one: for tests of what is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from example_site import Site, bare_site

FILES = {
    "manage.py": (
        "import os, sys\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
        "from django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n"
    ),
    "shop/__init__.py": "",
    "shop/settings.py": (
        "import os\nSECRET_KEY = os.environ['SECRET_KEY']\nROOT_URLCONF = 'shop.urls'\nALLOWED_HOSTS = ['*']\n"
        "WSGI_APPLICATION = 'shop.wsgi.application'\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': os.environ['DATABASE_PATH']}}\n"
    ),
    "shop/urls.py": "urlpatterns = []\n",
    "shop/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
}


@contextmanager
def small_shop(cache: Path) -> Iterator[Site]:
    """The site without requirements yet, and without units: nothing but the build and the link."""
    with bare_site(cache) as site:
        site.git("rm", "-rqf", ".")
        for name, text in FILES.items():
            (site.repository / name).parent.mkdir(exist_ok=True)
            (site.repository / name).write_text(text)
        yield site


def everything_kept(site: Site) -> str:
    """Every text that bb-release has left below the root: logs, journal, manifests, generated files."""
    files = [path for path in site.root.rglob("*") if path.is_file() and not path.is_symlink()]
    kept = [path for path in files if "shared" not in path.parts and path.stat().st_size < 1_000_000]
    return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in kept)
