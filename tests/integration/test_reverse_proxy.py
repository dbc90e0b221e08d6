"""The configuration in deploy/reverse-proxy as it is, in a real nginx before two real web servers of Dagster's."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dagster as dg
import psutil
import pytest
import urllib3
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from resources.ports import answers, free_port
from tests.copied_project import replace_text
from tests.integration import one_job
from tests.integration.supervised_platform import ROOT, wait_for
from tests.secured_broker import Certificates

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = [pytest.mark.long, pytest.mark.skipif(NGINX is None, reason="Debian's package nginx is not installed")]

MAIN = """\
daemon off;
{user}
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include headrace.conf;
}}
"""
LAUNCH = """mutation ($job: ExecutionParams!) { launchRun(executionParams: $job) {
    __typename ... on LaunchRunSuccess { run { runId } } } }"""
JOB = {
    "selector": {
        "repositoryLocationName": one_job.__name__, "repositoryName": "__repository__", "jobName": "one_job",
    },
    "runConfigData": {},
}  # fmt: skip
LOGS = """subscription ($run: ID!) { pipelineRunLogs(runId: $run, cursor: null) {
    __typename ... on PipelineRunLogsSubscriptionSuccess { run { runId } } } }"""
PASSWORDS = {"vera": "viewers-secret", "olaf": "operators-secret"}


@dataclass(frozen=True)
class Proxied:
    """The two servers of the configuration, and Dagster's instance behind them."""

    viewers: int
    operators: int
    writers: int
    """The web server behind `operators`."""
    authority: Path
    instance: dg.DagsterInstance

    def ask(
        self, port: int, account: str = "", path: str = "/graphql", method: str = "POST", **headers: str
    ) -> tuple[int, str]:
        """Asks as an account (`name:password`; empty: without a log-in), by default to launch the job."""
        body = json.dumps({"query": LAUNCH, "variables": {"job": JOB}}) if method == "POST" else None
        with urllib3.PoolManager(ca_certs=str(self.authority), retries=False) as pool:
            answer = pool.request(
                method, f"https://127.0.0.1:{port}{path}", body=body,
                headers={**_log_in(account), "Content-Type": "application/json", **headers},
            )  # fmt: skip
        return answer.status, answer.data.decode()

    def launch(self, port: int, account: str) -> dict[str, Any]:
        """What the web server says to the launch of a run."""
        status, text = self.ask(port, account)
        assert status == 200, text
        said: dict[str, Any] = json.loads(text)["data"]["launchRun"]
        return said

    def subscribe(self, port: int, account: str, run: str, **headers: str) -> dict[str, Any]:
        """The first message of a subscription to a run's events."""
        return asyncio.run(self._subscribe(port, {**_log_in(account), **headers}, run))

    async def _subscribe(self, port: int, headers: dict[str, str], run: str) -> dict[str, Any]:
        """Uses one thread. Where websockets' client writes in one and reads in another, TLS stalls now and then."""
        start = {"type": "start", "id": "1", "payload": {"query": LOGS, "variables": {"run": run}}}
        async with connect(
            f"wss://127.0.0.1:{port}/graphql", ssl=ssl.create_default_context(cafile=self.authority),
            additional_headers=headers, subprotocols=[Subprotocol("graphql-ws")], proxy=None,
        ) as socket:  # fmt: skip
            for message in ({"type": "connection_init"}, start):
                await socket.send(json.dumps(message))
            while (found := json.loads(await asyncio.wait_for(socket.recv(), 60)))["type"] != "data":
                assert found["type"] in ("connection_ack", "ka"), found
        said: dict[str, Any] = found["payload"]["data"]["pipelineRunLogs"]
        return said

    def runs(self) -> set[str]:
        """The runs that there are."""
        return {run.run_id for run in self.instance.get_runs()}


def _log_in(account: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(account.encode()).decode()}"} if account else {}


def account(name: str) -> str:
    """A name with its password."""
    return f"{name}:{PASSWORDS[name]}"


@contextmanager
def running(folder: Path, name: str, command: list[str], *ports: int) -> Iterator[psutil.Process]:
    """A program for the block, once it answers at its ports; demanded to end when it is told to."""
    environment = {**os.environ, "DAGSTER_HOME": str(folder)}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: process.poll() is not None or all(map(answers, ports)), f"{name} answers")
        assert process.poll() is None, (folder / f"{name}.log").read_text()[-2000:]
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def write_configuration(folder: Path, viewers: int, operators: int, readers: int, writers: int) -> None:
    """The files as docs/security.md has them put in place; only ports are this machine's free ones."""
    own = folder / "headrace"
    own.mkdir()
    shutil.copy(ROOT / "deploy/reverse-proxy/headrace.conf", folder)
    shutil.copy(ROOT / "deploy/reverse-proxy/proxied.conf", own)
    for written, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{viewers} ssl"), ("listen 8443 ssl", f"listen 127.0.0.1:{operators} ssl"),
        ("127.0.0.1:3003", f"127.0.0.1:{readers}"), ("127.0.0.1:3002", f"127.0.0.1:{writers}"),
    ):  # fmt: skip
        replace_text(folder / "headrace.conf", written, ours)
    Certificates(own).issue("proxy", "127.0.0.1")
    shutil.move(own / "proxy.pem", own / "certificate.pem")
    shutil.move(own / "proxy-key.pem", own / "key.pem")
    for role, name in (("viewers", "vera"), ("operators", "olaf")):
        hashing = ["openssl", "passwd", "-6", "-stdin"]
        done = subprocess.run(hashing, input=PASSWORDS[name], capture_output=True, text=True, check=True)
        (own / role).write_text(f"{name}:{done.stdout}")
    user = "user root;" if os.geteuid() == 0 else ""  # no other one may enter the test's folder
    (folder / "nginx.conf").write_text(MAIN.format(user=user))


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n")
    viewers, operators, readers, writers = (free_port() for _ in range(4))
    write_configuration(folder, viewers, operators, readers, writers)
    web = [str(Path(sys.executable).parent / "dagster-webserver"), "-m", one_job.__name__, "-h", "127.0.0.1", "-p"]
    nginx = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with ExitStack() as stack, dg.DagsterInstance.from_config(str(folder)) as instance:
        for name, command, port in (
            ("readers", [*web, str(readers), "--read-only"], readers), ("writers", [*web, str(writers)], writers),
        ):  # fmt: skip
            stack.enter_context(running(folder, name, command, port))
        stack.enter_context(running(folder, "nginx", nginx, viewers, operators))
        yield Proxied(viewers, operators, writers, folder / "headrace" / "ca.pem", instance)


