"""Sinks: tables of the lakehouse kept in step in a Postgres, exactly once by the Delta table's version.

| layer | file | answers for |
|---|---|---|
| values | `target.py` | the table in Postgres that a table's spec asks for |
| Delta | `table_log.py`, `file_rows.py`, `changed_rows.py` | files that versions added and removed, rows that differ |
| Delta | `table_version.py` | the table as a whole at one version, in portions |
| Postgres | `copy_text.py`, `accounts.py`, `target_table.py` | rows for COPY, the applied version, the table itself |
| work | `sink.py`, `sink_group.py` | one table's next transaction; all of a host |
| work | `followers.py` | the threads that a host runs, for sinks, alerts and publishers |
| verdict | `comparison.py` | what differs between the target, the account and the Delta table |
| catalogue | `catalogue.py` | which tables the settings name |
"""
