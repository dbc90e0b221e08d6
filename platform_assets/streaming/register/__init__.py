"""Users who are to be forgotten, and where their names may stand. Nothing here removes anything."""
