"""The constellations by their names, as `SHAPE=` takes them."""

from tests.faults.shapes import pgbouncer, redis, replicas, tls, workers
from tests.faults.shapes.shape import Standing

SHAPES: dict[str, Standing] = {
    "workers": workers.standing,
    "redis": redis.standing,
    "replicas": replicas.standing,
    "pgbouncer": pgbouncer.standing,
    "tls": tls.standing,
}
