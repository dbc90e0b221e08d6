"""The procedure of each command, for any caller. Nothing here parses arguments."""
