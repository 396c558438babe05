"""A Lambda function behind an HTTP API: a customer's orders. A cold start imports no driver and opens no pool."""

import json
import os
from typing import Any

from sqlhttp import neon

# At module level, so that later invocations of the same instance use the connection again.
sql = neon(os.environ["DATABASE_URL"], endpoint=os.environ["SQLHTTP_ENDPOINT"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer GET /customers/{customer}/orders."""
    customer = event["pathParameters"]["customer"]
    orders = sql("select id, total::float8, placed::text from orders where customer = $1 order by id", customer)
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(orders),
    }
