"""What all tests of a worker share: one real broker, one Spark session; a topic and a lakehouse of one's own.

The folder decides the tier: everything below `tests/<tier>/` carries the marker `<tier>`.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from resources.embedded.broker import BrokerState, EmbeddedBroker
from resources.embedded.registry import EmbeddedRegistry
from resources.jars import s3_jars, spark_jars
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings, load_settings
from resources.spark.session import SparkResource
from tests import generated_cases
from tests.short_lived_jvm import SPARK_CONF

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# On a loaded machine a first example takes seconds: a deadline would judge the machine, not the code.
# A change is judged by the same cases each time. `make cases` looks for others: they may find an older fault.
hypothesis.settings.register_profile("headrace", deadline=None, derandomize=True)
hypothesis.settings.register_profile(generated_cases.QUICK, deadline=None, derandomize=True)
hypothesis.settings.register_profile(generated_cases.NEW, deadline=None)
# Before any test is imported: where files are named, pytest imports some before it is configured.
hypothesis.settings.load_profile("headrace")

_TESTS = Path(__file__).parent
_TIERS = ("unit", "spark", "integration", "cases", "chaos")


def pytest_configure(config: pytest.Config) -> None:
    """Runs before the tests are imported, because their decorators ask for the profile."""
    # A shell without job control has what it starts with `&` ignore SIGINT, and Dagster then SIGTERM as well: processes
    # that tests start inherit that, and a test that ends one by SIGTERM would wait for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    profiles = {"not long": generated_cases.QUICK, "hypothesis": generated_cases.NEW}
    chosen = (profile for start, profile in profiles.items() if config.option.markexpr.startswith(start))
    hypothesis.settings.load_profile(next(chosen, "headrace"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks each test by its folder, so that `-m unit` needs no decorators; `-m long` looks at all generated cases."""
    for item in items:
        tier = item.path.relative_to(_TESTS).parts[0]
        if tier in _TIERS:
            item.add_marker(tier)
        if config.option.markexpr.startswith("long") and item.get_closest_marker("generated"):
            item.add_marker("long")


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own HEADRACE_* variables must not change a test's outcome."""
    for name in list(os.environ):
        if name == "KAFKA_BOOTSTRAP_SERVERS" or (name.startswith("HEADRACE_") and name != "HEADRACE_CACHE"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerState]:
    """A real Kafka for the whole run, in a home of its own; `broker.bootstrap_servers` is its address."""
    embedded = EmbeddedBroker(tmp_path_factory.mktemp("broker-home"))
    yield embedded.start()
    embedded.stop()


@pytest.fixture(scope="session")
def broker_home(broker: BrokerState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home in which `broker` runs: `Settings(home=broker_home)` finds it as its embedded broker."""
    return next(tmp_path_factory.getbasetemp().glob("broker-home*"))


@pytest.fixture(scope="session")
def kafka(broker: BrokerState, broker_home: Path) -> Iterator[KafkaResource]:
    """The resource for `broker`, as embedded: it may create topics."""
    with KafkaResource.from_settings(Settings(home=broker_home, kafka_bootstrap_servers="")) as resource:
        yield resource


@pytest.fixture
def topic(kafka: KafkaResource) -> Callable[..., str]:
    """Makes topics that no other test uses: `topic()` has three partitions, `topic(1)` one."""

    def create(partitions: int = 3) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        ensure_topic(kafka, name, partitions)
        return name

    return create


@pytest.fixture(scope="session")
def registry_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home in which `schema_registry` runs."""
    return tmp_path_factory.mktemp("registry-home")


@pytest.fixture(scope="session")
def schema_registry(registry_home: Path) -> Iterator[SchemaRegistry]:
    """A real registry for the whole run; tests take subjects that no other one uses (the fixture `subject`)."""
    embedded = EmbeddedRegistry(registry_home)
    yield embedded.start()
    embedded.stop()


@pytest.fixture
def subject() -> Callable[..., str]:
    """Makes names of subjects that no other test uses."""
    return lambda name="test": f"{name}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def spark_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of `spark`: its logs and temporary files."""
    return tmp_path_factory.mktemp("spark-home")


@pytest.fixture(scope="session")
def spark_log(spark_home: Path) -> Path:
    """The log4j file of `spark`; it comes into being with the first line."""
    return spark_home / "logs" / "spark" / f"tests-{os.getpid()}.log"


@pytest.fixture(scope="session")
def spark(spark_home: Path) -> Iterator[SparkSession]:
    """One session for the whole run, configured as the platform's own, with all jars."""
    # The jars of S3 too: a test of a lakehouse there says where it is (`tests/integration/s3_lakehouse.py`).
    conf = {**SPARK_CONF, "spark.jars": ",".join(jar.as_uri() for jar in (*spark_jars(), *s3_jars()))}
    settings = Settings(home=spark_home, kafka_bootstrap_servers="", spark_heap_mib=1024, spark_conf=conf)
    with SparkResource.from_settings(settings, "tests").running() as session:
        yield session


@pytest.fixture(autouse=True)
def _no_tables_of_earlier_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Delta keeps each table it has seen for an hour: after 130 lakehouses the heap was full and Spark stood still."""
    yield
    if "spark" in request.fixturenames:
        getattr(request.getfixturevalue("spark")._jvm, "org.apache.spark.sql.delta.DeltaLog").clearCache()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an empty home in the test's own folder; the embedded broker, the default lakehouse."""
    return Settings(home=tmp_path / "home", kafka_bootstrap_servers="")


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    """An empty lakehouse in the test's own folder, already writable."""
    resource = LakehouseResource(root=str(tmp_path / "lakehouse"))
    resource.check_writable()
    return resource


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    """Settings are read from the environment as the test has it, and forgotten after it."""
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()
