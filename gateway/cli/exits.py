"""Exit codes (PROTOCOL, "Command line exit codes")."""

from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    ERROR = 1
    USAGE = 2
    INCOMPLETE = 3
    NOBODY = 4
