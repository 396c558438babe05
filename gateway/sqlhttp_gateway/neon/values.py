"""Postgres text and a type OID become a JSON value.

The rules are Neon's: booleans, small integers and floats become JSON scalars, json is passed through as it stands,
arrays become JSON arrays of any depth, and all else stays text: int8 and numeric too, since a JSON number loses their
digits in most programs. Where Neon's server stumbles over what Postgres prints, this does not: `{}` is an empty array,
an int2vector is text, and box[] is split at its own delimiter.

Text may also come in the guise of `neon.rows`, each character one byte of UTF-8. So nothing here looks at a character
beyond ASCII, and white space means ASCII's.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any

import orjson

from sqlhttp_gateway.model import ArrayType, Field

FIRST_UNSTABLE_OID = 10_000
"""FirstGenbkiObjectId in Postgres's transam.h: only below it does an OID mean the same in every server."""

# Element types by their arrays, from pg_type of Postgres 18: all arrays with a stable OID. int2vector and oidvector
# are absent because they print as "1 2"; their own arrays are here and have them as elements.
_BUILTIN_ELEMENTS = {
    143: 142,  # xml
    199: 114,  # json
    210: 71,  # pg_type
    270: 75,  # pg_attribute
    271: 5069,  # xid8
    272: 81,  # pg_proc
    273: 83,  # pg_class
    629: 628,  # line
    651: 650,  # cidr
    719: 718,  # circle
    775: 774,  # macaddr8
    791: 790,  # money
    1000: 16,  # bool
    1001: 17,  # bytea
    1002: 18,  # "char"
    1003: 19,  # name
    1005: 21,  # int2
    1006: 22,  # int2vector
    1007: 23,  # int4
    1008: 24,  # regproc
    1009: 25,  # text
    1010: 27,  # tid
    1011: 28,  # xid
    1012: 29,  # cid
    1013: 30,  # oidvector
    1014: 1042,  # bpchar
    1015: 1043,  # varchar
    1016: 20,  # int8
    1017: 600,  # point
    1018: 601,  # lseg
    1019: 602,  # path
    1020: 603,  # box
    1021: 700,  # float4
    1022: 701,  # float8
    1027: 604,  # polygon
    1028: 26,  # oid
    1034: 1033,  # aclitem
    1040: 829,  # macaddr
    1041: 869,  # inet
    1115: 1114,  # timestamp
    1182: 1082,  # date
    1183: 1083,  # time
    1185: 1184,  # timestamptz
    1187: 1186,  # interval
    1231: 1700,  # numeric
    1263: 2275,  # cstring
    1270: 1266,  # timetz
    1561: 1560,  # bit
    1563: 1562,  # varbit
    2201: 1790,  # refcursor
    2207: 2202,  # regprocedure
    2208: 2203,  # regoper
    2209: 2204,  # regoperator
    2210: 2205,  # regclass
    2211: 2206,  # regtype
    2287: 2249,  # record
    2949: 2970,  # txid_snapshot
    2951: 2950,  # uuid
    3221: 3220,  # pg_lsn
    3643: 3614,  # tsvector
    3644: 3642,  # gtsvector
    3645: 3615,  # tsquery
    3735: 3734,  # regconfig
    3770: 3769,  # regdictionary
    3807: 3802,  # jsonb
    3905: 3904,  # int4range
    3907: 3906,  # numrange
    3909: 3908,  # tsrange
    3911: 3910,  # tstzrange
    3913: 3912,  # daterange
    3927: 3926,  # int8range
    4073: 4072,  # jsonpath
    4090: 4089,  # regnamespace
    4097: 4096,  # regrole
    4192: 4191,  # regcollation
    5039: 5038,  # pg_snapshot
    6150: 4451,  # int4multirange
    6151: 4532,  # nummultirange
    6152: 4533,  # tsmultirange
    6153: 4534,  # tstzmultirange
    6155: 4535,  # datemultirange
    6157: 4536,  # int8multirange
}
_BOX = 603  # the one type in pg_type whose typdelim is not a comma

BUILTIN_ARRAYS: Mapping[int, ArrayType] = {
    array: ArrayType(element, ";" if element == _BOX else ",") for array, element in _BUILTIN_ELEMENTS.items()
}

Converter = Callable[[str], Any]
"""Postgres text to a value that orjson writes. Raises ValueError for text that Postgres does not print for the type."""


