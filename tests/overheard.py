"""What anybody could read who listens on this machine's network: the bytes of TCP connections of some ports."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_ETHERNET, _ALL = 14, 0x0003
_PROTOCOL_TCP = 6


@dataclass
class Overheard:
    """The bytes that were heard so far, packet after packet."""

    ports: Collection[int]
    heard: bytearray = field(default_factory=bytearray)

    def hear(self, frame: bytes) -> None:
        """Keeps the content of a packet of IPv4 and TCP that comes from or goes to one of the ports."""
        header = frame[_ETHERNET:]
        if len(header) < 40 or header[0] >> 4 != 4 or header[9] != _PROTOCOL_TCP:
            return
        segment = header[(header[0] & 15) * 4 :]
        if not {*struct.unpack("!HH", segment[:4])}.isdisjoint(self.ports):
            self.heard += segment[(segment[12] >> 4) * 4 :]


@contextmanager
def overhearing(*ports: int) -> Iterator[Overheard]:
    """Listens on the loopback for the block; only root may."""
    overheard, over = Overheard(frozenset(ports)), threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL)) as packets:
        packets.bind(("lo", 0))
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        packets.settimeout(0.2)

        def listen() -> None:
            while not over.is_set():
                try:
                    overheard.hear(packets.recv(1 << 17))
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield overheard
        finally:
            over.set()
            thread.join()