def test_roles_are_what_the_servers_let_through(proxied: Proxied) -> None:
    vera, olaf, viewers, operators = account("vera"), account("olaf"), proxied.viewers, proxied.operators
    before = proxied.runs()
    assert proxied.launch(viewers, vera)["__typename"] == "UnauthorizedError"
    reported = "/report_asset_materialization/any"
    assert proxied.ask(viewers, vera, reported)[0] == 401
    assert proxied.instance.get_latest_materialization_event(dg.AssetKey("any")) is None
    assert proxied.runs() == before

    launched = proxied.launch(operators, olaf)
    assert launched["__typename"] == "LaunchRunSuccess"
    run = launched["run"]["runId"]
    assert proxied.runs() == before | {run}
    assert proxied.ask(operators, olaf, reported)[0] == 200
    assert proxied.instance.get_latest_materialization_event(dg.AssetKey("any")) is not None
    for port, who in ((viewers, vera), (operators, olaf)):
        status, page = proxied.ask(port, who, "/runs", "GET")
        assert status == 200 and "Dagster" in page
        assert proxied.subscribe(port, who, run) == {
            "__typename": "PipelineRunLogsSubscriptionSuccess", "run": {"runId": run},
        }  # fmt: skip


def test_nobody_without_a_log_in_sees_anything(proxied: Proxied) -> None:
    for port, strangers in (
        (proxied.viewers, ("", "vera:wrong", "nobody:any", account("olaf"))),
        (proxied.operators, ("", "olaf:wrong", account("vera"))),
    ):
        for stranger in strangers:
            for method, path in (
                ("GET", "/"), ("GET", "/server_info"), ("GET", "/logs/any.out"), ("GET", "/no/such/page"),
                ("POST", "/graphql"), ("POST", "/report_asset_materialization/any"),
            ):  # fmt: skip
                status, text = proxied.ask(port, stranger, path, method)
                assert status == 401 and "agster" not in text, (stranger, path)
            with pytest.raises(InvalidStatus, match="401"):
                proxied.subscribe(port, stranger, "any")


def test_pages_of_other_sites_do_nothing_with_an_operators_log_in(proxied: Proxied) -> None:
    """A browser sends the log-in along with whatever such a page asks for."""
    olaf, port, before = account("olaf"), proxied.operators, proxied.runs()
    own = f"https://127.0.0.1:{port}"
    for origin in ("https://elsewhere.test", "null", f"{own}.elsewhere.test", f"http://127.0.0.1:{port}"):
        assert proxied.ask(port, olaf, Origin=origin)[0] == 403
        with pytest.raises(InvalidStatus, match="403"):
            proxied.subscribe(port, olaf, "any", Origin=origin)
    by_get = f"/graphql?{urlencode({'query': LAUNCH, 'variables': json.dumps({'job': JOB})})}"
    assert proxied.ask(port, olaf, by_get, "GET")[0] == proxied.ask(port, olaf, by_get, "HEAD")[0] == 405
    assert proxied.runs() == before
    with urllib3.PoolManager(retries=False) as pool:
        assert pool.request("GET", f"http://127.0.0.1:{proxied.writers}{by_get}").status == 200
    assert len(proxied.runs()) == len(before) + 1, "Dagster itself does what comes by GET"
    assert proxied.ask(port, olaf, Origin=own)[0] == 200
    assert len(proxied.runs()) == len(before) + 2


def test_the_web_servers_are_reached_by_the_proxy_alone_and_hear_no_password(proxied: Proxied) -> None:
    folder = proxied.authority.parents[1]
    heard = [part for part in psutil.net_connections("tcp") if part.status == psutil.CONN_LISTEN]
    servers = {child.pid for child in psutil.Process().children() if "dagster-webserver" in " ".join(child.cmdline())}
    addresses = [part.laddr.ip for part in heard if part.laddr and part.pid in servers]
    assert len(servers) == len(addresses) == 2 and set(addresses) == {"127.0.0.1"}
    proxied.ask(proxied.operators, account("olaf"))
    texts = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    assert len(texts) > 8 and not any(secret in text for text in texts for secret in PASSWORDS.values())
