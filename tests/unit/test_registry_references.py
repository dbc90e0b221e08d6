"""A schema comes with all that it refers to, each before those that name it, whatever the references look like."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.errors import UnknownSchemaError
from resources.registry.access import RegistryAccess
from resources.registry.schemas import fetch_schema
from tests.registry_servers import Handler, reply, serving

Edges = dict[str, list[str]]


class _Registry:
    """Serves subjects of one version; `edges` say which refer to which. Each text is `<subject>`."""

    def __init__(self) -> None:
        self.url = ""
        self.edges: Edges = {}
        self.names: Callable[[str], str] = str
        self.asked: list[str] = []

    def handle(self, request: Handler) -> None:
        path = unquote(request.path.partition("?")[0])
        subject = (
            "root" if path.startswith("/schemas/ids/") else path.split("/subjects/")[1].rpartition("/versions/")[0]
        )
        self.asked.append(subject)
        if subject not in self.edges:
            reply(request, {"error_code": 40401, "message": "Subject not found"}, 404)
            return
        references = [{"name": self.names(one), "subject": one, "version": 1} for one in self.edges[subject]]
        content: dict[str, Any] = {"schema": f"<{subject}>", "schemaType": "PROTOBUF"}
        reply(request, content | ({"references": references} if references else {}))

    def fetch(self, edges: Edges) -> list[tuple[str, str]]:
        self.edges, self.asked = edges, []
        found = fetch_schema(RegistryAccess((self.url,)), 1, 0.0)
        assert found.text == "<root>"
        return [(one.name, one.text) for one in found.references]


@pytest.fixture(scope="module")
def registry() -> Iterator[_Registry]:
    found = _Registry()
    with serving(found.handle) as url:
        found.url = url
        yield found


@st.composite
def _graphs(draw: st.DrawFn) -> Edges:
    """Acyclic: each refers to later ones only, in any order, some twice."""
    subjects = ["root", *(f"s/{number} ü.proto" for number in range(draw(st.integers(0, 6))))]
    return {
        subject: draw(st.lists(st.sampled_from(subjects[place + 1 :]), max_size=4)) if subjects[place + 1 :] else []
        for place, subject in enumerate(subjects)
    }


@given(edges=_graphs())
def test_references_come_before_those_that_name_them_and_each_is_fetched_once(
    registry: _Registry, edges: Edges
) -> None:
    found = [name for name, text in registry.fetch(edges) if text == f"<{name}>"]
    # The oracle: what paths from the root lead to, by repeated multiplication of the relation with itself.
    reached = set(edges["root"])
    for _ in edges:
        reached |= set(itertools.chain.from_iterable(edges[one] for one in reached))
    assert sorted(found) == sorted(reached)
    places = {name: place for place, name in enumerate(found)}
    assert all(places[needed] < places[one] for one in found for needed in edges[one])
    assert sorted(registry.asked) == sorted(["root", *reached])


def test_a_reference_that_leads_back_is_named(registry: _Registry) -> None:
    with pytest.raises(UnknownSchemaError, match="refers to version 1 of the subject a, which refers to itself"):
        registry.fetch({"root": ["a"], "a": ["b"], "b": ["a"]})


def test_a_reference_that_is_gone_is_named(registry: _Registry) -> None:
    with pytest.raises(UnknownSchemaError, match="refers to version 1 of the subject b, which the registry does not"):
        registry.fetch({"root": ["a"], "a": ["b"]})


def test_one_name_for_two_texts_is_refused_and_two_names_for_one_text_are_not(registry: _Registry) -> None:
    registry.names = lambda subject: subject[:1]
    try:
        with pytest.raises(UnknownSchemaError, match="refers to two schemas of the name m"):
            registry.fetch({"root": ["m1", "m2"], "m1": [], "m2": []})
    finally:
        registry.names = str


def test_references_without_an_end_are_given_up(registry: _Registry) -> None:
    chain: Edges = {"root": ["0"], **{str(n): [str(n + 1)] for n in range(301)}, "301": []}
    with pytest.raises(UnknownSchemaError, match="refers to more than 300 others"):
        registry.fetch(chain)
    del chain["301"]
    chain["299"] = []
    assert len(registry.fetch(chain)) == 300
