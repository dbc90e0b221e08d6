"""What a Spark master means for the other settings: whether its tasks run elsewhere than in the driver."""

from __future__ import annotations

import re

REFUSED_ROOT = (
    "a folder of this machine is no place for what executors on others write. Set it to s3://bucket/prefix, or set "
    "HEADRACE_LAKEHOUSE_IS_SHARED=true where all machines have the same folder mounted at this path"
)
# What Spark starts with. Of any other text it says only where in its own code it gave up.
_MASTER = re.compile(r"local(\[(\*|[1-9]\d*)(, ?\d+)?\])?|local-cluster\[[\d, ]+\]|spark://\S+|k8s://\S+|yarn")
_THIS_MACHINE = re.compile(r"spark://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?/?", re.IGNORECASE)


def find_trouble(master: str) -> str:
    """What is wrong with the address of a master; empty: nothing."""
    return "" if _MASTER.fullmatch(master) else "must be local[N], spark://host:port, k8s://host:port or yarn"


def is_cluster(master: str) -> bool:
    """Whether tasks run in executors that a cluster starts, instead of in the driver."""
    return not master.startswith("local")


def is_elsewhere(master: str) -> bool:
    """Whether its executors are on other machines, as far as the master's address says."""
    return is_cluster(master) and _THIS_MACHINE.fullmatch(master) is None
