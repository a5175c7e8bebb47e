"""A receiver of traces: gRPC on the first port of its arguments, HTTP on the second.

With a third port, a certificate and its key, HTTPS is on the third, and gRPC is encrypted, too.
GET / of the second port lists the spans that came, as JSON.
"""
import gzip
import json
import ssl
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc

grpc_port, http_port, *encrypted = sys.argv[1:]
spans = []


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def keep(request, protocol, headers):
    for resource in request.resource_spans:
        attributes = {a.key: value(a.value) for a in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                spans.append({
                    "protocol": protocol,
                    "tenant": headers.get("x-tenant", ""),
                    "service": attributes["service.name"],
                    "name": span.name,
                    "kind": span.kind,
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "took": span.end_time_unix_nano - span.start_time_unix_nano,
                    "error": span.status.message if span.status.code == 2 else "",
                    "attributes": {a.key: value(a.value) for a in span.attributes},
                })


class Servicer(service_grpc.TraceServiceServicer):
    def Export(self, request, context):
        keep(request, "grpc", dict(context.invocation_metadata()))
        return service.ExportTraceServiceResponse()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        keep(service.ExportTraceServiceRequest.FromString(body), "http", {k.lower(): v for k, v in self.headers.items()})
        self.answer(b"")

    def do_GET(self):
        self.answer(json.dumps(spans).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
service_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
address = f"127.0.0.1:{grpc_port}"
if encrypted:
    https_port, certificate, key = encrypted
    pair = (open(key, "rb").read(), open(certificate, "rb").read())
    bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    https = ThreadingHTTPServer(("127.0.0.1", int(https_port)), Handler)
    https.socket = context.wrap_socket(https.socket, server_side=True)
    threading.Thread(target=https.serve_forever, daemon=True).start()
else:
    bound = server.add_insecure_port(address)
if bound == 0:
    sys.exit("no port for gRPC")
server.start()
ThreadingHTTPServer(("127.0.0.1", int(http_port)), Handler).serve_forever()
