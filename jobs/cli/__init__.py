"""The command `headrace`: arguments, output and exit codes. What a command does lies in a room below."""
