"""The client against a real registry: all three formats with references, versions, compatibility, accounts, a kill."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from platform_assets.errors import RegistryRefusedError, SchemaNotAcceptedError, SettingError, UnknownSchemaError
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema
from resources.embedded.registry import EmbeddedRegistry, running_registry
from resources.processes import is_alive
from resources.registry.schema_registry import SchemaRegistry
from resources.registry.schemas import SchemaReference
from resources.settings import Settings
from tests.registry_servers import forward, serving

Subject = Callable[..., str]
ROOT = Path(__file__).parents[2]


def _record(name: str, *fields: dict[str, object]) -> str:
    # The spelling of Avro's Java library, by which Apicurio gives back what has no references.
    schema = {"type": "record", "name": name, "namespace": "shop", "fields": list(fields)}
    return json.dumps(schema, separators=(",", ":"))


_MONEY = _record("Money", {"name": "cents", "type": "long"})
_ITEM = _record("Item", {"name": "price", "type": "shop.Money"})
_ORDER = _record("Order", {"name": "item", "type": "shop.Item"}, {"name": "paid", "type": "shop.Money"})

_MONEY_PROTO = 'syntax = "proto3";\npackage shop;\nmessage Money { int64 cents = 1; }\n'
_ITEM_PROTO = (
    'syntax = "proto3";\npackage shop;\nimport "shop/money.proto";\nimport "google/protobuf/timestamp.proto";\n'
    "message Item { Money price = 1; google.protobuf.Timestamp at = 2; }\n"
)
_ORDER_PROTO = 'syntax = "proto3";\npackage shop;\nimport "shop/item.proto";\nmessage Order { Item item = 1; }\n'

_MONEY_JSON = '{"$id":"https://shop.test/money.json","type":"object","properties":{"cents":{"type":"integer"}}}'
_ITEM_JSON = '{"$id":"https://shop.test/item.json","properties":{"price":{"$ref":"https://shop.test/money.json"}}}'
_ORDER_JSON = '{"type":"object","properties":{"item":{"$ref":"https://shop.test/item.json"}}}'


def test_avro_comes_with_what_it_refers_to_two_levels_below(schema_registry: SchemaRegistry, subject: Subject) -> None:
    money, item, order = subject("money"), subject("item"), subject("a b/ü%:order")
    to_money = SchemaReference("shop.Money", money, 1)
    schema_registry.register(money, "avro", _MONEY)
    schema_registry.register(item, "avro", _ITEM, [to_money])
    found = schema_registry.register(order, "avro", _ORDER, [SchemaReference("shop.Item", item, 1), to_money])
    needed = (NamedSchema("shop.Money", _MONEY), NamedSchema("shop.Item", _ITEM))
    expected = RegisteredSchema(found, "avro", _ORDER, needed)
    assert schema_registry(found) == expected
    newest = schema_registry.newest(order)
    assert newest is not None and (newest.version, newest.schema) == (1, expected)
    assert schema_registry.usages(found) == ((order, 1),)
    assert order in schema_registry.subjects()


def test_protobuf_comes_with_its_imports(schema_registry: SchemaRegistry, subject: Subject) -> None:
    money, item, order = subject("shop/money.proto"), subject("shop/item.proto"), subject()
    schema_registry.register(money, "protobuf", _MONEY_PROTO)
    schema_registry.register(item, "protobuf", _ITEM_PROTO, [SchemaReference("shop/money.proto", money, 1)])
    found = schema_registry.register(order, "protobuf", _ORDER_PROTO, [SchemaReference("shop/item.proto", item, 1)])
    needed = (NamedSchema("shop/money.proto", _MONEY_PROTO), NamedSchema("shop/item.proto", _ITEM_PROTO))
    assert schema_registry(found) == RegisteredSchema(found, "protobuf", _ORDER_PROTO, needed)


def test_json_schema_comes_with_what_its_refs_name(schema_registry: SchemaRegistry, subject: Subject) -> None:
    money, item, order = subject(), subject(), subject()
    schema_registry.register(money, "json", _MONEY_JSON)
    schema_registry.register(item, "json", _ITEM_JSON, [SchemaReference("https://shop.test/money.json", money, 1)])
    to_item = SchemaReference("https://shop.test/item.json", item, 1)
    found = schema_registry.register(order, "json", _ORDER_JSON, [to_item])
    needed = (
        NamedSchema("https://shop.test/money.json", _MONEY_JSON),
        NamedSchema("https://shop.test/item.json", _ITEM_JSON),
    )
    assert schema_registry(found) == RegisteredSchema(found, "json", _ORDER_JSON, needed)


def test_what_gives_the_text_back_changes_nothing_of_its_meaning(
    schema_registry: SchemaRegistry, subject: Subject
) -> None:
    """Apicurio gives Avro back as Avro's Java library spells it: only order and blanks may differ."""
    text = _record(
        "Everything",
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}, "doc": "d", "default": 0},
        {"name": "sum", "aliases": ["total"], "order": "ignore", "default": None, "custom": {"a": [1]},
         "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"], "default": "A"}},
        {"name": "of", "type": {"type": "fixed", "name": "Of", "size": 12, "logicalType": "duration"}},
        {"name": "odd", "type": {"type": "int", "logicalType": "of-somebody", "avro.java.string": "String"}},
        {"name": "text", "type": "string", "default": "ü\n\"\\\u2028😀"},
        {"name": "bytes", "type": "bytes", "default": "\u00ff\u0000"},
        {"name": "real", "type": "double", "default": 1e300},
        {"name": "large", "type": "long", "default": 9223372036854775807},
    )  # fmt: skip
    spaced = json.dumps(json.loads(text), indent=2)
    found = schema_registry(schema_registry.register(subject(), "avro", spaced))
    assert json.loads(found.text) == json.loads(text)


