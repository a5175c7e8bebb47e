"""A program with OpenTelemetry's SDK that sends metrics and traces of its work to the ports in its arguments.

python3 otlp_app.py PORT TEMPORALITY: sends one request of metrics of every kind to PORT, and ends.
"""
import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

port, temporality = sys.argv[1:3]
preferred = getattr(AggregationTemporality, temporality)
exporter = OTLPMetricExporter(
    endpoint=f"http://127.0.0.1:{port}/api/v1/otlp/v1/metrics",
    compression=Compression.Gzip,
    preferred_temporality={Counter: preferred, Histogram: preferred, UpDownCounter: AggregationTemporality.CUMULATIVE},
)
resource = Resource.create({
    "service.name": "shop",
    "service.namespace": "eu",
    "service.instance.id": "i-1",
    "host.name": "h1",
    "tags": ["a", "b"],
})
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
views = [View(instrument_name="payload", aggregation=ExponentialBucketHistogramAggregation())]
provider = MeterProvider(resource=resource, metric_readers=[reader], views=views)
meter = provider.get_meter("shop.lib", "1.2.3", schema_url="https://example.test/schema")

requests = meter.create_counter("http.server.requests", unit="{request}", description="Requests.")
active = meter.create_up_down_counter("http.active", unit="{request}")
latency = meter.create_histogram("http.server.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 0.5, 1.0])
payload = meter.create_histogram("payload", unit="By")
meter.create_observable_gauge("room.temperature", callbacks=[lambda _: [Observation(20.5, {"room": "a"})]], unit="Cel")

# Twice: of deltas only the sum of both is what the cumulative temporality says.
for _ in range(2):
    requests.add(3, {"http.route": "/a", "http.status_code": 200})
    requests.add(1, {"http.route": "/b", "http.status_code": 500})
    active.add(2)
    for seconds in (0.05, 0.3, 0.7, 3.0):
        latency.record(seconds, {"http.route": "/a"})
    for size in (1, 2, 4, 1000):
        payload.record(size)
    if not provider.force_flush():
        sys.exit("not exported")
provider.shutdown()
