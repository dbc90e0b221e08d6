"""The account that runs this process."""

from __future__ import annotations

import os
import pwd


def name_account() -> str:
    """The account of this process, as the machine knows it: whatever LOGNAME or USER say, which anybody can set.

    An account that has no name, as in a container that was started under another number, is its number.
    """
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"
