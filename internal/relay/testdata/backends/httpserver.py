# Python's own web server with handlers that read no body and keep the
# connection. It says its port, and a line for each request that it executes.
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def execute(self):
        line = "executed %s %s verdict=%s subject=%s\n" % (
            self.command, self.path, self.headers.get("X-Client-Verdict", ""), self.headers.get("X-Client-Subject", ""))
        sys.stdout.write(line)
        sys.stdout.flush()
        body = line.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_BREW = do_CONNECT = execute

    def log_message(self, *args):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

server = Server(("127.0.0.1", 0), Handler)
print("port", server.server_address[1], flush=True)
server.serve_forever()