def test_versions_keep_their_ids_and_equal_schemas_share_one(schema_registry: SchemaRegistry, subject: Subject) -> None:
    one, other = subject(), subject()
    first = schema_registry.register(one, "avro", _MONEY)
    more = _record("Money", {"name": "cents", "type": "long"}, {"name": "currency", "type": "string", "default": "EUR"})
    second = schema_registry.register(one, "avro", more)
    assert first != second and schema_registry.register(one, "avro", _MONEY) == first
    assert schema_registry.versions(one) == (1, 2)
    found = [schema_registry.version(one, number) for number in (1, 2, 3)]
    assert [None if one is None else one.schema.schema_id for one in found] == [first, second, None]
    assert schema_registry.register(other, "avro", more) == second
    assert {(one, 2), (other, 1)} <= set(schema_registry.usages(second))


def test_what_is_not_there_is_nothing_and_an_unknown_id_an_error(
    schema_registry: SchemaRegistry, subject: Subject
) -> None:
    missing = subject()
    assert schema_registry.versions(missing) == () and schema_registry.newest(missing) is None
    for unknown in (0, 999_999_999, 2**31, 2**32 - 1):
        with pytest.raises(UnknownSchemaError, match=f"no schema of the id {unknown}"):
            schema_registry(unknown)
    with pytest.raises(UnknownSchemaError):
        schema_registry.usages(999_999_999)


@pytest.mark.parametrize(
    ("schema_format", "text", "changed", "words"),
    [
        ("avro", _MONEY, _record("Money", {"name": "euros", "type": "long"}), "euros"),
        ("protobuf", _MONEY_PROTO, _MONEY_PROTO.replace("int64", "string"), "int64 , after string"),
        ("json", _MONEY_JSON, _MONEY_JSON.replace("integer", "string"), "type changed at /properties/cents"),
    ],
)
def test_a_version_that_is_not_compatible_is_refused_in_the_registrys_words(
    schema_registry: SchemaRegistry, subject: Subject, schema_format: str, text: str, changed: str, words: str
) -> None:
    name, kind = subject(), schema_format
    assert schema_registry.check_compatibility(name, kind, changed).is_compatible  # type: ignore[arg-type]
    schema_registry.register(name, kind, text)  # type: ignore[arg-type]
    assert schema_registry.compatibility_mode(name) == "BACKWARD"
    assert schema_registry.check_compatibility(name, kind, text).is_compatible  # type: ignore[arg-type]
    assert not schema_registry.check_compatibility(name, kind, changed).is_compatible  # type: ignore[arg-type]
    with pytest.raises(SchemaNotAcceptedError, match=f"subject {name}: .*{words}.*compatibility mode"):
        schema_registry.register(name, kind, changed)  # type: ignore[arg-type]
    assert schema_registry.versions(name) == (1,)
    schema_registry.register(name, kind, changed, compatibility="NONE")  # type: ignore[arg-type]
    assert schema_registry.compatibility_mode(name) == "NONE"


def test_a_mode_may_be_set_before_the_first_version(schema_registry: SchemaRegistry, subject: Subject) -> None:
    name = subject()
    schema_registry.register(name, "avro", _MONEY, compatibility="FORWARD")
    assert schema_registry.compatibility_mode(name) == "FORWARD"
    schema_registry.register(
        name, "avro", _record("Money", {"name": "cents", "type": "long"}, {"name": "n", "type": "int"})
    )
    with pytest.raises(SchemaNotAcceptedError):
        schema_registry.register(name, "avro", _record("Money", {"name": "n", "type": "int"}))


@pytest.mark.parametrize(
    ("schema_format", "text"),
    [("avro", '{"type": "nonsense"}'), ("avro", _ITEM), ("protobuf", "message {"), ("json", "{")],
)
def test_what_is_no_schema_is_not_accepted(
    schema_registry: SchemaRegistry, subject: Subject, schema_format: str, text: str
) -> None:
    with pytest.raises(SchemaNotAcceptedError):
        schema_registry.register(subject(), schema_format, text)  # type: ignore[arg-type]


