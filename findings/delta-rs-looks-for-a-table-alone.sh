#!/bin/sh
# `DeltaTable.is_deltatable` keeps Python's lock (the GIL) until the store has answered: no other thread of the process
# runs meanwhile, one that sends heartbeats or serves requests neither. To open the table, which asks the same store,
# lets other threads run. Here the store, a process of its own, answers "404 Not Found" after one second.
#
# Seen with deltalake 1.6.6 (Python 3.11): another thread paused for 1.0 s, and for 0.1 s while the table was opened.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
cat > store.py <<'PY'
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Slow(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(1)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
print(server.server_port, flush=True)
server.serve_forever()
PY
cat > look.py <<'PY'
import subprocess
import sys
import threading
import time
from itertools import pairwise

from deltalake import DeltaTable

beats = []


def beat():
    while True:
        beats.append(time.monotonic())
        time.sleep(0.02)


def longest_pause(ask):
    """Of the other thread, in seconds, while this one asks a store that has no such table."""
    began = time.monotonic()
    try:
        ask()
    except Exception as error:
        assert "404" in str(error), error
    return max(later - earlier for earlier, later in pairwise([began, *(b for b in beats if b > began), time.monotonic()]))


store = subprocess.Popen([sys.executable, "store.py"], stdout=subprocess.PIPE)
try:
    options = {
        "aws_endpoint_url": f"http://127.0.0.1:{int(store.stdout.readline())}", "aws_allow_http": "true",
        "aws_region": "us-east-1", "aws_access_key_id": "key", "aws_secret_access_key": "secret", "max_retries": "0",
    }
    threading.Thread(target=beat, daemon=True).start()
    looked = longest_pause(lambda: DeltaTable.is_deltatable("s3://bucket/table", options))
    opened = longest_pause(lambda: DeltaTable("s3://bucket/table", storage_options=options))
finally:
    store.kill()
print(f"is_deltatable: {looked:.1f} s, DeltaTable: {opened:.1f} s")
raise SystemExit(not (looked > 0.9 and opened < 0.5))
PY
"$folder/venv/bin/python" look.py || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
