"""A process that merges batches into current rows: `python -m tests.integration.merging_writer FOLDER`.

The lakehouse is that of the environment. The batches are files of the folder. As Spark does, it notes a batch after its
commit, and begins with the first one that is not noted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.current_rows import LATEST_BY
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings
from tests.accounts import CURRENT


def main(folder: Path) -> None:
    """Says on standard output which batch begins and which is noted."""
    lakehouse = LakehouseResource.from_settings(load_settings())
    options = lakehouse.storage_options()
    context = StreamContext(lakehouse.root_uri, {}, "earliest", 1, 1.0, 1, None, storage_options=options)
    table, note = DeltaBatchWriter(CURRENT.main_table, context), folder / "noted"
    first = int(note.read_text()) + 1 if note.exists() else 0
    for number in range(first, len(list(folder.glob("*.parquet")))):
        rows = pq.read_table(folder / f"{number}.parquet")
        print("begins", number, flush=True)
        info = CommitInfo.of_batch(CURRENT.name, "app", number, source={"version": number})
        table.put_latest(rows, LATEST_BY, info)
        draft = folder / "draft"
        draft.write_text(str(number))
        draft.replace(note)
        print("noted", number, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
