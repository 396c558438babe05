"""What Postgres reports, one class for each SQLSTATE that programs tell apart. The names are Postgres's own.

`class_of` gives the class of any code: one of these, else the DB-API class that the code's first two characters
belong to (Appendix A of the Postgres manual has the table).
"""

from sqlhttp._errors import (
    DatabaseError,
    DataError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

# The first two characters of a SQLSTATE. The same choice as psycopg's, so that what a program catches stays the same.
_CLASSES: dict[str, type[DatabaseError]] = {
    "08": OperationalError,
    "0A": NotSupportedError,
    "20": ProgrammingError,
    "21": ProgrammingError,
    "22": DataError,
    "23": IntegrityError,
    "24": InternalError,
    "25": InternalError,
    "26": OperationalError,
    "27": OperationalError,
    "28": OperationalError,
    "2B": InternalError,
    "2D": InternalError,
    "2F": InternalError,
    "34": OperationalError,
    "38": InternalError,
    "39": InternalError,
    "3B": InternalError,
    "3D": ProgrammingError,
    "3F": ProgrammingError,
    "40": OperationalError,
    "42": ProgrammingError,
    "44": ProgrammingError,
    "53": OperationalError,
    "54": OperationalError,
    "55": OperationalError,
    "57": OperationalError,
    "58": OperationalError,
    "F0": OperationalError,
    "HV": OperationalError,
    "P0": ProgrammingError,
    "XX": InternalError,
}


class UniqueViolation(IntegrityError):
    """23505: a key exists already."""


_NAMED: dict[str, type[DatabaseError]] = {
    "23505": UniqueViolation,
}


def class_of(sqlstate: str) -> type[DatabaseError]:
    """The most exact class for a SQLSTATE."""
    return _NAMED.get(sqlstate) or _CLASSES.get(sqlstate[:2], DatabaseError)
