"""Results become the reply, with what it takes of the catalog to type them."""

from collections.abc import Mapping
from time import perf_counter

from sqlhttp_gateway.model import ArrayType, Batch, Options, Result, Statement
from sqlhttp_gateway.neon.fields import fields_from_description
from sqlhttp_gateway.neon.headers import JSON_HEADERS, batch_echo
from sqlhttp_gateway.neon.response import encode_batch, encode_result
from sqlhttp_gateway.neon.values import unknown_types
from sqlhttp_gateway.pools.catalog import learn_array_types
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.reply import Headers, Reply
from sqlhttp_gateway.story import Story

NO_TYPES: Mapping[int, ArrayType] = {}
"""What has to be known of the types of an answer in Postgres's own text."""


async def array_types(lease: Lease, results: list[Result], options: Options) -> Mapping[int, ArrayType]:
    """Which types of the results are arrays, and of what, where the answer is typed."""
    if options.raw_text:
        return NO_TYPES
    unknown = {
        oid
        for result in results
        if result.description is not None
        for oid in unknown_types(fields_from_description(result.description), known=())
    }
    return await learn_array_types(lease, unknown) if unknown else NO_TYPES


def reply_with(
    results: list[Result],
    request: Statement | Batch,
    options: Options,
    story: Story,
    *,
    types: Mapping[int, ArrayType],
) -> Reply:
    """The reply to a request that went well."""
    ran = perf_counter()
    statements = request.statements if isinstance(request, Batch) else (request,)
    encoded = [
        encode_result(
            result,
            options,
            array_mode=options.array_mode if statement.array_mode is None else statement.array_mode,
            array_types=types,
        )
        for statement, result in zip(statements, results, strict=True)
    ]
    body = encode_batch(encoded) if isinstance(request, Batch) else encoded[0]
    story.encoded = perf_counter() - ran
    story.succeeded([result.row_count for result in results])
    return Reply(200, headers_of(request, options), story.request_id, body)


def headers_of(request: Statement | Batch, options: Options) -> Headers:
    """Those of its reply: a batch says how its transaction began."""
    return (*JSON_HEADERS, *batch_echo(options.transaction)) if isinstance(request, Batch) else JSON_HEADERS
