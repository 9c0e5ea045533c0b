"""A receiver of records over HTTP: appends what is posted to a file, and acknowledges when it is there.

    receiver.py ADDRESS PORT FILE BUSY    answers 503 as long as the file BUSY exists
"""
import http.server, os, sys

address, port, path, busy = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
out = open(path, "ab", buffering=0)


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return  # the sender is gone
        status = 503 if os.path.exists(busy) else 204
        if status == 204:
            out.write(body)
        self.send_response(status)
        if status == 503:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer((address, port), Receiver).serve_forever()
