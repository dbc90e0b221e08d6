#!/bin/sh
# Creates the virtual environment from requirements.lock: every package by its hash. Called by the Makefile.
# Usage: create_environment.sh <folder>     PYTHON=/path/to/python chooses the interpreter.
set -eu

venv=$1

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

chosen=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if supported "$candidate"; then
        chosen=$candidate
        break
    fi
done
if [ -z "$chosen" ]; then
    found=$("${PYTHON:-python3}" --version 2>&1 | head -n 1 || true)
    echo "Headrace needs Python 3.11, 3.12 or 3.13; found: ${found:-none}." >&2
    echo "Install one of them, or name it: make PYTHON=/path/to/python3.12 setup" >&2
    exit 1
fi

if ! "$chosen" -c 'import ensurepip' 2>/dev/null; then
    echo "$chosen has no module ensurepip, which creates environments. On Debian or Ubuntu: apt install python3-venv" >&2
    exit 1
fi

echo "Creating the environment in $venv with $("$chosen" --version). This is done once and takes about a minute ..."
"$chosen" -m venv --without-pip "$venv"
exec "$venv/bin/python" -m deploy.install_packages
