"""A real Kafka of three brokers and a controller, from the embedded broker's own distribution.

The controller is a process of its own: with combined roles the loss of two brokers would be the loss of the quorum, and
nobody would decide who may lead. Brokers are killed, frozen and started by number: 1, 2, 3.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException

from resources.embedded.broker_configuration import new_cluster_id, server_properties
from resources.jars import broker_jars
from resources.java import java_binary
from resources.kafka import KafkaResource
from resources.ports import answers, free_port
from resources.settings import Settings

BROKERS = (1, 2, 3)
_CONTROLLER = 9
_LOG4J = Path(__file__).parents[1] / "resources" / "embedded" / "broker_log4j2.properties"
# A start next to a full test run took half a minute; what is waited for is a condition, never this time.
_LIMIT_SECONDS = 300.0


@dataclass
class KafkaCluster:
    """The processes, by node, and where they listen."""

    folder: Path
    properties: Mapping[str, str] = field(default_factory=dict)
    """What differs from the defaults, on each node."""
    ports: dict[int, int] = field(default_factory=lambda: {node: free_port() for node in (*BROKERS, _CONTROLLER)})
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def bootstrap_servers(self) -> str:
        """All three brokers, so that any of them may be down when a client starts."""
        return ",".join(f"127.0.0.1:{self.ports[node]}" for node in BROKERS)

    def settings(self, home: Path, **others: object) -> Settings:
        """Settings of a platform over this cluster."""
        return Settings.model_validate({"home": home, "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers, **others})

    def format(self) -> None:
        """Writes each node's configuration and formats its disk."""
        cluster = new_cluster_id()
        formatting = []
        for node in (_CONTROLLER, *BROKERS):
            folder = self.folder / str(node)
            folder.mkdir(parents=True)
            lines = (f"{key}={value}\n" for key, value in self._properties(node).items())
            (folder / "server.properties").write_text("".join(lines))
            tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(folder / "server.properties")]
            with (folder / "node.out").open("ab") as output:
                formatting.append(subprocess.Popen([*self._java(node), *tool], stdout=output, stderr=output))
        assert [process.wait() for process in formatting] == [0] * len(formatting)

    def start(self, *nodes: int) -> None:
        """Starts brokers (default: all, and the controller) and returns when they answer."""
        started = nodes or (_CONTROLLER, *BROKERS)
        for node in started:
            command = [*self._java(node), "kafka.Kafka", str(self.folder / str(node) / "server.properties")]
            with (self.folder / str(node) / "node.out").open("ab") as output:
                self.processes[node] = subprocess.Popen(command, stdout=output, stderr=output)
        for node in started:
            wait_until(partial(self._is_up, node), f"node {node} answers")

    def kill(self, *nodes: int) -> None:
        """Ends brokers as a power cut does, all at once."""
        for node in nodes:
            self.processes[node].kill()
        for node in nodes:
            self.processes.pop(node).wait()

    def stop(self, node: int) -> None:
        """Ends a broker as an operator does: it hands its partitions over first."""
        self.processes[node].terminate()
        self.processes.pop(node).wait()

    @contextmanager
    def frozen(self, node: int) -> Iterator[None]:
        """Keeps a broker from answering for the block, with its connections open."""
        self.processes[node].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes[node].send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kills what still runs."""
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _is_up(self, node: int) -> bool:
        assert self.processes[node].poll() is None, (self.folder / str(node) / "node.out").read_text()[-3000:]
        return answers(self.ports[node])

    def _java(self, node: int) -> list[str]:
        heap = ["-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        log = [f"-Dheadrace.log={self.folder / str(node) / 'broker.log'}", f"-Dlog4j2.configurationFile={_LOG4J}"]
        return [str(java_binary()), *heap, *log, "-cp", os.pathsep.join(str(jar) for jar in broker_jars())]

    def _properties(self, node: int) -> dict[str, str]:
        is_controller = node == _CONTROLLER
        name, own = ("CONTROLLER", "controller") if is_controller else ("PLAINTEXT", "broker")
        listener = f"{name}://127.0.0.1:{self.ports[node]}"
        properties = server_properties(self.folder / str(node), self.ports[node], self.ports[_CONTROLLER], 1 << 30)
        properties |= {
            "process.roles": own,
            "node.id": str(node),
            "controller.quorum.voters": f"{_CONTROLLER}@127.0.0.1:{self.ports[_CONTROLLER]}",
            "listeners": listener,
            "advertised.listeners": listener,
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
            "unclean.leader.election.enable": "false",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
            "share.coordinator.state.topic.replication.factor": "3",
            "share.coordinator.state.topic.min.isr": "2",
        }
        if is_controller:
            for key in ("advertised.listeners", "inter.broker.listener.name"):
                del properties[key]
        return {**properties, **self.properties}


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Returns when the condition holds; fails, naming it, when it does not within the limit.

    A condition that asks a broker which does not answer does not hold.
    """
    deadline = time.monotonic() + _LIMIT_SECONDS
    while True:
        with suppress(KafkaException):
            if condition():
                break
        assert time.monotonic() < deadline, f"not within {_LIMIT_SECONDS:g} s: {what}"
        time.sleep(0.2)
    print(f"{_LIMIT_SECONDS - (deadline - time.monotonic()):6.1f} s {what}", flush=True)


@contextmanager
def running_cluster(folder: Path, properties: Mapping[str, str] | None = None) -> Iterator[KafkaCluster]:
    """A cluster for the block; afterwards its processes are gone."""
    cluster = KafkaCluster(folder, properties or {})
    try:
        cluster.format()
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@dataclass(frozen=True)
class TopicState:
    """Says who leads each partition of a topic (None: nobody), and which replicas are in sync."""

    leaders: dict[int, int | None]
    in_sync: dict[int, tuple[int, ...]]

    @staticmethod
    def read(kafka: KafkaResource, topic: str) -> TopicState:
        """Asks a broker that answers; one that does not know a new topic yet knows no partitions of it."""
        known = kafka.admin().list_topics(timeout=10).topics.get(topic)
        metadata = {} if known is None else known.partitions
        leaders = {p: part.leader if part.leader >= 0 else None for p, part in metadata.items()}
        return TopicState(leaders, {p: tuple(sorted(part.isrs)) for p, part in metadata.items()})
