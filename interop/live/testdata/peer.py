"""Python's ssl module as a TLS peer of the tests: one line of standard input is one connection, as script_test.go describes."""
import hashlib
import platform
import socket
import ssl
import sys


def context(call, side):
    made = ssl.SSLContext(side)
    made.minimum_version = made.maximum_version = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[call["version"]]
    made.set_alpn_protocols(["interop"])
    made.load_verify_locations(call["ca"])
    if "crt" in call:
        made.load_cert_chain(call["crt"], call["key"])
    if "ask" in call:
        made.verify_mode = ssl.CERT_REQUIRED
    if "crl" in call:
        made.load_verify_locations(call["crl"])
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return made


def describe(conn, said):
    said["version"], said["cipher"] = conn.version(), conn.cipher()[0]
    names = [value for part in (conn.getpeercert() or {}).get("subject", ()) for key, value in part if key == "commonName"]
    if names:
        said["cert"] = names[0]


def receive(conn, call, said):
    got = b""
    while len(got) < int(call["want"]):
        part = conn.recv(65536)
        if not part:
            raise EOFError("only %d bytes" % len(got))
        got += part
    said["sha256"] = hashlib.sha256(got).hexdigest()


def send(conn, call):
    with open(call["send"], "rb") as file:
        conn.sendall(file.read())


def end(conn, said):
    conn.unwrap()  # sends close_notify and waits for the other's
    said["end"] = "orderly"


def client(call, said):
    with socket.create_connection(("127.0.0.1", int(call["port"])), timeout=30) as plain:
        with context(call, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain, server_hostname=call.get("name", "localhost"), suppress_ragged_eofs=False) as conn:
            describe(conn, said)
            send(conn, call)
            receive(conn, call, said)
            end(conn, said)


def server(call, said):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        print("port=%d" % listener.getsockname()[1], flush=True)
        plain, _ = listener.accept()
    with plain:
        plain.settimeout(30)
        with context(call, ssl.PROTOCOL_TLS_SERVER).wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as conn:
            describe(conn, said)
            receive(conn, call, said)
            send(conn, call)
            if conn.recv(1):
                raise EOFError("more data")
            end(conn, said)


print("version=%s, %s" % (platform.python_version(), ssl.OPENSSL_VERSION.rsplit(" ", 3)[0]), flush=True)
for line in sys.stdin:
    call = dict(word.split("=", 1) for word in line.rstrip("\n").split("\t"))
    said = {}
    try:
        (client if call["role"] == "client" else server)(call, said)
    except Exception as e:
        said["error"] = " ".join((type(e).__name__ + ": " + str(e)).split())
    print("\t".join(["result"] + ["%s=%s" % item for item in said.items()]), flush=True)
