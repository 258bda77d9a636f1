"""Counts requests in redis, for callers with the token."""

import hmac
import http.server
import os
import signal
import socket
import sys

with open(os.environ["TOKEN_FILE"], encoding="utf-8") as f:
    TOKEN = f.read().strip()


def redis(*words):
    """Sends one command to the database and gives the line it answers."""
    message = "*%d\r\n" % len(words) + "".join("$%d\r\n%s\r\n" % (len(w), w) for w in words)
    with socket.create_connection((os.environ["REDIS_HOST"], 6379), timeout=2) as s:
        s.sendall(message.encode())
        return s.makefile("r", newline="\r\n").readline().strip()


class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.answer(200 if redis("PING") == "+PONG" else 503, "")
        elif not hmac.compare_digest(self.headers.get("Authorization", ""), "Bearer " + TOKEN):
            self.answer(401, "the token is missing\n")
        elif self.path == "/hits":
            self.answer(200, "hits " + redis("INCR", "hits").lstrip(":") + "\n")
        else:
            self.answer(404, "there is only /hits\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening on 8000", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Api).serve_forever()
