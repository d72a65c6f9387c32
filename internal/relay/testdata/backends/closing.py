# A TLS server of Python's ssl that ends the body of an answer by closing the
# connection, and that without a close_notify, as SSLSocket.close() does.
import socket, ssl, sys

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
size = int(sys.argv[3])
listener = socket.create_server(("127.0.0.1", 0))
print("port %d" % listener.getsockname()[1], flush=True)
while True:
    conn, _ = listener.accept()
    try:
        conn = context.wrap_socket(conn, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = conn.recv(4096)
            if not piece:
                break
            head += piece
        conn.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * size)
    except OSError:
        pass
    conn.close()
