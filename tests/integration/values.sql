-- SQL expressions by type: usual values, edges, and what is easily got wrong. One a line, since each is a column of one
-- statement; a line of dashes and a name begins the next type. The types of our own are made by types.sql.

-- bool
true
false
NULL::bool
-- int2
'-32768'::int2
32767::int2
0::int2
-- int4
'-2147483648'::int4
2147483647
NULL::int
-- int8
'-9223372036854775808'::int8
9223372036854775807::int8
9007199254740993::int8
-- float4
'NaN'::float4
'Infinity'::float4
'-Infinity'::float4
'-0'::float4
1.1::float4
3.4e38::float4
1e-45::float4
16777217::float4
1::float4
1e20::float4
-- float8
'NaN'::float8
'Infinity'::float8
'-Infinity'::float8
'-0'::float8
0.1::float8 + 0.2::float8
1.7976931348623157e308::float8
5e-324::float8
1e15::float8
1e16::float8
1e-5::float8
1::float8
-- numeric
'NaN'::numeric
'Infinity'::numeric
'-Infinity'::numeric
0.10::numeric
-0.0::numeric
1e30::numeric
1e-30::numeric
123456789012345678901234567890.123456789::numeric
5::numeric(10,4)
12345::numeric(4,-2)
repeat('9', 400)::numeric
-- money
'12.34'::money
'-1234567.89'::money
'92233720368547758.07'::money
0::money
-- text
''
' '
'a'
'naïve ☃ 🐘 中文'
E'new\nline'
E'carriage\rreturn'
E'tab\there'
E'\x01\x02\x7f'
'quote '' double " back \ slash'
'a|b|c'
'NULL'
'null'
NULL::text
repeat('é', 20000)
E'\u2028\ufeff'
-- varchar
'ab '::varchar(5)
'abcdefgh'::varchar(5)
''::varchar
-- bpchar
'ab'::char(5)
'  '::char(3)
''::char(2)
'x'::bpchar
-- name
'a name'::name
repeat('n', 70)::name
-- "char"
'x'::"char"
''::"char"
'\303'::"char"
'\001'::"char"
-- bytea
''::bytea
'\x00'::bytea
'\xdeadBEEF'::bytea
decode(repeat('00ff', 1000), 'hex')
'a\\b'::bytea
-- uuid
'D9428888-122B-11E1-B85C-61CD3CBB3210'::uuid
'00000000-0000-0000-0000-000000000000'::uuid
-- json
'{"b" : 1,  "a":[ 1, null ] , "b":2}'::json
'null'::json
'"\u00e9\n"'::json
' 1e400 '::json
'[]'::json
E'{\n  "a": 1\n}'::json
-- jsonb
'{"b" : 1,  "a":[ 1, null ] , "b":2}'::jsonb
'null'::jsonb
'"\u00e9\n\\"'::jsonb
'1e40'::jsonb
'{}'::jsonb
'1.10'::jsonb
-- jsonpath
'$.a[*] ? (@ > 1)'::jsonpath
'strict $'::jsonpath
-- date
'2024-02-29'::date
'infinity'::date
'-infinity'::date
'0044-03-15 BC'::date
'4713-01-01 BC'::date
'5874897-12-31'::date
'10000-01-01'::date
'0001-01-01'::date
-- time
'00:00'::time
'24:00'::time
'12:34:56.789012'::time
'12:34:56.7'::time(1)
-- timetz
'12:34:56.5+05:30'::timetz
'24:00-15:59:59'::timetz
-- timestamp
'2024-02-29 12:34:56.789012'::timestamp
'infinity'::timestamp
'-infinity'::timestamp
'0044-03-15 12:00 BC'::timestamp
'294276-12-31 23:59:59.999999'::timestamp
'epoch'::timestamp
'4713-01-01 00:00 BC'::timestamp
-- timestamptz
'2024-02-29 12:34:56.789012+05:45'::timestamptz
'infinity'::timestamptz
'-infinity'::timestamptz
'0044-03-15 12:00+00 BC'::timestamptz
'1890-01-01 00:00 Europe/Amsterdam'::timestamptz
'epoch'::timestamptz
-- interval
'1 year 2 mons -3 days 04:05:06.789'::interval
'-1 mon +1 day -00:00:01'::interval
'0'::interval
'infinity'::interval
'-infinity'::interval
'178000000 years'::interval
'1 day'::interval day
'100:00:00'::interval
-- bit
B'101'
B''
B'1'::bit(4)
-- varbit
B'1010'::varbit
B''::varbit(3)
-- inet
'192.168.0.1'::inet
'192.168.0.1/24'::inet
'::1'::inet
'2001:db8::/32'::inet
'::ffff:1.2.3.4'::inet
-- cidr
'10.0.0.0/8'::cidr
'2001:db8::/32'::cidr
-- macaddr
'08:00:2b:01:02:03'::macaddr
-- macaddr8
'08:00:2b:01:02:03:04:05'::macaddr8
-- point
'(1.5,-2)'::point
'(NaN,Infinity)'::point
'(1e-300,1e300)'::point
-- line
'{1,-1,0}'::line
-- lseg
'[(0,0),(1,1)]'::lseg
-- box
'((1,1),(0,0))'::box
-- path
'[(0,0),(1,1)]'::path
'((0,0),(1,1))'::path
-- polygon
'((0,0),(1,1),(2,0))'::polygon
-- circle
'<(1,2),3>'::circle
-- tsvector
'a:1A b:2,3 ''c d'''::tsvector
''::tsvector
-- tsquery
'a & !b | ( c <-> d:* )'::tsquery
''::tsquery
-- xid, cid, tid, oid
'4294967295'::xid
'1'::cid
'(0,1)'::tid
4294967295::oid
'18446744073709551615'::xid8
-- reg types
'int4'::regtype
'double precision'::regtype
'pg_class'::regclass
'one_of'::regclass
'now()'::regprocedure
'now'::regproc
'+(int,int)'::regoperator
'pg_catalog'::regnamespace
'postgres'::regrole
0::regclass
'english'::regconfig
'simple'::regdictionary
'"C"'::regcollation
-- pg_lsn
'16/B374D848'::pg_lsn
'0/0'::pg_lsn
-- pg_snapshot
'10:20:10,14,15'::pg_snapshot
-- aclitem
'postgres=r*w/postgres'::aclitem
-- vectors
'1 2 3'::int2vector
'1 2'::oidvector
''::int2vector
-- void
pg_sleep(0)
-- record
ROW(1, 'a', NULL)
ROW('a,b', '"', '\', ' ', '')
ROW(ROW(1, 'x y'), ARRAY['p', NULL])
ROW()
ROW(NULL)
-- composite
ROW(1, 'it''s "q" \ (x), y')::pair
ROW(NULL, NULL)::pair
NULL::pair
ROW(NULL, '')::pair
ROW(ROW(1, 'a'), ARRAY[ROW(2, 'b,"c'), NULL]::pair[], 1.25)::nested
(SELECT o FROM one_of o WHERE i = 1)
-- enum
'sad'::mood
'so so'::mood
'ha"ppy'::mood
'çà va'::mood
'it''s'::mood
enum_range(NULL::mood)
-- domain
7::positive
'abcde'::short
'{1,2}'::grid
NULL::positive
ARRAY[1,2]::positive[]
-- int4range
'[1,4)'::int4range
'(1,4]'::int4range
'empty'::int4range
'(,)'::int4range
'[5,)'::int4range
int4range(NULL, 3)
-- int8range
'[1,9223372036854775807)'::int8range
-- numrange
'[1.10,2.20]'::numrange
'(NaN,NaN]'::numrange
'[-Infinity,Infinity]'::numrange
-- daterange
'[2024-01-01,2024-02-29]'::daterange
'[-infinity,infinity]'::daterange
'[0044-03-15 BC,)'::daterange
-- tsrange
'[2024-01-01 00:00,2024-01-02 12:34:56.7)'::tsrange
'["infinity",infinity]'::tsrange
-- tstzrange
'[2024-01-01 00:00+00,2024-01-02 00:00+00)'::tstzrange
-- ranges of one's own
'[1.5,2.5)'::float_range
text_range('a,b', 'c"d\')
text_range('', 'z', '[]')
'empty'::text_range
-- multirange
'{}'::int4multirange
'{[1,2),[3,4)}'::int4multirange
'{(,3),[5,)}'::int8multirange
'{[1.1,2.2]}'::nummultirange
'{[2024-01-01,2024-01-02),[2025-01-01,)}'::datemultirange
'{[1,2),[3,4.5)}'::float_multirange
text_multirange(text_range('a b', 'c'), text_range('x', 'y,z'))
-- int[]
'{}'::int[]
'{1,NULL,3}'::int[]
'{{1,2},{3,NULL}}'::int[]
'[2:4]={1,2,3}'::int[]
'[0:1][-1:0]={{1,2},{3,4}}'::int[]
NULL::int[]
'{{{{{{1}}}}}}'::int[]
-- text[]
ARRAY['a,b', '"', '\', NULL, 'NULL', 'null', '', ' ', ' x ', '{', '}', 'it''s']
ARRAY[E'new\nline', E'tab\t', 'é☃🐘']
ARRAY[[NULL, 'a'], ['b', '"c\"']]::text[]
'{}'::text[]
ARRAY[NULL]::text[]
-- bool[]
'{t,f,NULL}'::bool[]
-- float8[]
'{NaN,Infinity,-Infinity,0.1,-0,1e300}'::float8[]
-- numeric[]
'{1.10,NaN,-Infinity,1e30}'::numeric[]
-- bytea[]
ARRAY['\xdead'::bytea, '\x'::bytea, NULL]
-- date[], timestamptz[]
'{infinity,0044-03-15 BC,2024-02-29}'::date[]
'{2024-02-29 12:00+00,-infinity}'::timestamptz[]
-- interval[]
'{1 day,-1 mon,00:00:01.5}'::interval[]
-- json[], jsonb[]
ARRAY['{"a": "b,\"c"}'::json, NULL]
ARRAY['{"a": [1, "}"]}'::jsonb, 'null'::jsonb]
-- box[]
'{((1,1),(0,0));((3,3),(2,2))}'::box[]
-- point[], inet[], uuid[]
'{"(1,2)",NULL}'::point[]
'{::1,10.0.0.0/8}'::inet[]
'{d9428888-122b-11e1-b85c-61cd3cbb3210}'::uuid[]
-- arrays of one's own types
'{sad,"so so",NULL}'::mood[]
ARRAY[ROW(1, 'a"b')::pair, NULL]
ARRAY['[1,2)'::int4range, 'empty'::int4range]
ARRAY['{[1,2)}'::int4multirange]
ARRAY[ROW(1, 2)]
-- catalog rows
(SELECT relacl FROM pg_class WHERE relname = 'pg_class')
(SELECT proargtypes FROM pg_proc WHERE proname = 'left')
(SELECT indkey FROM pg_index ORDER BY indexrelid LIMIT 1)
(SELECT adbin FROM pg_attrdef LIMIT 1)
