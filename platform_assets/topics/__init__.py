"""The catalogue of topics: every module in this folder that defines `TOPIC` is one. A new topic is a new file."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import traceback
from collections.abc import Iterator, Mapping
from importlib.machinery import FileFinder
from pathlib import Path
from types import ModuleType

from platform_assets.errors import HeadraceError, TopicSpecError
from platform_assets.streaming.topic_spec import Topic
from resources.settings import load_settings


def load_topics() -> tuple[Topic, ...]:
    """All topics, by name. A module may have `build_topic(settings)` too, where a setting says what the topic is.

    Raises `TopicSpecError`, with file and line, for one that cannot be used, and for two that share a table or a topic
    of the broker; `SettingError` as `load_settings`.
    """
    found = {path: _read(module, path) for path, module in _import_all()}
    for argument in ("name", "kafka_topic"):
        seen: dict[str, Path] = {}
        for path, topic in found.items():
            value = getattr(topic, argument)
            if (first := seen.setdefault(value, path)) is not path:
                error = TopicSpecError(f"{first.name} has the {argument} {value!r} as well.", argument=argument)
                raise _locate(error, path)
    _require_own_tables(found)
    return tuple(sorted(found.values(), key=lambda topic: topic.name))


def _require_own_tables(found: Mapping[Path, Topic]) -> None:
    """Raises `TopicSpecError` for two topics with one table, as `quarantined_x` and `x` have."""
    owners: dict[str, Path] = {}
    for path, topic in found.items():
        for table in topic.tables:
            if (first := owners.setdefault(table.name, path)) is not path:
                raise _locate(
                    TopicSpecError(f"{first.name} has the table {table.name} as well.", argument="name"), path
                )


def _import_all() -> Iterator[tuple[Path, ModuleType]]:
    for found in pkgutil.iter_modules(__path__):
        assert isinstance(found.module_finder, FileFinder)
        path = Path(found.module_finder.path) / f"{found.name}.py"
        try:
            module = importlib.import_module(f"{__name__}.{found.name}")
        except TopicSpecError as error:
            raise _locate(error, path) from None
        except SyntaxError as error:
            raise TopicSpecError(f"{path}, line {error.lineno}: {error.msg}.") from None
        except HeadraceError:
            raise
        except Exception as error:  # whatever the file's own lines raise
            raise _locate(TopicSpecError(f"{type(error).__name__}: {error}."), path, error) from error
        if hasattr(module, "TOPIC"):
            yield path, module


def _read(module: ModuleType, path: Path) -> Topic:
    topic = module.build_topic(load_settings()) if hasattr(module, "build_topic") else module.TOPIC
    if not isinstance(topic, Topic):
        raise _locate(TopicSpecError("TOPIC must be a Topic.", field="TOPIC"), path)
    return topic


def _locate(error: TopicSpecError, path: Path, cause: Exception | None = None) -> TopicSpecError:
    """The error with file and line: of the field or the argument that is wrong, else of the call that raised it.

    `cause` is what was raised there, if it was another error.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    raised = [
        frame.lineno for frame in traceback.extract_tb((cause or error).__traceback__) if frame.filename == str(path)
    ]
    line = _find_field(tree, error.field) or _find_argument(tree, error.argument) or (raised or [1])[-1]
    return TopicSpecError(f"{path}, line {line}: {error}", field=error.field, argument=error.argument)


def _find_field(tree: ast.Module, name: str) -> int | None:
    """The line of a field, of a record, or of a value of the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node.lineno
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        for target in targets:
            if isinstance(target, ast.Name) and target.id == name:
                return target.lineno
    return None


def _find_argument(tree: ast.Module, name: str) -> int | None:
    """The line of an argument of the topic."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Name) and call.func.id == "Topic":
            return next((keyword.value.lineno for keyword in call.keywords if keyword.arg == name), None)
    return None
