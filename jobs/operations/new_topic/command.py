"""`headrace new-topic`: writes a topic, a first stream, a group and a test, from samples of the topic's records."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.operations.new_topic.draft import Draft, draft_topic, has_no_year
from jobs.operations.new_topic.project_files import load_topic, require_new, require_own_tables, write_files
from jobs.operations.new_topic.sample_test import choose_samples, write_test
from jobs.operations.new_topic.samples import Samples, read_samples
from jobs.operations.new_topic.stream_file import name_stream
from jobs.operations.new_topic.topic_file import write_topic
from platform_assets.errors import UsageError
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.topic_spec import Topic

if TYPE_CHECKING:
    from platform_assets.streaming.ingest.record_contract import RecordContract

# The stream's own default: a larger value is quarantined, and no sample of a contract.
_MAX_BYTES = 1_048_576


def create_topic(name: str, path: Path, kafka_topic: str, say: Callable[[str], None]) -> list[Path]:
    """Writes the files of the topic `name` into the project, and says what was decided. Returns their paths in it.

    Raises `UsageError` for samples that cannot be used, a name that is taken, and a file that is there already: then
    nothing is written.
    """
    kafka_topic = kafka_topic or name.replace("_", "-")
    require_new(name, kafka_topic)
    samples = read_samples(path)
    draft = draft_topic(name, kafka_topic, samples)
    text = write_topic(draft, f"By {len(samples.values):,} samples; docs/adding-a-topic.md.")
    topic = load_topic(text)
    require_own_tables(topic, name_stream(draft))
    judge = build_judge(topic)
    reasons = [judge(value) for value in samples.raw]
    accepted = [value for value, reason in zip(samples.raw, reasons, strict=True) if not reason]
    if not accepted:
        raise UsageError(f"The topic of {path} would accept none of its records: {judge.explain(samples.raw[0])}.")
    written = write_files(draft, text, write_test(draft, choose_samples(accepted), judge))
    for sentence in (*_tell(draft, samples), *_tell_verdicts(samples, reasons, judge)):
        say(sentence)
    for file in written:
        say(f"Written: {file}")
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
