"""Replay: a derived stream's table made again beside the live one, compared with it, and put in its place."""
