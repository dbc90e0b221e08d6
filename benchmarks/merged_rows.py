"""What a merge into current rows costs, by where its keys lie: 1,000 changes into a table of ten files in key order.

Each merge is made with the condition of the streams (null is a value as any other) and with plain equality, for which
delta-rs derives bounds on the key; the files have statistics of the key. Run: `make bench ARGS=merged_rows`.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

_FILES, _CHANGES = 10, 1_000
_CONDITIONS = {"of the streams": "t.k is not distinct from s.k", "equality": "t.k = s.k"}


def main() -> None:
    """Prints CPU-seconds and copied rows of each merge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    chance = random.Random(1)
    for name, condition in _CONDITIONS.items():
        for where, first in (("all keys", 0), ("the newest tenth", rows * 9 // 10)):
            with tempfile.TemporaryDirectory() as place:
                _build(place, rows)
                keys = chance.sample(range(first, rows), _CHANGES)
                began = _read_cpu()
                merger = DeltaTable(place).merge(_make_rows(keys, 1), condition, source_alias="s", target_alias="t")
                found = merger.when_matched_update_all("s.v > t.v").when_not_matched_insert_all().execute()
                copied = found["num_target_rows_copied"]
                print(
                    f"{name}, {where}: {_read_cpu() - began:.2f} CPU-s, {copied:,} of {rows:,} rows copied", flush=True
                )


def _build(place: str, rows: int) -> None:
    part = rows // _FILES
    for number in range(_FILES):
        write_deltalake(place, _make_rows(range(number * part, (number + 1) * part), 0), mode="append")


def _make_rows(keys: range | list[int], value: int) -> pa.Table:
    texts = [f"a text of some length, {key}" for key in keys]
    return pa.table({"k": pa.array(keys, pa.int64()), "v": pa.array([value] * len(texts), pa.int64()), "text": texts})


def _read_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
