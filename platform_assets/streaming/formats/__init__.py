"""Values that are no plain JSON: schemas of a registry, and what their bytes say."""
