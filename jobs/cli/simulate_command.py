"""The command `headrace simulate`: its options, as the plan of a simulated topic or as a recording."""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.option_sections import SectionedCommand, SectionOption
from jobs.simulator.delivery import Delivery
from jobs.simulator.delivery_habits import FAULTS
from jobs.simulator.mapping import SHOP_FIELDS, RecordedFields, RowMapping, find_fields
from jobs.simulator.mapping_settings import load_mapping, parse_mapping
from jobs.simulator.profile import ShopProfile
from jobs.simulator.recorded import Recording
from jobs.simulator.recorded_times import TIME_FORMATS
from jobs.simulator.row_files import FORMATS
from jobs.simulator.simulated_topics import NAMED, SHOP, Simulation, find_simulation
from jobs.simulator.simulation import SimulationPlan, parse_malformed
from platform_assets.errors import UsageError
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from platform_assets.streaming.formats.registered_schema import SchemaTarget

# What means nothing without a recording, and nothing with one.
_REPLAY_OPTIONS = ("map", "set", "value", "null", "time_format", "mapping", "format", "strict", "far_days",
                   "longest_wait")  # fmt: skip
ENCODINGS = ("json", "avro", "protobuf", "json-schema")
_SHOP_OPTIONS = ("rate", "duration", "count", "hours", "seed", "users", "products", "late", "duplicates", "encoding")


