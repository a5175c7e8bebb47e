"""Plays the servers that discovery asks: a proxy per case, which answers every host from recordings.

Arguments: a certificate and its key, for hosts that are asked over TLS. A line of the input is a list of cases, each
a list of answers (`request`, `status`, `headers`, `body`, as in connectors/tests/data/discovery); the line of the
output is the list of the ports. An answer fits a request with its method, host and path, if all of its parameters
and words are in it; the one with the most parameters is given. Serves until the input ends.
"""

import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class Answer:
    def __init__(self, recorded):
        self.method, url, *words = recorded["request"].split(" ")
        # Of a form, each field may stand anywhere.
        self.words = [part for word in words for part in word.lower().split("&")]
        parts = urlsplit(url)
        self.place = (parts.hostname, parts.path or "/")
        self.parameters = parse_qsl(parts.query, keep_blank_values=True)
        self.status = recorded.get("status", 200)
        self.headers = recorded.get("headers", {})
        body = recorded["body"]
        self.body = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()

    def fits(self, method, url, rest):
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        return (
            (method, parts.hostname, parts.path.replace("//", "/") or "/") == (self.method, *self.place)
            and all(parameter in given for parameter in self.parameters)
            and all(word in rest for word in self.words)
        )


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    origin = ""

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")
        self.origin = "https://" + self.path.removesuffix(":443")
        self.close_connection = False

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        rest = f"{self.headers}{body}".lower()
        # Who asks without the proxy names the host in a header.
        origin = self.origin or "http://" + (self.headers.get("Host") or "")
        url = self.path if "://" in self.path else origin + self.path
        found = [answer for answer in self.server.answers if answer.fits(self.command, url, rest)]
        found.sort(key=lambda answer: len(answer.parameters), reverse=True)
        if found and found[0].body is None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            time.sleep(3600)
        if found:
            status, headers, content = found[0].status, dict(found[0].headers), found[0].body
        else:
            status, headers, content = 404, {}, f"nothing is recorded of {self.command} {url}".encode()
        names = {name.lower() for name in headers}
        if "content-type" not in names:
            is_json = content[:1] in (b"{", b"[")
            headers["Content-Type"] = "application/json" if is_json else "application/xml"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    do_GET = do_POST = do_HEAD = answer


def serve(answers, tls, port=0, is_tls=False):
    """Starts a server; with `is_tls` one that is itself asked over TLS. Returns its port."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Proxy)
    server.daemon_threads = True
    # A reader that ends cuts its connections.
    server.handle_error = lambda *_: None
    server.answers = [Answer(answer) for answer in answers]
    server.tls = tls
    if is_tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[1], sys.argv[2])
    cases = json.loads(sys.stdin.readline())
    print(json.dumps([serve(answers, tls) for answers in cases]), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
