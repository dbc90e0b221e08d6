"""Spark's own authentication and encryption: between its processes, and of what it writes to local disks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resources.settings import Settings

# Masters by which Spark makes a secret of its own for each application, and hands it to the executors.
_MAKES_SECRETS = re.compile(r"local(\[.*\])?|yarn|k8s://.*")
# A shorter one is found by trying: who has recorded a handshake may do that elsewhere.
_SHORTEST_SECRET = 16


def network_conf() -> dict[str, str]:
    """What master, workers, drivers and executors must all have alike, besides the secret."""
    return {
        "spark.authenticate": "true",
        "spark.network.crypto.enabled": "true",
        # The first version's keys can be had by who stands between the two ends; Spark's default since 4.0 is 2.
        "spark.network.crypto.authEngineVersion": "2",
        # Spark's default, CTR, hides what is sent and does not notice when it is changed on its way.
        "spark.network.crypto.cipher": "AES/GCM/NoPadding",
        # Else a client that does not know the protocol is let in by another, weaker one.
        "spark.network.crypto.saslFallback": "false",
    }


def encryption_conf(settings: Settings) -> dict[str, str]:
    """The configuration of an application; empty unless HEADRACE_SPARK_ENCRYPT says so.

    The secret is among it where the master needs one. Its name says that it is one, so that it gets to the JVM by the
    gateway and not by a command line (`is_secret`).
    """
    if not settings.spark_encrypt:
        return {}
    found = {
        **network_conf(),
        # Shuffles, blocks that are kept, and what does not fit into memory; the key lives as long as the application.
        "spark.io.encryption.enabled": "true",
        "spark.io.encryption.keySizeBits": "256",
    }
    if needs_secret(settings.spark_master):
        found["spark.authenticate.secret"] = settings.spark_secret.get_secret_value()
    return found


def needs_secret(master: str) -> bool:
    """Whether all that have to do with this master share a secret which somebody must give them."""
    return _MAKES_SECRETS.fullmatch(master) is None


def find_trouble(master: str, secret: str) -> str:
    """What is wrong with the secret for an encrypted application; empty where nothing is."""
    if not needs_secret(master):
        return ""
    if not secret:
        return (
            f"{master} is no master that makes a secret for each application: set HEADRACE_SPARK_SECRET to what its "
            "master and workers have as spark.authenticate.secret (docs/cluster.md)"
        )
    if len(secret) < _SHORTEST_SECRET:
        return f"HEADRACE_SPARK_SECRET must have {_SHORTEST_SECRET} characters or more: openssl rand -hex 32 makes one"
    return ""