def _read_rate(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else math.inf if text == "max" else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number, nor max.", ctx, parameter) from None


def _options(section: str) -> Callable[..., Callable[[Any], Any]]:
    return partial(click.option, cls=SectionOption, section=section)


_shop = _options("Simulated shop")
_recording = _options("Recorded clickstream")


@click.command(cls=SectionedCommand)
@click.option(
    "--topic",
    help=f"{', '.join(NAMED)}: that topic's own records. Another topic of platform_assets/topics: records by its "
    "contract. Any other name: the topic on the broker (default: HEADRACE_TOPIC), for the shop's.",
)
@click.option("--kafka-topic", metavar="NAME", help="The topic on the broker, where it is not the usual one.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
@click.option(
    "--transactional",
    is_flag=True,
    help="In Kafka's transactions of a second: what was not committed is read by nobody.",
)
@click.option(
    "--aborted",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="With --transactional: such a share of the transactions is aborted, and its records are sent again.",
)
@click.option("--speed", type=float, metavar="X", help="X times as fast as it happened (replay or history).")
@_shop("--rate", callback=_read_rate, metavar="N", help="Records a second, or max (default: 100; history: 2).")
@_shop("--duration", type=float, metavar="SECONDS", help="End after SECONDS (default: until Ctrl-C).")
@_shop("--count", type=int, metavar="N", help="End after N records; with --hours: about N in all.")
@_shop("--hours", type=float, metavar="H", help="A history of H hours that ends now, at original times.")
@_shop("--seed", type=int, help="The same seed gives the same shoppers (default: a new one, shown).")
@_shop("--users", type=int, help=f"Customers (default: {ShopProfile.users}).")
@_shop("--products", type=int, help=f"Products (default: {ShopProfile.products}).")
@_shop("--late", type=float, metavar="RATE", help=f"Late events (default: {ShopProfile.late}).")
@_shop("--duplicates", type=float, metavar="RATE", help=f"Records sent twice (default: {ShopProfile.duplicates}).")
@_shop(
    "--malformed", multiple=True, metavar="[REASON=]RATE",
    help=f"Malformed records, in all or of one reason ({', '.join(FAULTS)}); repeatable (default: "
    f"{ShopProfile.not_json} each, oversized 0).",
)  # fmt: skip
@_shop(
    "--encoding", type=click.Choice(ENCODINGS),
    help="Values by a schema of the topic's contract, registered as <topic>-value (default: json, without a schema).",
)  # fmt: skip
@_shop(
    "--habit", multiple=True, metavar="NAME=NUMBER",
    help="Any other setting of what is simulated, such as purchase_rate=0.6; repeatable.",
)  # fmt: skip
@_recording(
    "--replay", type=click.Path(path_type=Path), metavar="FILE",
    help="JSON lines, CSV, tab-separated (all also gzip or zstd) or Parquet.",
)  # fmt: skip
@_recording("--format", type=click.Choice(FORMATS), help="Default: by the file's name.")
@_recording(
    "--mapping", type=click.Path(path_type=Path), metavar="FILE",
    help="TOML or JSON with columns, constants, values, null, time_format.",
)  # fmt: skip
@_recording(
    "--map", multiple=True, metavar="THEIR_COLUMN=OUR_FIELD",
    help="Their column may be a dotted path into nested JSON; repeatable.",
)  # fmt: skip
@_recording("--set", multiple=True, metavar="FIELD=VALUE", help="In every row; repeatable.")
@_recording("--value", multiple=True, metavar="FIELD.THEIRS=OURS", help="Translate a value; repeatable.")
@_recording("--null", multiple=True, metavar="TEXT", help="Text that means no value, such as NA; repeatable.")
@_recording("--time-format", metavar="FORMAT", help=f"{', '.join(TIME_FORMATS)} or a pattern such as %Y%m%d%H%M%S.")
@_recording(
    "--time", type=click.Choice(("original", "compressed", "present")), default="original",
    help="original: recorded times, sent at once (default); compressed: recorded times, paced at --speed; present: "
    "times shifted to now.",
)  # fmt: skip
@_recording("--anchor", type=click.Choice(("first", "last")), default="first", help="With present: which row is now.")
@_recording(
    "--far-days", type=float, metavar="DAYS",
    help="Leave out rows so far from the rest, unless time is original; inf: none (default: 1).",
)  # fmt: skip
@_recording(
    "--longest-wait", type=float, metavar="SECONDS", help="Longer silences of a paced replay are cut to it (3600)."
)
@_recording("--strict", is_flag=True, help="End at the first row that cannot become a record.")
def simulate(**options: Any) -> None:
    """Send events of a simulated shop, or recorded ones.

    The shop is live, or tells a history, and so are card payments (--topic transactions) and sensors (--topic
    telemetry); --replay sends a recording. Ctrl-C ends it cleanly.
    More in docs/simulator.md.
    """
    deliver(options, load_settings())


def deliver(options: Mapping[str, Any], settings: Settings) -> None:
    """Sends what the options ask for. Raises `UsageError`, and what `Delivery` says."""
    encoding = "json" if options["encoding"] is None else options["encoding"]
    simulation = find_simulation(options["topic"], by_schema=encoding != "json")
    if simulation is SHOP:
        topic = options["kafka_topic"] or options["topic"] or settings.topic
    else:
        topic = options["kafka_topic"] or simulation.find_topic(settings)
    if options["aborted"] and not options["transactional"]:
        raise UsageError("--aborted is a share of transactions: add --transactional.")
    delivery = Delivery(
        settings, topic, options["quiet"], is_transactional=options["transactional"], aborted_share=options["aborted"]
    )
    if options["replay"] is None:
        plan = _build_plan(options, simulation)
        with _opened_target(settings, encoding) as target:
            dataclasses.replace(delivery, target=target).send_simulated(plan)
    else:
        fields = SHOP_FIELDS if simulation is SHOP else find_fields(simulation.load_contract())
        delivery.send_recording(_build_recording(options, fields))


@contextmanager
def _opened_target(settings: Settings, encoding: str) -> Iterator[SchemaTarget | None]:
    """What values are written by; an embedded registry runs for the block. Errors as `running_registry`."""
    if encoding == "json":
        yield None
        return
    from jobs.supervision.publish_target import FORMATS, build_target
    from resources.embedded.registry import running_registry

    with running_registry(settings):
        yield build_target(settings, FORMATS[encoding])


def _build_plan(options: Mapping[str, Any], simulation: Simulation) -> SimulationPlan:
    for option in _REPLAY_OPTIONS:
        if options[option]:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} is for a recorded clickstream. Give --replay FILE as well.")
    for name in SHOP.sizes:
        if options[name] is not None and name not in simulation.sizes:
            raise UsageError(f"--{name} is for the simulated shop. Use --habit NAME=NUMBER (docs/simulator.md).")
    habits: dict[str, float] = {}
    for text in options["habit"]:
        name, _, number = text.partition("=")
        try:
            habits[name] = simulation.read_habit(name, number)
        except ValueError:
            raise UsageError(f"habit is {text!r}. Write NAME=NUMBER.") from None
    habits |= {name: options[name] for name in (*SHOP.sizes, "late", "duplicates") if options[name] is not None}
    return SimulationPlan(
        profile=parse_malformed(simulation.profile().with_rates(habits), options["malformed"]),
        seed=secrets.randbelow(2**31) if options["seed"] is None else options["seed"],
        rate=options["rate"],
        hours=options["hours"],
        duration_seconds=options["duration"],
        count=options["count"],
        speed=options["speed"],
    )


def _build_recording(options: Mapping[str, Any], fields: RecordedFields) -> Recording:
    for option in _SHOP_OPTIONS:
        if options[option] is not None:
            raise UsageError(f"--{option} is for the simulated shop. Leave it out of a replay.")
    mapping = load_mapping(options["mapping"], fields) if options["mapping"] else RowMapping(fields=fields)
    columns, constants, values = (options[name] for name in ("map", "set", "value"))
    told = parse_mapping(columns, constants, values, options["null"], options["time_format"], fields)
    limits = {name: options[name] for name in ("far_days", "longest_wait") if options[name] is not None}
    return Recording(
        path=options["replay"],
        format=options["format"],
        mapping=mapping.merged(told),
        **{name: options[name] for name in ("time", "speed", "anchor", "strict")},
        **limits,
    )
