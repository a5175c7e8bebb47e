#!/usr/bin/env python3
"""Alerts joined with a table of owners, live: starts a server, and shows who has to be called as it changes.

    examples/alerts_with_owners.py                          # until Ctrl-C
    examples/alerts_with_owners.py --perennial PATH         # another binary than target/release/perennial

Two small exporters are the targets, `api` and `web`; `web` fails after 3 seconds, and then every 20 for a while. The alert and the join are
statements in SQL, the table comes as CSV (docs/sql.md). Everything is in a directory that is removed at the end.
Python's standard library is enough.
"""
import argparse
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

CONFIG = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
scrape_configs:
  - job_name: api
    static_configs: [{{targets: ['127.0.0.1:{api}']}}]
  - job_name: web
    static_configs: [{{targets: ['127.0.0.1:{web}']}}]
"""
OWNERS = "job,owner,slack\napi,ana,#api\nweb,bo,#web\n"
ALERT = "CREATE ALERT TargetDown FOR '2s' AS SELECT job, instance FROM up WHERE value = 0"
# What is followed: who has to be called for what.
CALLS = "SELECT a.alertname, a.job, a.state, o.owner, o.slack FROM alerts a JOIN owners o USING (job)"
FIRST_SECONDS = 3
OUTAGE_SECONDS = 20


class Exporter:
    """A target that answers, or not."""

    def __init__(self):
        exporter = self
        self.answers = True

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if exporter.answers else 503)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(b"requests_total 1\n")

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def ask(port, method, path, kind, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode(), {"Content-Type": kind}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_until_ready(port, server):
    for _ in range(300):
        if server.poll() is not None:
            sys.exit(f"the server has ended with code {server.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the server is not ready after 30 seconds")


def binary():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    built = [os.path.join(root, "target", kind, "perennial") for kind in ("release", "debug")]
    found = next((path for path in built if os.path.exists(path)), shutil.which("perennial"))
    return found or sys.exit("no binary: cargo build --release, or --perennial PATH")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perennial", metavar="PATH", help="the binary; default: target/release/perennial")
    perennial = parser.parse_args().perennial or binary()
    api, web = Exporter(), Exporter()
    port = free_port()
    directory = tempfile.mkdtemp(prefix="perennial-owners-")
    with open(os.path.join(directory, "prometheus.yml"), "w") as config:
        config.write(CONFIG.format(api=api.port, web=web.port))
    arguments = [
        f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--web.enable-admin-api", "--log.level=error",
    ]
    server = subprocess.Popen([perennial, *arguments])
    follower = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        wait_until_ready(port, server)
        ask(port, "PUT", "/api/v1/tables/owners", "text/csv", OWNERS)
        ask(port, "POST", "/api/v1/sql", "application/sql", ALERT)
        print(f"The page is http://127.0.0.1:{port}/. What is followed:\n\n    {CALLS}\n", flush=True)
        follower = subprocess.Popen([perennial, "sql", f"--url=http://127.0.0.1:{port}", f"{CALLS} \\watch"])
        next_change = time.monotonic() + FIRST_SECONDS
        while follower.poll() is None and server.poll() is None:
            if time.monotonic() > next_change:
                web.answers = not web.answers
                next_change += OUTAGE_SECONDS
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    except urllib.error.HTTPError as error:
        sys.exit(f"{error}: {error.read().decode()}")
    finally:
        if follower:
            follower.terminate()
        server.terminate()
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
