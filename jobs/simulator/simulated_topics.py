"""The topics that are simulated: by what name a person asks for them, and which profile they follow."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.simulator.access_log_profile import AccessLogProfile
from jobs.simulator.delivery_habits import DeliveryHabits
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.profile import ShopProfile
from jobs.simulator.telemetry_profile import TelemetryProfile
from platform_assets.errors import MissingTopicError, UsageError
from resources.kafka_topics import ensure_topic

if TYPE_CHECKING:
    from jobs.simulator.by_contract.contract_topic import ContractProfile
    from jobs.simulator.simulated_topic import SimulatedTopic
    from platform_assets.streaming.topic_spec import Topic
    from resources.kafka import KafkaResource
    from resources.settings import Settings

# A letter that is wrong, missing or too many in a name of eight: the shop's events went to a topic that nobody reads.
_NEARLY = 0.85


@dataclass(frozen=True)
class Simulation:
    """A simulated topic. `title` is what a person reads; `sizes` are options of the command for fields of the profile.

    `open` makes a run of it from its profile and a seed; `find_topic` gives the topic on the broker. `name_companion`
    gives that of what follows from its records, by the name of the topic that these go to; none: nothing does.
    `load_contract` and `load_companion_contract` give what their records obey.
    """

    title: str
    profile: type[DeliveryHabits]
    open: Callable[[Any, int], SimulatedTopic]
    find_topic: Callable[[Settings], str]
    load_contract: Callable[[], Topic]
    sizes: tuple[str, ...] = ()
    name_companion: Callable[[str], str] = lambda _topic: ""
    load_companion_contract: Callable[[], Topic] | None = None

    def find_companion(self, kafka: KafkaResource, topic: str, partitions: int, say: Callable[[str], None]) -> str:
        """The companion topic to send to besides `topic`, made on our broker; empty for none.

        Another broker may lack it: that is said, and nothing is to be sent there.
        """
        if companion := self.name_companion(topic):
            try:
                ensure_topic(kafka, companion, partitions)
            except MissingTopicError as error:
                say(f"{error} Until then nothing is sent there.")
                return ""
        return companion

    def read_habit(self, name: str, number: str | float) -> float:
        """A setting of the profile, whole where the field is. Raises `ValueError` for a text that is no such number."""
        whole = {each.name for each in dataclasses.fields(self.profile) if type(each.default) is int}
        return int(number) if name in whole else float(number)


def find_simulation(name: str | None, *, by_schema: bool = False) -> Simulation:
    """The simulation by its name in `--topic`; any other name is a topic of the broker for the shop's events.

    A topic without a simulation of its own, by its name or that on the broker, is simulated by its contract;
    `by_schema` as in `build_profile`. Raises `UsageError` for a name that is nearly that of another topic: the shop's
    events would go to a new one.
    """
    if (found := NAMED.get(name or "") or _find_by_contract(name, by_schema)) is not None:
        return found
    if name is not None and (meant := _find_nearly_named(name)) is not None:
        raise UsageError(
            f"There is no topic {name}. Did you mean {meant}? Or, for the shop's events: --kafka-topic {name}"
        )
    return SHOP


def find_of_profile(profile: DeliveryHabits) -> Simulation:
    """The simulation that follows such a profile. Raises `UsageError` for none."""
    for simulation in (SHOP, *NAMED.values()):
        if type(profile) is simulation.profile:
            return simulation
    if (topic := getattr(profile, "topic", None)) is not None:
        return _simulate_by_contract(topic, type(profile))
    raise UsageError(f"Nothing is simulated by a {type(profile).__name__}.")


def _open_shop(profile: ShopProfile, seed: int) -> SimulatedTopic:
    from jobs.simulator.shop import Shop

    return Shop(profile, seed)


def _open_payments(profile: PaymentProfile, seed: int) -> SimulatedTopic:
    from jobs.simulator.card_payments import CardPayments

    return CardPayments(profile, seed)


def _open_telemetry(profile: TelemetryProfile, seed: int) -> SimulatedTopic:
    from jobs.simulator.telemetry import Telemetry

    return Telemetry(profile, seed)


def _open_access_logs(profile: AccessLogProfile, seed: int) -> SimulatedTopic:
    from jobs.simulator.access_logs import AccessLogs

    return AccessLogs(profile, seed)


def _find_by_contract(name: str | None, by_schema: bool) -> Simulation | None:
    from platform_assets.topics import load_topics

    own = ("events", *NAMED)
    for topic in load_topics() if name else ():
        if topic.name not in own and name in (topic.name, topic.kafka_topic):
            from jobs.simulator.by_contract.contract_topic import build_profile

            return _simulate_by_contract(topic, build_profile(topic, by_schema=by_schema))
    return None


def _find_nearly_named(name: str) -> str | None:
    from platform_assets.topics import load_topics

    others = [topic.name for topic in load_topics() if topic.name != "events"]
    return next(iter(difflib.get_close_matches(name, others, 1, _NEARLY)), None)


def _simulate_by_contract(topic: Topic, profile: type[DeliveryHabits]) -> Simulation:
    title = f"Records by the contract of {topic.name}"
    return Simulation(title, profile, _open_by_contract, lambda _settings: topic.kafka_topic, lambda: topic)


def _open_by_contract(profile: ContractProfile, seed: int) -> SimulatedTopic:
    from jobs.simulator.by_contract.contract_topic import ContractTopic

    return ContractTopic(profile, seed)


def _name_reports(topic: str) -> str:
    # Payments of another topic must not be reported where the platform looks for them in its own.
    is_own = topic == _load_transactions().kafka_topic
    return _load_reports().kafka_topic if is_own else f"{topic}-fraud-reports"


def _load_events() -> Topic:
    from platform_assets.topics.events import TOPIC

    return TOPIC


def _load_transactions() -> Topic:
    from platform_assets.topics.transactions import TOPIC

    return TOPIC


def _load_telemetry() -> Topic:
    from platform_assets.topics.telemetry import TOPIC

    return TOPIC


def _load_reports() -> Topic:
    from platform_assets.topics.fraud_reports import TOPIC

    return TOPIC


def _load_access_logs() -> Topic:
    from platform_assets.topics.access_logs import TOPIC

    return TOPIC


SHOP = Simulation(
    "Simulated shop", ShopProfile, _open_shop, lambda settings: settings.topic, _load_events, ("users", "products")
)
NAMED = {
    "transactions": Simulation(
        "Simulated card payments",
        PaymentProfile,
        _open_payments,
        lambda _settings: _load_transactions().kafka_topic,
        _load_transactions,
        name_companion=_name_reports,
        load_companion_contract=_load_reports,
    ),
    "telemetry": Simulation(
        "Simulated sensors",
        TelemetryProfile,
        _open_telemetry,
        lambda _settings: _load_telemetry().kafka_topic,
        _load_telemetry,
    ),
    "access_logs": Simulation(
        "Simulated access logs",
        AccessLogProfile,
        _open_access_logs,
        lambda _settings: _load_access_logs().kafka_topic,
        _load_access_logs,
    ),
}
