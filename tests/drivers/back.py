"""A back end as lax as many that are in use: `python tests/drivers/back.py` prints its port, then a line for each
request that it took, with its body read to the end: `RELAY ID STATUS "LINE"`."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.whole()
        self.record(200)
        answer = body or b"hello\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_TRACE = do_CONNECT = answer

    def whole(self):
        # As lax as `int` is.
        length = int(self.headers.get("Content-Length", "0"))
        return self.exactly(length)

    def chunks(self):
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            if size == 0:
                while self.rfile.readline().strip():
                    pass
                return body
            body += self.exactly(size)
            self.rfile.readline()

    def exactly(self, length):
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("a body was cut")
        return body

    def record(self, status):
        headers = getattr(self, "headers", None) or {}
        relay, request_id = headers.get("X-Relay", "-"), headers.get("X-Request-Id", "-")
        print(f'{relay} {request_id} {status} "{self.requestline}"', flush=True)

    def send_error(self, code, message=None, explain=None):
        self.record(int(code))
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A body that was cut is no request.
        pass


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
