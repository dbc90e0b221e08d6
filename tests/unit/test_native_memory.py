"""Allocators of native libraries are told what to keep before the libraries are loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from resources.native_memory import NATIVE_MEMORY

pytestmark = pytest.mark.unit

_PROGRAM = """
from resources.native_memory import bound_native_memory
bound_native_memory()
import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""


@pytest.mark.parametrize(("own", "backend"), [({}, "system"), ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, "mimalloc")])
def test_arrow_takes_the_allocator_that_gives_memory_back_unless_a_person_chose_another(
    own: dict[str, str], backend: str
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in NATIVE_MEMORY}
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=inherited | own, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == backend
