"""How large the generated site is."""

from __future__ import annotations

from dataclasses import dataclass

DJANGO_MIGRATIONS = 18  # admin, auth, contenttypes and sessions of Django 5.2
# What comes from the real index; everything else is generated.
REAL_PACKAGES = {
    "Django": "5.2.19",
    "asgiref": "3.13.0",
    "gunicorn": "27.0.1",
    "packaging": "26.2",
    "sqlparse": "0.5.3",
    "whitenoise": "6.12.0",
}


@dataclass(frozen=True)
class Size:
    """Counts. `packages` includes the real ones, `migrations` those of Django, `files` the static ones."""

    name: str
    files: int  # tracked by git
    static_files: int
    packages: int
    package_files: int  # of the generated packages together
    migrations: int
    commits: int  # before the first revision that is deployed

    def problem(self) -> str:
        """Why no such site can be made; "" when it can."""
        if self.packages <= len(REAL_PACKAGES) or self.migrations <= DJANGO_MIGRATIONS:
            return f"at least {len(REAL_PACKAGES) + 1} packages and {DJANGO_MIGRATIONS + 1} migrations"
        if self.static_files < 10 or self.commits < 0 or self.package_files < self.own_packages:
            return "at least 10 static files, and a file for each generated package"
        return ""

    @property
    def own_packages(self) -> int:
        return self.packages - len(REAL_PACKAGES)

    @property
    def own_migrations(self) -> int:
        return self.migrations - DJANGO_MIGRATIONS


SIZES = {
    size.name: size
    for size in (
        Size("small", files=120, static_files=40, packages=12, package_files=120, migrations=24, commits=20),
        Size(
            "standard", files=1_475, static_files=800, packages=80, package_files=11_000, migrations=76, commits=5_000
        ),
        Size(
            "large",
            files=50_000,
            static_files=20_000,
            packages=300,
            package_files=45_000,
            migrations=1_000,
            commits=20_000,
        ),
    )
}
