"""The catalogue of topics: every module in this folder that defines `TOPIC` is one. A new topic is a new file."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from platform_assets.errors import TopicSpecError
from platform_assets.streaming.topic_spec import Topic
from resources.settings import load_settings


def load_topics() -> tuple[Topic, ...]:
    """All topics, by name. A module may have `build_topic(settings)` too, where a setting says what the topic is.

    Raises `TopicSpecError`, with file and line, for one that cannot be used, and for two that share a table or a topic
    of the broker; `SettingError` as `load_settings`.
    """
    found = [(_read(module), module) for module in _import_all()]
    for what in ("name", "kafka_topic"):
        seen: dict[str, ModuleType] = {}
        for topic, module in found:
            value = getattr(topic, what)
            if (first := seen.setdefault(value, module)) is not module:
                path = Path(first.__file__ or "").name
                raise _locate(TopicSpecError(f"{path} has the {what} {value!r} as well.", what), module.__file__)
    return tuple(sorted((topic for topic, _ in found), key=lambda topic: topic.name))


def _import_all() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(__path__):
        name = f"{__name__}.{found.name}"
        try:
            module = importlib.import_module(name)
        except TopicSpecError as error:
            raise _locate(error, str(Path(__path__[0]) / f"{found.name}.py")) from None
        if hasattr(module, "TOPIC"):
            yield module


def _read(module: ModuleType) -> Topic:
    topic = module.build_topic(load_settings()) if hasattr(module, "build_topic") else module.TOPIC
    if not isinstance(topic, Topic):
        raise _locate(TopicSpecError("TOPIC must be a Topic.", "TOPIC"), module.__file__)
    return topic


def _locate(error: TopicSpecError, path: str | None) -> TopicSpecError:
    """The error with file and line: of the field or the argument that it is about, else of the call that raised it."""
    if path is None:
        return error
    raised = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = _find_line(ast.parse(Path(path).read_text(encoding="utf-8")), error.about) or (raised or [1])[-1]
    return TopicSpecError(f"{path}, line {line}: {error}", error.about)


def _find_line(tree: ast.Module, about: str) -> int | None:
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.stmt)):
        is_field = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == about
        is_class = isinstance(node, ast.ClassDef) and node.name == about
        is_value = isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == about for t in node.targets)
        if is_field or is_class or is_value:
            return node.lineno
    arguments = (node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == about)
    return next((node.value.lineno for node in arguments), None)
