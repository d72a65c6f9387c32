"""http.pl with Python's ssl, whose sockets end without close_notify unless unwrap is called."""
import socket
import ssl
import sys

crt, key, length, cut = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(crt, key)
listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(60)
print(listener.getsockname()[1], flush=True)
below, _ = listener.accept()
below.settimeout(60)
connection = context.wrap_socket(below, server_side=True)
request = b""
while b"\r\n\r\n" not in request:
    request += connection.recv(65536)
connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * int(length))
socket.socket(fileno=connection.detach()).sendall(bytes.fromhex(cut))
