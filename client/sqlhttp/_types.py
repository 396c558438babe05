"""A column's type decides what its text becomes in Python.

Nothing here fails on a value that Python cannot hold: it stays Postgres's text. A type that is not listed is text too,
which includes ranges, composites, enums, geometric types and whatever an extension adds; `types={oid: function}`
says otherwise. decimal, datetime, uuid and ipaddress are imported when the first column of such a type arrives.
"""

from collections.abc import Callable, Mapping
from functools import partial
from json import loads
from typing import Any

from sqlhttp._arrays import decode_array

Decoder = Callable[[str], Any]

# Element and array OIDs are fixed for built-in types: src/include/catalog/pg_type.dat.
ELEMENT_OF = {
    1000: 16,  # bool
    1001: 17,  # bytea
    1002: 18,  # "char"
    1003: 19,  # name
    1016: 20,  # int8
    1005: 21,  # int2
    1006: 22,  # int2vector
    1007: 23,  # int4
    1008: 24,  # regproc
    1009: 25,  # text
    1028: 26,  # oid
    1010: 27,  # tid
    1011: 28,  # xid
    1012: 29,  # cid
    1013: 30,  # oidvector
    199: 114,  # json
    143: 142,  # xml
    271: 5069,  # xid8
    1017: 600,  # point
    1018: 601,  # lseg
    1019: 602,  # path
    1020: 603,  # box
    1027: 604,  # polygon
    629: 628,  # line
    651: 650,  # cidr
    1021: 700,  # float4
    1022: 701,  # float8
    719: 718,  # circle
    775: 774,  # macaddr8
    791: 790,  # money
    1040: 829,  # macaddr
    1041: 869,  # inet
    1034: 1033,  # aclitem
    1014: 1042,  # bpchar
    1015: 1043,  # varchar
    1182: 1082,  # date
    1183: 1083,  # time
    1115: 1114,  # timestamp
    1185: 1184,  # timestamptz
    1187: 1186,  # interval
    1270: 1266,  # timetz
    1561: 1560,  # bit
    1563: 1562,  # varbit
    1231: 1700,  # numeric
    2201: 1790,  # refcursor
    2207: 2202,  # regprocedure
    2208: 2203,  # regoper
    2209: 2204,  # regoperator
    2210: 2205,  # regclass
    2211: 2206,  # regtype
    4097: 4096,  # regrole
    4090: 4089,  # regnamespace
    4192: 4191,  # regcollation
    3735: 3734,  # regconfig
    3770: 3769,  # regdictionary
    1263: 2275,  # cstring
    2951: 2950,  # uuid
    2949: 2970,  # txid_snapshot
    5039: 5038,  # pg_snapshot
    3221: 3220,  # pg_lsn
    3643: 3614,  # tsvector
    3645: 3615,  # tsquery
    3644: 3642,  # gtsvector
    3807: 3802,  # jsonb
    4073: 4072,  # jsonpath
    3905: 3904,  # int4range
    3907: 3906,  # numrange
    3909: 3908,  # tsrange
    3911: 3910,  # tstzrange
    3913: 3912,  # daterange
    3927: 3926,  # int8range
    6150: 4451,  # int4multirange
    6151: 4532,  # nummultirange
    6152: 4533,  # tsmultirange
    6153: 4534,  # tstzmultirange
    6155: 4535,  # datemultirange
    6157: 4536,  # int8multirange
    2287: 2249,  # record
}
_BOX = 603
"""The one built-in type whose arrays are separated by semicolons (typdelim in pg_type)."""

_known: dict[int, Decoder | None] = {}


def decoder(type_id: int, types: Mapping[int, Decoder] | None = None) -> Decoder | None:
    """What turns a column's text into its value; None leaves the text as it is.

    `types` goes first, for the type itself and for the elements of its arrays.
    """
    if types:
        if type_id in types:
            return types[type_id]
        element = ELEMENT_OF.get(type_id)
        if element is not None and element in types:
            return partial(decode_array, element=types[element], delimiter=_delimiter(element))
    try:
        return _known[type_id]
    except KeyError:
        found = _known[type_id] = _find(type_id)
        return found


def _find(type_id: int) -> Decoder | None:
    element = ELEMENT_OF.get(type_id)
    if element is not None:
        return partial(decode_array, element=decoder(element), delimiter=_delimiter(element))
    match type_id:
        case 16:
            return decode_bool
        case 20 | 21 | 23 | 26 | 28 | 29 | 5069:  # int8, int2, int4, oid, xid, cid, xid8
            return int
        case 700 | 701:
            return float
        case 114 | 3802:
            return decode_json
        case 17:
            return decode_bytea
        case 1700:
            from decimal import Decimal

            return Decimal
        case 2950:
            from uuid import UUID

            return UUID
        case 650 | 869:
            from ipaddress import ip_address, ip_interface, ip_network

            if type_id == 650:
                return ip_network
            return lambda text: ip_interface(text) if "/" in text else ip_address(text)
        case 1082 | 1083 | 1266 | 1114 | 1184 | 1186:
            from sqlhttp import _dates

            return {
                1082: _dates.decode_date,
                1083: _dates.decode_time,
                1266: _dates.decode_time,
                1114: _dates.decode_timestamp,
                1184: _dates.decode_timestamp,
                1186: _dates.decode_interval,
            }[type_id]
    return None


def _delimiter(element: int) -> str:
    return ";" if element == _BOX else ","


def decode_bool(text: str) -> bool:
    return text == "t"


def decode_json(text: str) -> Any:
    """Python's own reading of JSON. A number of thousands of digits, or a very deep value, stays text."""
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return text


def decode_bytea(text: str) -> bytes:
    r"""Both of Postgres's forms: hex (`\x…`) and, where bytea_output says so, escape."""
    if text[:2] == "\\x":
        return bytes.fromhex(text[2:])
    out = bytearray()
    position = 0
    while position < len(text):
        if text[position] != "\\":
            out.append(ord(text[position]))
            position += 1
        elif text[position + 1] == "\\":
            out.append(0x5C)
            position += 2
        else:
            out.append(int(text[position + 1 : position + 4], 8))
            position += 4
    return bytes(out)
