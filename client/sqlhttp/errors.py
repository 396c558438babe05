"""What Postgres reports, one class for each SQLSTATE that programs tell apart. The names are Postgres's own.

`class_of` gives the class of any code: one of these, else the DB-API class that the code's first two characters
belong to (Appendix A of the Postgres manual has the table).
"""

from sqlhttp._errors import (
    DatabaseError,
    DataError,
    IntegrityError,
    InternalError,
    NoDataFound,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    TooManyRows,
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


class SqlclientUnableToEstablishSqlconnection(OperationalError):
    """08001: the server cannot reach Postgres."""


class SqlserverRejectedEstablishmentOfSqlconnection(OperationalError):
    """08004: Postgres rejects the connection."""


class ConnectionFailure(OperationalError):
    """08006: the connection to Postgres was lost."""


class ProtocolViolation(OperationalError):
    """08P01: the request breaks the protocol, for instance by its number of parameters."""


class FeatureNotSupported(NotSupportedError):
    """0A000: Postgres cannot do this."""


class CardinalityViolation(ProgrammingError):
    """21000: a subquery gave more rows than one, or a row was changed twice."""


class StringDataRightTruncation(DataError):
    """22001: a text is too long for its column."""


class NumericValueOutOfRange(DataError):
    """22003: a number is out of its type's range."""


class InvalidDatetimeFormat(DataError):
    """22007: a text is no date or time."""


class DatetimeFieldOverflow(DataError):
    """22008: a date or time is out of range."""


class DivisionByZero(DataError):
    """22012: a division by zero."""


class CharacterNotInRepertoire(DataError):
    """22021: bytes are no text in the encoding, for instance a NUL."""


class InvalidParameterValue(DataError):
    """22023: a function does not take this value."""


class InvalidTextRepresentation(DataError):
    """22P02: a text is no value of its type."""


class InvalidBinaryRepresentation(DataError):
    """22P03: bytes are no value of their type."""


class RestrictViolation(IntegrityError):
    """23001: a row is still referenced."""


class NotNullViolation(IntegrityError):
    """23502: a column that must have a value got none."""


class ForeignKeyViolation(IntegrityError):
    """23503: a referenced row does not exist, or is still referenced."""


class UniqueViolation(IntegrityError):
    """23505: a key exists already."""


class CheckViolation(IntegrityError):
    """23514: a CHECK constraint is not met."""


class ExclusionViolation(IntegrityError):
    """23P01: an exclusion constraint is not met."""


class ActiveSqlTransaction(InternalError):
    """25001: the statement cannot run inside a transaction."""


class ReadOnlySqlTransaction(InternalError):
    """25006: a statement that writes, in a read-only transaction or on a replica."""


class InFailedSqlTransaction(InternalError):
    """25P02: the transaction has failed already."""


class IdleInTransactionSessionTimeout(InternalError):
    """25P03: the transaction was idle for too long."""


class InvalidSqlStatementName(OperationalError):
    """26000: a prepared statement does not exist."""


class InvalidAuthorizationSpecification(OperationalError):
    """28000: the role may not log in, or no credentials came."""


class InvalidPassword(OperationalError):
    """28P01: the password is wrong or the role does not exist."""


class DependentObjectsStillExist(InternalError):
    """2BP01: other objects depend on it."""


class InvalidCatalogName(ProgrammingError):
    """3D000: the database does not exist."""


class InvalidSchemaName(ProgrammingError):
    """3F000: the schema does not exist."""


class SerializationFailure(OperationalError):
    """40001: the transaction conflicts with another one; it may succeed when tried again."""


class StatementCompletionUnknown(OperationalError):
    """40003: it is not known whether the statement took effect."""


class DeadlockDetected(OperationalError):
    """40P01: the transaction waited for itself; it may succeed when tried again."""


class InsufficientPrivilege(ProgrammingError):
    """42501: the role may not do this."""


class SyntaxError(ProgrammingError):
    """42601: the statement is no SQL."""


class InvalidName(ProgrammingError):
    """42602: a name is malformed."""


class DuplicateColumn(ProgrammingError):
    """42701: the column exists already, or is named twice."""


class AmbiguousColumn(ProgrammingError):
    """42702: more than one column has this name."""


class UndefinedColumn(ProgrammingError):
    """42703: the column does not exist."""


class UndefinedObject(ProgrammingError):
    """42704: the type, role or other object does not exist."""


class DuplicateObject(ProgrammingError):
    """42710: the object exists already."""


class DuplicateFunction(ProgrammingError):
    """42723: the function exists already."""


class GroupingError(ProgrammingError):
    """42803: a column is neither grouped nor aggregated."""


class DatatypeMismatch(ProgrammingError):
    """42804: an expression has another type than its place asks for."""


class InvalidForeignKey(ProgrammingError):
    """42830: the foreign key references no unique key."""


class CannotCoerce(ProgrammingError):
    """42846: there is no cast between the types."""


class UndefinedFunction(ProgrammingError):
    """42883: no function or operator takes these types."""


class ReservedName(ProgrammingError):
    """42939: the name is reserved."""


class UndefinedTable(ProgrammingError):
    """42P01: the table does not exist."""


class UndefinedParameter(ProgrammingError):
    """42P02: the statement has no such parameter."""


class DuplicateDatabase(ProgrammingError):
    """42P04: the database exists already."""


class DuplicatePreparedStatement(ProgrammingError):
    """42P05: the prepared statement exists already."""


class DuplicateSchema(ProgrammingError):
    """42P06: the schema exists already."""


class DuplicateTable(ProgrammingError):
    """42P07: the table exists already."""


class AmbiguousParameter(ProgrammingError):
    """42P08: a parameter's type is told in two ways."""


class InvalidColumnReference(ProgrammingError):
    """42P10: ON CONFLICT or ORDER BY names no fitting column."""


class IndeterminateDatatype(ProgrammingError):
    """42P18: a parameter's type cannot be told; add a cast."""


class WithCheckOptionViolation(ProgrammingError):
    """44000: the row would not be in the view."""


class DiskFull(OperationalError):
    """53100: no room on the disk."""


class OutOfMemory(OperationalError):
    """53200: no memory."""


class TooManyConnections(OperationalError):
    """53300: no connection is free, in the gateway or in Postgres."""


class ProgramLimitExceeded(OperationalError):
    """54000: a limit of Postgres or of the server is exceeded."""


class ObjectNotInPrerequisiteState(OperationalError):
    """55000: the object is not in a state for this."""


class ObjectInUse(OperationalError):
    """55006: the object is in use."""


class LockNotAvailable(OperationalError):
    """55P03: the lock was not free in time."""


class QueryCanceled(OperationalError):
    """57014: the statement was cancelled, by its timeout or on request."""


class AdminShutdown(OperationalError):
    """57P01: Postgres, or the gateway, is shutting down."""


class CrashShutdown(OperationalError):
    """57P02: Postgres restarts after a crash."""


class CannotConnectNow(OperationalError):
    """57P03: Postgres is starting up or shutting down."""


class IdleSessionTimeout(OperationalError):
    """57P05: the session was idle for too long."""


class RaiseException(ProgrammingError):
    """P0001: a function raised an exception of its own."""


class AssertFailure(ProgrammingError):
    """P0004: an ASSERT in PL/pgSQL is not met."""


class InternalError_(InternalError):
    """XX000: an error inside Postgres or the server."""


class DataCorrupted(InternalError):
    """XX001: data on disk is damaged."""


class IndexCorrupted(InternalError):
    """XX002: an index on disk is damaged."""


_NAMED: dict[str, type[DatabaseError]] = {
    "08001": SqlclientUnableToEstablishSqlconnection,
    "08004": SqlserverRejectedEstablishmentOfSqlconnection,
    "08006": ConnectionFailure,
    "08P01": ProtocolViolation,
    "0A000": FeatureNotSupported,
    "21000": CardinalityViolation,
    "22001": StringDataRightTruncation,
    "22003": NumericValueOutOfRange,
    "22007": InvalidDatetimeFormat,
    "22008": DatetimeFieldOverflow,
    "22012": DivisionByZero,
    "22021": CharacterNotInRepertoire,
    "22023": InvalidParameterValue,
    "22P02": InvalidTextRepresentation,
    "22P03": InvalidBinaryRepresentation,
    "23001": RestrictViolation,
    "23502": NotNullViolation,
    "23503": ForeignKeyViolation,
    "23505": UniqueViolation,
    "23514": CheckViolation,
    "23P01": ExclusionViolation,
    "25001": ActiveSqlTransaction,
    "25006": ReadOnlySqlTransaction,
    "25P02": InFailedSqlTransaction,
    "25P03": IdleInTransactionSessionTimeout,
    "26000": InvalidSqlStatementName,
    "28000": InvalidAuthorizationSpecification,
    "28P01": InvalidPassword,
    "2BP01": DependentObjectsStillExist,
    "3D000": InvalidCatalogName,
    "3F000": InvalidSchemaName,
    "40001": SerializationFailure,
    "40003": StatementCompletionUnknown,
    "40P01": DeadlockDetected,
    "42501": InsufficientPrivilege,
    "42601": SyntaxError,
    "42602": InvalidName,
    "42701": DuplicateColumn,
    "42702": AmbiguousColumn,
    "42703": UndefinedColumn,
    "42704": UndefinedObject,
    "42710": DuplicateObject,
    "42723": DuplicateFunction,
    "42803": GroupingError,
    "42804": DatatypeMismatch,
    "42830": InvalidForeignKey,
    "42846": CannotCoerce,
    "42883": UndefinedFunction,
    "42939": ReservedName,
    "42P01": UndefinedTable,
    "42P02": UndefinedParameter,
    "42P04": DuplicateDatabase,
    "42P05": DuplicatePreparedStatement,
    "42P06": DuplicateSchema,
    "42P07": DuplicateTable,
    "42P08": AmbiguousParameter,
    "42P10": InvalidColumnReference,
    "42P18": IndeterminateDatatype,
    "44000": WithCheckOptionViolation,
    "53100": DiskFull,
    "53200": OutOfMemory,
    "53300": TooManyConnections,
    "54000": ProgramLimitExceeded,
    "55000": ObjectNotInPrerequisiteState,
    "55006": ObjectInUse,
    "55P03": LockNotAvailable,
    "57014": QueryCanceled,
    "57P01": AdminShutdown,
    "57P02": CrashShutdown,
    "57P03": CannotConnectNow,
    "57P05": IdleSessionTimeout,
    "P0001": RaiseException,
    "P0004": AssertFailure,
    "XX000": InternalError_,
    "XX001": DataCorrupted,
    "XX002": IndexCorrupted,
    "P0002": NoDataFound,
    "P0003": TooManyRows,
}


def class_of(sqlstate: str) -> type[DatabaseError]:
    """The most exact class for a SQLSTATE."""
    return _NAMED.get(sqlstate) or _CLASSES.get(sqlstate[:2], DatabaseError)
