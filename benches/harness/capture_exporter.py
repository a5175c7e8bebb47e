"""Exporters that serve captures: `/t/3` is the third target, which serves the scrape of its file that is due now.

    capture_exporter.py PORT DIRECTORY

A target that has the same file as another begins elsewhere in it.
"""

import http.server
import sys
import time

import captures

STEP = 15


def bodies(path):
    """The bodies of a capture, as they were served."""
    whole = captures.text(path).split("# SCRAPE ")[1:]
    # The last one may have been cut off.
    return [body.partition("\n")[2].encode() for body in whole[:-1]]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        number = int(self.path.rpartition("/")[2])
        scrapes = self.server.files[number % len(self.server.files)]
        body = scrapes[(int(time.time() / STEP) + 17 * number) % len(scrapes)]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    port, directory = int(sys.argv[1]), sys.argv[2]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.files = [bodies(path) for path in captures.files(directory).values()]
    server.serve_forever()


if __name__ == "__main__":
    main()
