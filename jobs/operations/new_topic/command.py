"""`headrace new-topic`: writes a topic, a first stream, a group and a test, from samples of the topic's records."""

from __future__ import annotations

import importlib.util
import keyword
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import platform_assets.topics
from jobs.operations.new_topic.draft import Draft, draft_topic, has_no_year
from jobs.operations.new_topic.sample_test import choose_samples, write_test
from jobs.operations.new_topic.samples import Samples, read_samples
from jobs.operations.new_topic.stream_file import choose_trigger, name_stream, write_group, write_stream
from jobs.operations.new_topic.topic_file import write_topic
from platform_assets.errors import UsageError
from platform_assets.groups import load_all_groups
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.topic_spec import Topic
from platform_assets.streams import load_all_streams
from platform_assets.topics import load_topics

if TYPE_CHECKING:
    from platform_assets.streaming.ingest.record_contract import RecordContract

# The stream's own default: a larger value is quarantined, and no sample of a contract.
_MAX_BYTES = 1_048_576
_MODULE = "_drafted_topic"
LONGEST_NAME = 40
"""A longer one does not fit into the lines of the files that have it three times."""


def create_topic(name: str, path: Path, kafka_topic: str, say: Callable[[str], None]) -> list[Path]:
    """Writes the files of the topic `name` into the project, and says what was decided. Returns their paths.

    Raises `UsageError` for samples that cannot be used, a name that is taken, and a file that is there already: then
    nothing is written.
    """
    root = Path(next(iter(platform_assets.topics.__path__))).parents[1]
    kafka_topic = kafka_topic or name.replace("_", "-")
    _require_new(name, kafka_topic)
    samples = read_samples(path)
    draft = draft_topic(name, kafka_topic, samples)
    stream = name_stream(draft)
    text = write_topic(draft, len(samples.values))
    topic = load_topic(text)
    _require_own_tables(topic, stream)
    judge = build_judge(topic)
    reasons = [judge(value) for value in samples.raw]
    accepted = [value for value, reason in zip(samples.raw, reasons, strict=True) if not reason]
    if not accepted:
        raise UsageError(f"The topic of {path} would accept none of its records: {judge.explain(samples.raw[0])}.")
    files = {
        root / f"platform_assets/topics/{name}.py": text,
        root / f"platform_assets/streams/{stream}.py": write_stream(
            draft, choose_trigger(each.trigger_seconds for each in load_all_streams())
        ),
        root / f"platform_assets/groups/{name}.py": write_group(draft),
        root / f"tests/unit/test_topic_{name}.py": write_test(draft, choose_samples(accepted), judge),
    }
    written = _write_files(files, root)
    for sentence in (*_tell(draft, samples), *_tell_verdicts(samples, reasons, judge)):
        say(sentence)
    for file in written:
        say(f"Written: {file.relative_to(root)}")
    return written


class Judge:
    """Gives the reason for which a value of the topic is quarantined, empty for one that is accepted."""

    def __init__(self, contract: RecordContract) -> None:
        self._contract = contract
        self._now = time.time_ns() // 1000

    def __call__(self, value: bytes) -> str:
        """Gives the reason, which is empty for an accepted value."""
        return self._judge(value)[0]

    def explain(self, value: bytes) -> str:
        """Gives the reason with its detail."""
        return ": ".join(filter(None, self._judge(value)))

    def _judge(self, value: bytes) -> tuple[str, str]:
        from platform_assets.streaming.ingest.reasons import RejectedRecordError

        try:
            self._contract.parse(value, _MAX_BYTES, self._now, EventRules())
        except RejectedRecordError as error:
            return error.reason, error.detail
        return "", ""


def build_judge(topic: Topic) -> Judge:
    """The judge of a topic's values, which arrive at this moment."""
    from platform_assets.streaming.ingest.record_contract import RecordContract

    return Judge(RecordContract(topic))


def load_topic(text: str) -> Topic:
    """The topic of a file that is not written yet."""
    module = ModuleType(_MODULE)
    sys.modules[_MODULE] = module  # where the types of its records are looked up
    exec(compile(text, f"<{_MODULE}>", "exec"), module.__dict__)
    topic: Topic = module.__dict__["TOPIC"]
    _ = topic.fields
    return topic


