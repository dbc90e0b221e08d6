"""What the settings of a Postgres mean: its address, and the tables that are named. Nothing connects here."""

from __future__ import annotations

from urllib.parse import urlsplit

_SCHEMES = ("postgresql", "postgres")


def find_trouble(url: str) -> str:
    """What is wrong with an address of a Postgres, without the address, for it may hold a password; empty: nothing."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "must be an address such as postgresql://user:password@host:5432/database"
    if parts.scheme not in _SCHEMES:
        return "must begin with postgresql://"
    if not parts.path.strip("/"):
        return "must name a database, as postgresql://user:password@host/database"
    # By libpq, which reads it later; its words may repeat the password.
    import psycopg2
    from psycopg2.extensions import parse_dsn

    try:
        parse_dsn(url)
    except psycopg2.ProgrammingError:
        return "cannot be read by libpq: write signs such as @ : / ? # % in a password as %XX, and check the parameters"
    return ""


def split_tables(names: str) -> tuple[str, ...]:
    """The tables that are named with commas between, each once."""
    return tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
