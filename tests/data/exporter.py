"""A web service's exporter by prometheus_client, as the founding documents describe one: request counters,
latency histogram and summary, system gauges, database figures. Values move by a fixed seed.

Run: exporter.py PORT
"""

import random
import sys
import time

from prometheus_client import Counter, Gauge, Histogram, Summary, start_http_server

REQUESTS = Counter("http_requests_total", "Requests served.", ["method", "endpoint", "status"])
LATENCY = Histogram("http_request_duration_seconds", "Time to answer.", ["method", "endpoint"],
                    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0))
SUMMARY = Summary("http_request_latency_seconds", "Time to answer, summed.", ["method"])
CPU = Gauge("cpu_usage_percent", "CPU in use.")
MEMORY = Gauge("memory_usage_bytes", "Memory in use.")
DISK = Gauge("disk_available_bytes", "Free space.", ["device"])
CONNECTIONS = Gauge("active_connections", "Open database connections.", ["database"])
ACTIVITY = Gauge("pg_stat_activity_count", "Sessions.", ["datname", "state"])
SIZE = Gauge("pg_database_size_bytes", "Size on disk.", ["datname"])
LOCKS = Gauge("pg_locks_count", "Locks held.", ["datname", "mode"])
COMMITS = Counter("pg_stat_database_xact_commit_total", "Committed.", ["datname"])
ROLLBACKS = Counter("pg_stat_database_xact_rollback_total", "Rolled back.", ["datname"])
HITS = Gauge("pg_stat_database_blks_hit", "Blocks found in memory.", ["datname"])
READS = Gauge("pg_stat_database_blks_read", "Blocks read.", ["datname"])

ENDPOINTS = ("/", "/api/users", "/api/orders", "/health", "/api/items", "/login")


def serve(rng):
    """One simulated request."""
    method, endpoint = rng.choice(("GET", "POST")), rng.choice(ENDPOINTS)
    status = rng.choices(("200", "201", "302", "404", "500"), (80, 8, 5, 4, 3))[0]
    seconds = rng.lognormvariate(-1, 1)
    REQUESTS.labels(method, endpoint, status).inc()
    LATENCY.labels(method, endpoint).observe(seconds)
    SUMMARY.labels(method).observe(seconds)


def move(rng):
    """One step of the gauges and the database."""
    CPU.set(rng.uniform(5, 95))
    MEMORY.set(rng.randrange(10**9, 8 * 10**9))
    for device in ("sda1", "sdb1"):
        DISK.labels(device).set(rng.randrange(10**10, 10**11))
    for database in ("primary", "replica"):
        CONNECTIONS.labels(database).set(rng.randrange(5, 50))
        ACTIVITY.labels(database, "active").set(rng.randrange(20))
        SIZE.labels(database).set(rng.randrange(10**8, 10**9))
        LOCKS.labels(database, "accesssharelock").set(rng.randrange(10))
        COMMITS.labels(database).inc(rng.randrange(1, 100))
        ROLLBACKS.labels(database).inc(rng.randrange(3))
        HITS.labels(database).inc(rng.randrange(1000))
        READS.labels(database).inc(rng.randrange(50))


def main():
    rng = random.Random(7)
    for _ in range(400):
        serve(rng)
    move(rng)
    start_http_server(int(sys.argv[1]), "127.0.0.1")
    while True:
        serve(rng)
        move(rng)
        time.sleep(0.2)


main()