def unknown_types(fields: Iterable[Field], known: Container[int]) -> set[int]:
    """The types of which only the server's catalog can say whether they are arrays, and of what.

    `known` are the OIDs looked up before, those that turned out to be no arrays among them.
    """
    return {field.type_id for field in fields if field.type_id >= FIRST_UNSTABLE_OID and field.type_id not in known}


def converter(type_id: int, array_types: Mapping[int, ArrayType]) -> Converter | None:
    """What makes a JSON value of a type's text; None where the text is the value.

    `array_types` are the arrays that a catalog knows beside the built-in ones.
    """
    scalar = _SCALARS.get(type_id)
    if scalar is not None:
        return scalar
    array = BUILTIN_ARRAYS.get(type_id) or array_types.get(type_id)
    if array is None:
        return None
    return partial(array_from_text, element=converter(array.element, array_types), delimiter=array.delimiter)


def _float(text: str) -> float | str:
    """A float, but the three that JSON cannot write stay text."""
    number = float(text)
    return number if number - number == 0 else text


_SCALARS: dict[int, Converter] = {
    16: "t".__eq__,  # bool
    21: int,  # int2
    23: int,  # int4
    700: _float,  # float4
    701: _float,  # float8
    114: orjson.Fragment,  # json, written into the answer as it stands
    3802: orjson.Fragment,  # jsonb
}


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def array_from_text(text: str, element: Converter | None = None, delimiter: str = ",") -> list[Any]:
    """An array literal as nested lists; elements go through `element`, and NULL is None.

    The literal may begin with its dimensions (`[0:2]={1,2,3}`); JSON has no word for them and they are passed over.

    Raises:
        ValueError: braces, quotes or delimiters do not make a literal.
    """
    if text.startswith("["):
        text = text[text.index("=") + 1 :]
    if not _NEEDS_TOKENS(text, 1) and text[:1] == "{" and text[-1:] == "}":
        inside = text[1:-1]
        if not inside:
            return []
        items = inside.split(delimiter)
        if "" in items or "}" in inside:
            raise ValueError("malformed array literal")
        if element is None:
            return [None if item == "NULL" else item for item in items]
        return [None if item == "NULL" else element(item) for item in items]
    return _array_from_tokens(text, element, delimiter)


_NEEDS_TOKENS = re.compile(r'["{\\ \t\n\r\v\f]').search
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@lru_cache(maxsize=16)
def _tokens(delimiter: str) -> re.Pattern[str]:
    """A quoted element, a plain one, or a mark; white space around each."""
    mark = re.escape(delimiter)
    white = r" \t\n\r\v\f"
    quoted = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
    plain = rf'([^{{}}"\\{white}{mark}]+)'
    return re.compile(rf"[{white}]*(?:{quoted}|{plain}|([{{}}{mark}]))[{white}]*", re.DOTALL)


def _array_from_tokens(text: str, element: Converter | None, delimiter: str) -> list[Any]:
    token = _tokens(delimiter).match
    open_lists: list[list[Any]] = []
    whole: list[Any] | None = None
    wants_item = True
    position = 0
    while position < len(text):
        found = token(text, position)
        if found is None or whole is not None:
            raise ValueError("malformed array literal")
        quoted, plain, mark = found.groups()
        position = found.end()
        if mark == "{" and wants_item:
            items: list[Any] = []
            if open_lists:
                open_lists[-1].append(items)
            open_lists.append(items)
        elif not open_lists:
            raise ValueError("malformed array literal")
        elif mark == "}" and (not wants_item or not open_lists[-1]):
            closed = open_lists.pop()
            whole = None if open_lists else closed
            wants_item = False
        elif mark == delimiter and not wants_item:
            wants_item = True
        elif mark is None and wants_item:
            open_lists[-1].append(_item(quoted, plain, element))
            wants_item = False
        else:
            raise ValueError("malformed array literal")
    if whole is None:
        raise ValueError("malformed array literal")
    return whole


def _item(quoted: str | None, plain: str | None, element: Converter | None) -> Any:
    if quoted is None:
        if plain == "NULL":
            return None
        text = plain or ""
    else:
        text = _ESCAPED.sub(r"\1", quoted) if "\\" in quoted else quoted
    return text if element is None else element(text)
