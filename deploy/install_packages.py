"""Installs the packages of requirements.lock into the environment whose Python runs this, each by its hash.

    .venv/bin/python -m deploy.install_packages        from the project's root; called by create_environment.sh

Python's own pip installs uv, and uv the rest, in a fraction of pip's time. Imports nothing but the standard library:
there is nothing else yet.
"""

from __future__ import annotations

import ast
import ensurepip
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

_LOCK = Path("requirements.lock")
_UV = Path(sys.executable).with_name("uv")

# uv does not read pip's settings. A machine whose packages come from an index of its own has them there, or in PIP_*.
_UV_SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "no-index": "UV_NO_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}

# What a start imports, less parts that take long and are imported by nobody. Everything takes three times as long.
_COMPILED = (
    "alembic", "anyio", "click", "confluent_kafka", "dagster", "dagster_graphql", "dagster_pyspark", "dagster_shared",
    "dagster_webserver", "deltalake", "google", "gql", "graphene", "graphql", "grpc", "mako", "msgspec", "numpy",
    "psutil", "py4j", "pyarrow", "pydantic", "pydantic_settings", "pyspark", "requests", "rich", "sqlalchemy",
    "starlette", "structlog", "urllib3", "uvicorn", "yaml",
)  # fmt: skip
_NOT_COMPILED = r"(^|/)(tests?|testing|pyspark/(pandas|ml|mllib|sql/connect)|dialects/(oracle|mssql|mysql)|numpy/f2py)/"
_OURS = ("jobs", "platform_assets", "resources")


def main() -> None:
    """Installs, saying each step and its seconds. Exits with a message that names the step which failed."""
    pip = [sys.executable, str(_find_pip())]
    settings = subprocess.Popen([*pip, "config", "list"], stdout=subprocess.PIPE, text=True)
    _run("uv, which installs the others", [*pip, "install", "--quiet", "--no-deps", "--no-compile",
         "--disable-pip-version-check", "--require-hashes", "--requirement"], select_requirements("uv"))  # fmt: skip
    environment = {**uv_settings(settings.communicate()[0]), **os.environ}
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    options = ["--python", sys.executable, "--require-hashes", "--no-build-isolation", *quiet]
    # pyspark comes as source. What builds it is locked like everything else, hence there before it and not isolated.
    _run("setuptools, which builds pyspark", [str(_UV), "pip", "install", "--no-deps", *options, "--requirement"],
         select_requirements("setuptools"), environment)  # fmt: skip
    _run("the packages of requirements.lock", [str(_UV), "pip", "sync", *options], _LOCK.read_text(), environment)
    _compile()


def _compile() -> None:
    """Compiles what the platform's processes import.

    Else each of the dozen processes of a first start does so for itself, two seconds of a core for Dagster alone, and
    each of all starts where PYTHONDONTWRITEBYTECODE is set, as it is in many images.
    """
    started = time.monotonic()
    command = [sys.executable, "-m", "compileall", "-q", "-j", "0", "-x", _NOT_COMPILED]
    for folder, names in ((sysconfig.get_path("purelib"), _COMPILED), (None, _OURS)):
        subprocess.run([*command, *names], cwd=folder, check=False)  # without it everything works, and starts slowly
    _say("compiling what a start imports", started)


def select_requirements(name: str) -> str:
    """The lines of requirements.lock that pin one package, with its hashes."""
    entries = re.split(r"\n(?=\S)", _LOCK.read_text())
    return next(entry for entry in entries if entry.startswith(f"{name}==")) + "\n"


def uv_settings(listing: str) -> dict[str, str]:
    """What `pip config list` printed, as the environment variables by which uv is told the same.

    Of one setting pip takes that of the environment before that of `[install]` before that of `[global]`.
    """
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listing.splitlines():
            key, _, value = line.partition("=")
            name = key.removeprefix(f"{section}.")
            if name != key and name in _UV_SETTINGS:
                separator = "," if name == "find-links" else " "
                found[_UV_SETTINGS[name]] = separator.join(str(ast.literal_eval(value)).split())
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # as pip does; the hash decides what a right file is
    return found


def _run(what: str, command: list[str], requirements: str, environment: dict[str, str] | None = None) -> None:
    started = time.monotonic()
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="headrace-") as file:
        file.write(requirements)
        file.flush()
        result = subprocess.run([*command, file.name], env=environment, check=False)
    if result.returncode != 0:
        sys.exit(
            f"\nCould not install {what}; the lines above say why. The packages come from the index in pip's settings "
            "(`pip config list`, PIP_INDEX_URL), or from pip's default one: can this machine reach it? Then run make "
            "again."
        )
    _say(what, started)


def _say(what: str, started: float) -> None:
    print(f"  {time.monotonic() - started:4.0f} s  {what}", flush=True)


def _find_pip() -> Path:
    """The pip that comes with Python, to be run as it is: installing it first takes ten seconds."""
    folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
    wheels = sorted(Path(folder).glob("pip-*.whl"))
    if not wheels:
        sys.exit(f"No pip in {folder}, which creates environments. On Debian or Ubuntu: apt install python3-venv")
    return wheels[-1] / "pip"


if __name__ == "__main__":
    main()
