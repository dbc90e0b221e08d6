"""The platform's own tables about queries: their progress, and which commits each has read."""
