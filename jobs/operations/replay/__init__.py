"""Replay: recomputes a derived stream's table next to the live one, compares both, and swaps them."""
