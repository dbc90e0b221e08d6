"""Forgetting a user: rows out of every table, files removed, the rest computed again, and a proof by the files."""