def test_a_reference_to_nothing_is_not_accepted(schema_registry: SchemaRegistry, subject: Subject) -> None:
    with pytest.raises(SchemaNotAcceptedError, match="nresolved reference"):
        schema_registry.register(subject(), "avro", _ITEM, [SchemaReference("shop.Money", subject(), 1)])


def test_an_account_and_tls_before_the_registry(
    schema_registry: SchemaRegistry, subject: Subject, tmp_path: Path
) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    expected = "Basic " + base64.b64encode(b"shop:secret").decode()
    with serving(forward(schema_registry.access.urls[0], expected), tls) as url:
        options = {"ssl.ca.location": str(tmp_path / "ca.pem"), "basic.auth.user.info": "shop:secret"}
        behind = _from_options(url, options)
        found = behind.register(subject(), "avro", _MONEY)
        assert pickle.loads(pickle.dumps(behind))(found) == schema_registry(found)
        with pytest.raises(RegistryRefusedError, match="refuses the account"):
            _from_options(url, options | {"basic.auth.user.info": "shop:wrong"}).subjects()
        with pytest.raises(RegistryRefusedError, match="TLS"):
            _from_options(url, {"basic.auth.user.info": "shop:secret"}).subjects()


def test_another_path_of_the_registry_is_no_registry(schema_registry: SchemaRegistry) -> None:
    url = schema_registry.access.urls[0].removesuffix("/apis/ccompat/v7")
    with pytest.raises(RegistryRefusedError, match=r"answers with status 404.*/apis/ccompat/v7"):
        _from_options(url, {}).subjects()


def test_a_killed_registry_comes_back_with_its_ids_while_its_clients_wait(
    schema_registry: SchemaRegistry, registry_home: Path, subject: Subject
) -> None:
    embedded, name = EmbeddedRegistry(registry_home), subject()
    before = embedded.state()
    assert before is not None
    found = schema_registry.register(name, "avro", _MONEY, compatibility="FULL")
    text = _record("Money", {"name": subject("n").replace("-", "_"), "type": "int", "default": 0})
    unseen = schema_registry.register(subject(), "avro", text)
    os.kill(before.jvm.pid, signal.SIGKILL)
    while is_alive(before.jvm):
        time.sleep(0.01)
    assert schema_registry(unseen).text == text  # which waits
    after = embedded.state()
    assert after is not None and (after.port, after.jvm == before.jvm) == (before.port, False)
    assert schema_registry.versions(name) == (1,) and schema_registry.compatibility_mode(name) == "FULL"
    assert schema_registry.register(subject(), "avro", _MONEY) == found
    newest = schema_registry.register(subject(), "avro", text.replace("int", "long"))
    assert newest > unseen, "an id was given out twice"


def test_the_settings_lead_to_it_and_another_user_finds_it(
    schema_registry: SchemaRegistry, registry_home: Path
) -> None:
    settings = Settings(home=registry_home, schema_registry_url="embedded", kafka_bootstrap_servers="")
    with running_registry(settings) as registry:
        assert registry == schema_registry
    assert EmbeddedRegistry(registry_home).url == schema_registry.access.urls[0]
    configured = Settings.model_validate({"home": registry_home / "none", "schema_registry_url": "http://a:8081"})
    with running_registry(configured) as registry:
        assert registry.access.urls == ("http://a:8081",)
    with pytest.raises(SettingError), running_registry(Settings(home=registry_home / "none")):
        pass
    assert not (registry_home / "none").exists()


def test_it_listens_on_the_loopback_interface_only(schema_registry: SchemaRegistry, registry_home: Path) -> None:
    import psutil

    state = EmbeddedRegistry(registry_home).state()
    assert state is not None
    listening = [one.laddr for one in psutil.Process(state.jvm.pid).net_connections("inet") if one.status == "LISTEN"]
    assert urlsplit(schema_registry.access.urls[0]).port in {place.port for place in listening}
    assert {place.ip.removeprefix("::ffff:") for place in listening} == {"127.0.0.1"}


def test_a_process_of_its_own_reads_with_the_value(schema_registry: SchemaRegistry, subject: Subject) -> None:
    found = schema_registry.register(subject(), "avro", _MONEY)
    program = "import pickle, sys; registry = pickle.load(sys.stdin.buffer); print(registry(int(sys.argv[1])).text)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(found)],
        input=pickle.dumps(schema_registry),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    assert done.stdout.decode().strip() == _MONEY


def _from_options(url: str, options: dict[str, str]) -> SchemaRegistry:
    return SchemaRegistry.from_settings(
        Settings.model_validate({"schema_registry_url": url, "schema_registry_config": json.dumps(options)})
    )
