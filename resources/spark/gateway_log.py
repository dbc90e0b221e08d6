"""What py4j says of commands that were under way when their JVM was stopped: expected then, and kept out of the log."""

from __future__ import annotations

import logging


def _is_of_others(record: logging.LogRecord) -> bool:
    """Whether a record is not of py4j, which logs by the root logger, with a stack trace."""
    return "py4j" not in record.pathname


def quiet_gateway() -> None:
    """Call it before a JVM is stopped. A thread that waits for its answer, or a finalizer, fails a moment later."""
    logging.getLogger().addFilter(_is_of_others)


def hear_gateway() -> None:
    """Call it before a JVM is started: from then on such a failure means something."""
    logging.getLogger().removeFilter(_is_of_others)