def _require_new(name: str, kafka_topic: str) -> None:
    if not re.fullmatch(f"[a-z][a-z0-9_]{{0,{LONGEST_NAME - 1}}}", name) or keyword.iskeyword(name):
        said = f"must be small letters, digits and _, {LONGEST_NAME} at most, and no keyword of Python's"
        raise UsageError(f"The topic's name {name!r} {said}.")
    for topic in load_topics():
        if name == topic.name or kafka_topic == topic.kafka_topic:
            raise UsageError(f"There is a topic {topic.name} over {topic.kafka_topic or 'HEADRACE_TOPIC'} already.")
    if name in {group.name for group in load_all_groups()}:
        raise UsageError(f"There is a group {name} already. Give the topic another name.")


def _require_own_tables(topic: Topic, stream: str) -> None:
    """Refuses what would have the name of a stream that there is, or one of its tables."""
    others = load_all_streams()
    if taken := {topic.name, stream} & {each.name for each in others}:
        raise UsageError(f"There is a stream {taken.pop()} already. Give the topic another name.")
    tables = {table.name for each in others for table in each.tables}
    if shared := {*(table.name for table in topic.tables), f"gold.{stream}"} & tables:
        raise UsageError(f"There is a table {shared.pop()} already. Give the topic another name.")


def _write_files(files: Mapping[Path, str], root: Path) -> list[Path]:
    kept = {file: text for file, text in files.items() if file.parents[1] != root / "tests" or file.parent.is_dir()}
    if there := [str(file.relative_to(root)) for file in kept if file.exists()]:
        raise UsageError(f"{', '.join(there)}: there already, and never overwritten. Remove it, or take another name.")
    for file, text in kept.items():
        file.write_text(text, encoding="utf-8")
    if importlib.util.find_spec("ruff") is not None:
        command = [sys.executable, "-m", "ruff", "format", "--quiet", *map(str, kept)]
        subprocess.run(command, cwd=root, check=False)
    return list(kept)


def _tell(draft: Draft, samples: Samples) -> Iterator[str]:
    yield from draft.notes
    yield f"event time: {draft.time_field}, {_tell_time(draft)}."
    if draft.event_id:
        together = " together" if len(draft.event_id) > 1 else ""
        yield (
            f"event id: {', '.join(draft.event_id)}{together}, for no two of {len(set(samples.raw)):,} different "
            "records share it. Look whether any ever may: the later one would be taken out as a repetition."
        )
    else:
        yield (
            "event id: none, for no field is surely unique and free of placeholders such as 0. Nothing is "
            "deduplicated until event_id names one."
        )
    nobody = "none, so that forget-user has nothing to erase. Set it where a person is named"
    yield f"subject: {draft.subject or nobody}."
    yield f"event type: {draft.event_type or 'none'}."
    for each in draft.fields:
        if each.examples:
            yield (
                f"{each.name} has {len(each.examples)} different texts ({', '.join(each.examples)}). It stays a str: "
                "write Literal[...] where any other is wrong and may be quarantined."
            )
    optional = [each.name for each in draft.fields if not each.is_required]
    yield f"Not in every record, or null in some: {', '.join(optional)}." if optional else "Every field is required."


def _tell_time(draft: Draft) -> str:
    if has_no_year(draft):
        return "without a year (RFC 3164): it gets the one that puts it into the last twelve months"
    if draft.time.unit:
        return f"counted in {draft.time.unit} since 1970"
    return f"in the format {draft.time.format}" if draft.time.format else "in ISO 8601"


def _tell_verdicts(samples: Samples, reasons: Sequence[str], judge: Judge) -> Iterator[str]:
    refused = Counter(filter(None, reasons))
    if not refused:
        yield f"All {len(samples.raw):,} samples are accepted by the topic."
    for reason, count in refused.most_common():
        place = reasons.index(reason)
        yield (
            f"{count:,} of {len(samples.raw):,} samples would be quarantined. The first is "
            f"{samples.places[place]}: {judge.explain(samples.raw[place])}."
        )
    yield f"The test holds {min(3, len(samples.raw))} of your samples: take out what must not lie with the code."
    few = "" if len(samples.raw) >= 100 else f" From {len(samples.raw)} samples little is known: give some hundred."
    yield f"Read the descriptions of the fields, and say what they mean.{few}"
