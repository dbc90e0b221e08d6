"""What a person asks for: each command's procedure, whoever calls it. Nothing here parses arguments."""
