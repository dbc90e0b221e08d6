"""Makes records of opened values: in bulk, and one by one where one of them is no plain record of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from platform_assets.streaming.formats.plain_values import Adaptation, Plain, write_json
from platform_assets.streaming.ingest.opened_values import OpenedValues
from platform_assets.streaming.ingest.reasons import RejectedRecordError
from platform_assets.streaming.ingest.record_contract import NOT_PLAIN, RecordContract


class OpenedRecords:
    """The records of a batch of opened values. `unknown`: JSON of what no field takes, by row, once `fill` was called.

    Of one batch, on one thread.
    """

    def __init__(self, opened: OpenedValues, contract: RecordContract) -> None:
        self.unknown: dict[int, str] = {}
        self._opened, self._contract = opened, contract
        self._plain = {row: plain for _, rows, plains in opened.groups for row, plain in zip(rows, plains, strict=True)}

    def fill(self, count: int) -> tuple[list[Any], set[int]]:
        """A record for each row, and which rows are judged one by one, by their JSON text."""
        records: list[Any] = [self._contract.nothing] * count
        odd = self._opened.partial.union(self._opened.refused)
        for adaptation, rows, plains in self._opened.groups:
            for row, record in zip(rows, self._convert(adaptation, rows, plains), strict=True):
                if record is None:
                    odd.add(row)
                else:
                    records[row] = record
        for row, text in self._opened.texts.items():
            if row in odd:
                continue
            try:
                records[row] = self._contract.decode_plain(text)
            except NOT_PLAIN:
                odd.add(row)
        return records, odd

    def read_text(self, row: int) -> bytes:
        """The JSON form of a row's value. Raises `RejectedRecordError` for one that could not be opened."""
        if (error := self._opened.refused.get(row)) is not None:
            raise RejectedRecordError(error.reason, error.detail)
        text = self._opened.texts.get(row)
        return write_json(self._plain[row]) if text is None else text

    def _convert(self, adaptation: Adaptation, rows: Sequence[int], plains: Sequence[Plain]) -> list[Any]:
        """The records of plain values; None for one that is not plain."""
        known: Sequence[Plain] = plains
        if adaptation.unknown:
            known = [dict(plain) for plain in plains]
            taken = map(adaptation.take_unknown, known)
            self.unknown |= {row: text for row, text in zip(rows, taken, strict=True) if text is not None}
        return [self._convert_one(plain) for plain in known]

    def _convert_one(self, plain: Plain) -> Any:
        try:
            return self._contract.convert_plain(plain)
        except NOT_PLAIN:
            return None
