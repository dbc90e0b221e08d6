"""A JVM that is stopped while somebody waits for its answer leaves no stack trace; one that dies by itself does."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from py4j.clientserver import ClientServer, JavaParameters, PythonParameters
from py4j.protocol import Py4JError

from resources.spark.gateway_log import hear_gateway, quiet_gateway


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    yield
    hear_gateway()


def _lose_an_answer() -> None:
    """Sends a command by py4j to a peer that takes it and goes away."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.close()

        peer = threading.Thread(target=take)
        peer.start()
        port = server.getsockname()[1]
        client = ClientServer(JavaParameters(port=port, auto_convert=True), PythonParameters(port=0))
        with pytest.raises(Py4JError):
            client.jvm.System.exit(0)
        peer.join()
        client.shutdown()


def test_a_lost_answer_is_told_but_for_a_jvm_that_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        _lose_an_answer()
        assert [record.message for record in caplog.records] == ["Exception while sending command."]
        caplog.clear()
        quiet_gateway()
        _lose_an_answer()
        logging.error("something else")
        assert [record.message for record in caplog.records] == ["something else"]
        hear_gateway()
