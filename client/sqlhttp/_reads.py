"""Whether a statement does nothing but read, told from its text.

The answer decides whether a request whose outcome is unknown may be sent again, so it errs on one side only: a
statement counts as reading when every word in it is known to change nothing. A function that is not in the list below
may do anything, and then the caller says `read_only=True`.
"""

from functools import lru_cache

from sqlhttp._scan import tokens

_FIRST = frozenset({"select", "with", "values", "table", "show", "explain"})

_WRITING_WORDS = """
    insert update delete merge into truncate create alter drop grant revoke call do execute copy lock refresh analyze
    analyse vacuum set reset notify listen for
"""
_WRITING = frozenset(_WRITING_WORDS.split())
"""Words that make a statement more than a reader wherever they stand unquoted. `for` is there for FOR UPDATE, and takes
`substring(x for 3)` with it."""

_HARMLESS_BY_SUBJECT = {
    "SQL's own syntax that looks like a call": """
        in any all some exists values as over filter within group on using and or not when then else case
        between like ilike from where having by select union except intersect with lateral materialized row
        array cast extract interval distinct grouping sets cube rollup partition order rows range groups is
        similar to
    """,
    "conditional, aggregate and window functions": """
        coalesce nullif greatest least count sum avg min max stddev stddev_pop stddev_samp variance var_pop
        var_samp bool_and bool_or every bit_and bit_or array_agg string_agg json_agg jsonb_agg json_object_agg
        jsonb_object_agg percentile_cont percentile_disc mode corr regr_slope regr_intercept row_number rank
        dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
    """,
    "text": """
        length char_length octet_length lower upper initcap trim btrim ltrim rtrim lpad rpad left right substr
        substring position strpos replace translate reverse repeat concat concat_ws format split_part
        starts_with regexp_replace regexp_match regexp_matches regexp_split_to_array regexp_split_to_table
        string_to_array string_to_table ascii chr md5 sha224 sha256 sha384 sha512 encode decode to_hex
        quote_ident quote_literal quote_nullable unistr normalize similarity word_similarity to_tsvector
        to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd ts_headline
        setweight
    """,
    "numbers": """
        abs ceil ceiling floor round trunc sign sqrt cbrt power exp ln log mod div gcd lcm degrees radians pi
        sin cos tan asin acos atan atan2 random width_bucket numeric_scale
    """,
    "dates": """
        now clock_timestamp statement_timestamp transaction_timestamp timeofday age date_part date_trunc
        date_bin make_date make_time make_timestamp make_timestamptz make_interval to_char to_date to_timestamp
        to_number justify_days justify_hours justify_interval isfinite timezone
    """,
    "arrays, ranges, JSON, sets": """
        unnest array_length array_position array_positions array_append array_prepend array_cat array_remove
        array_replace array_to_string array_dims array_ndims array_lower array_upper cardinality generate_series
        generate_subscripts lower_inc upper_inc isempty int4range int8range numrange tsrange tstzrange daterange
        range_agg to_json to_jsonb row_to_json array_to_json json_build_object jsonb_build_object
        json_build_array jsonb_build_array json_object jsonb_object json_array_length jsonb_array_length
        json_each jsonb_each json_each_text jsonb_each_text json_array_elements jsonb_array_elements
        json_array_elements_text jsonb_array_elements_text json_extract_path jsonb_extract_path
        json_extract_path_text jsonb_extract_path_text json_typeof jsonb_typeof json_object_keys
        jsonb_object_keys jsonb_set jsonb_insert jsonb_pretty json_strip_nulls jsonb_strip_nulls
        jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_path_exists jsonb_path_match
        json_to_record jsonb_to_record json_to_recordset jsonb_to_recordset json_populate_record
        jsonb_populate_record
    """,
    "types, named like calls: numeric(10, 2), varchar(20)": """
        numeric decimal varchar char character bpchar bit varbit varying timestamp timestamptz time timetz float
        text int bigint smallint integer boolean uuid date json jsonb bytea vector
    """,
    "the server": """
        version current_database current_schema current_schemas current_setting current_user session_user
        pg_backend_pid pg_typeof pg_size_pretty pg_relation_size pg_total_relation_size pg_table_size
        pg_database_size pg_get_viewdef pg_get_indexdef pg_get_constraintdef pg_get_expr pg_get_functiondef
        format_type to_regclass to_regtype obj_description col_description gen_random_uuid uuidv4 uuidv7
        has_table_privilege has_schema_privilege has_column_privilege inet_client_addr inet_server_addr host
        family masklen network pg_is_in_recovery pg_postmaster_start_time pg_sleep
    """,
}
_HARMLESS = frozenset(word for words in _HARMLESS_BY_SUBJECT.values() for word in words.split())
"""Words after which a parenthesis changes nothing: functions of Postgres, and words of SQL itself."""


@lru_cache(maxsize=512)
def only_reads(text: str) -> bool:
    """Whether the statement is known to change nothing, so that sending it twice is the same as once."""
    words = [
        _folded(text[token.start : token.end]) if token.kind == "word" else text[token.start : token.end]
        for token in tokens(text)
        if token.kind not in ("space", "line", "block")
    ]
    first = next((word for word in words if word != "("), "")
    if first not in _FIRST or not _WRITING.isdisjoint(words):
        return False
    return all(_is_harmless(words[:place]) for place, word in enumerate(words) if word == "(")


def _folded(word: str) -> str:
    """As Postgres reads it, which folds ASCII alone: of other characters Python makes a `k` as well."""
    return word.lower() if word.isascii() else word


def _is_harmless(before: list[str]) -> bool:
    """Whether a parenthesis after these words calls nothing, or a function of the list."""
    callee = before[-1] if before else ""
    if not (callee[:1].isalpha() or callee[:1] in ('"', "_") or callee[:1] >= "\x80"):
        return True  # after an operator, a comma or another parenthesis
    if before[-2:-1] == ["."]:  # a schema of the program's own may have a function of any name
        return before[-3:-2] == ["pg_catalog"] and callee in _HARMLESS
    return callee in _HARMLESS or callee in _FIRST
