"""The command `headrace`: what the Makefile's targets and service managers call."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import click

from jobs.cli import (
    alert_commands,
    card_commands,
    change_commands,
    lakehouse_commands,
    metrics_command,
    model_commands,
    new_topic_command,
    pack_command,
    page_command,
    platform_commands,
    recommend_command,
    registry_commands,
    simulate_command,
    sink_commands,
    sql_command,
    stream_commands,
    topics_command,
    user_commands,
    views_command,
)
from platform_assets.errors import HeadraceError, InterruptedByUserError

_COMMANDS = (
    platform_commands.demo,
    platform_commands.dev,
    platform_commands.up,
    platform_commands.drain,
    platform_commands.check,
    metrics_command.metrics,
    page_command.page,
    stream_commands.pause,
    stream_commands.resume,
    stream_commands.restart,
    stream_commands.recompute,
    stream_commands.reset_time,
    stream_commands.replay,
    stream_commands.acknowledge_loss,
    lakehouse_commands.requeue,
    lakehouse_commands.explain,
    sql_command.sql,
    views_command.views,
    pack_command.pack,
    lakehouse_commands.backup,
    lakehouse_commands.restore,
    user_commands.forget_user,
    model_commands.model,
    card_commands.card,
    sink_commands.sink,
    alert_commands.alerts,
    recommend_command.recommend,
    simulate_command.simulate,
    new_topic_command.new_topic,
    topics_command.topics,
    registry_commands.check_contract,
    change_commands.remove_absent,
)


class _InOrder(click.Group):
    """A group whose help lists the commands as they stand in `_COMMANDS`: the first ones are what a newcomer needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def headrace() -> None:
    """Supervised streams: Kafka, Spark, Delta, Dagster."""


for _command in _COMMANDS:
    headrace.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the command, on the main thread.

    Returns the exit code: the command's own, 1 for an error of ours or of the instance's database (one line on
    stderr), 2 for arguments that cannot be used, and 130 after Ctrl-C.
    """
    try:
        return int(headrace.main(arguments, prog_name="headrace", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (InterruptedByUserError, click.Abort):
        return 128 + signal.SIGINT
    except HeadraceError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        from jobs.supervision.storage_errors import find_storage_error

        if (known := find_storage_error(error)) is None:
            raise
        print(f"headrace: {known}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
