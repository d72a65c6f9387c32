"""A second implementation of the format CipherSealed.

The program was written from docs/direct-cipher.md alone, and shares no code
with the library. It needs python3-cryptography.

    sealed.py vectors DOCUMENT                   reads and writes the test vectors of the document
    sealed.py seal SECRET CIPHER <plain >sealed  writes the stream of a client
    sealed.py open SECRET CIPHER <sealed >plain  reads the stream of a client
    sealed.py connect SECRET CIPHER PORT         sends its input to a server, and writes the answer
    sealed.py serve SECRET CIPHER                prints its port, accepts one client, sends back
                                                 what it receives, and prints whether the client joined

SECRET is key:HEX, scrypt:PASSPHRASE, sha256:PASSPHRASE or sha512:PASSPHRASE.
A comma and the cost can follow the KDF: sha512,100000:PASSPHRASE.
"""

import hashlib
import os
import re
import socket
import struct
import sys
import threading

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import aead
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"sslfseal"
VERSION = 1
CLIENT, SERVER = 1, 2
DATA, BEGIN, JOIN, END = 0, 1, 2, 3
MAX_DATA = 16384
TAG = 16
GENERATION = 1048576
KDF_NONE, KDF_SCRYPT, KDF_SHA256, KDF_SHA512 = 0, 1, 2, 3
ACCEPTED = {
    KDF_NONE: range(0, 1),
    KDF_SCRYPT: range(14, 18),
    KDF_SHA256: range(100000, 2000001),
    KDF_SHA512: range(100000, 2000001),
}
KDFS = {"key": (KDF_NONE, 0), "scrypt": (KDF_SCRYPT, 15), "sha256": (KDF_SHA256, 600000), "sha512": (KDF_SHA512, 600000)}

# Name of the cipher: bytes of its key, and the function that makes an AEAD of a key.
CIPHERS = {"CHACHA20-POLY1305": (32, aead.ChaCha20Poly1305)}
for bits in (128, 192, 256):
    CIPHERS["AES-%d-GCM" % bits] = (bits // 8, aead.AESGCM)
    CIPHERS["AES-%d-CCM" % bits] = (bits // 8, lambda key: aead.AESCCM(key, tag_length=TAG))
    CIPHERS["AES-%d-OCB" % bits] = (bits // 8, aead.AESOCB3)
    if hasattr(aead, "AESGCMSIV"):
        CIPHERS["AES-%d-GCM-SIV" % bits] = (bits // 8, aead.AESGCMSIV)


class Refused(Exception):
    """The stream does not follow the format, or it is not authentic."""


class Secret:
    """A key, or a passphrase with the KDF and the cost that a client uses."""

    def __init__(self, kind, cost, value):
        if kind == KDF_NONE and len(value) != 32:
            raise ValueError("a key has 32 bytes")
        if kind != KDF_NONE and not 1 <= len(value) <= 1024:
            raise ValueError("a passphrase has 1 to 1024 bytes")
        self.kind, self.cost, self.value = kind, cost, value

    @classmethod
    def parse(cls, text):
        name, _, value = text.partition(":")
        name, _, cost = name.partition(",")
        kind, default = KDFS[name]
        value = bytes.fromhex(value) if kind == KDF_NONE else value.encode()
        return cls(kind, int(cost) if cost else default, value)

    def accepts(self, kind, cost):
        return (kind == KDF_NONE) == (self.kind == KDF_NONE) and kind in ACCEPTED and cost in ACCEPTED[kind]

    def static_key(self, kind, cost, salt):
        if kind == KDF_NONE:
            return self.value
        if kind == KDF_SCRYPT:
            n = 1 << cost
            return hashlib.scrypt(self.value, salt=salt, n=n, r=8, p=1, maxmem=128 * 8 * (n + 64) * 2, dklen=32)
        digest = {KDF_SHA256: "sha256", KDF_SHA512: "sha512"}[kind]
        return hashlib.pbkdf2_hmac(digest, self.value, salt, cost, 32)


def write_header(role, kind, cost, salt, cipher):
    name = cipher.encode("ascii")
    return MAGIC + struct.pack(">BBBI", VERSION, role, kind, cost) + salt + bytes([len(name)]) + name


class Keys:
    """The keys of one stream. They follow the number of the record."""

    def __init__(self, static, cipher, role, phase, salts, start):
        self.static, self.cipher, self.role = static, cipher, role
        self.phase, self.salts, self.number = phase, salts, start
        self.generation = None

    def join(self, server_salt):
        return Keys(self.static, self.cipher, self.role, 2, self.salts + server_salt, self.number)

    def next(self):
        """Returns the AEAD and the nonce of the next record."""
        size, make = CIPHERS[self.cipher]
        generation = self.number // GENERATION
        if generation != self.generation:
            info = b"sslfilter sealed v1" + struct.pack(">BBQ", self.role, self.phase, generation) + self.cipher.encode()
            derived = HKDF(algorithm=hashes.SHA256(), length=size + 12, salt=self.salts, info=info).derive(self.static)
            self.generation, self.aead, self.iv = generation, make(derived[:size]), derived[size:]
        counter = bytes(4) + struct.pack(">Q", self.number)
        self.number += 1
        return self.aead, bytes(a ^ b for a, b in zip(self.iv, counter))


class Side:
    """One side of a connection: what it sends, and what it has received so far."""

    def __init__(self, role, secret, cipher, salt=None):
        self.role, self.secret, self.cipher = role, secret, cipher
        self.salt = salt or os.urandom(32)
        self.out = self.inp = None
        self.buffer = b""
        self.opened = 0            # records that were opened
        self.joined = False        # the join record was sent, or received
        self.ended = False         # the end record was received
        self.header = b""          # of the peer
        self.closed = False        # the end record was sent
        self.static = None
        if role == CLIENT:
            self.static = secret.static_key(secret.kind, secret.cost, self.salt)

    # Sending.

    def _record(self, kind, plain, before=b""):
        head = struct.pack(">BH", kind, len(plain))
        cipher, nonce = self.out.next()
        return head + cipher.encrypt(nonce, plain, before + head)

    def start(self):
        """Header and begin record. A server calls it once it has opened the first record."""
        if self.role == CLIENT:
            header = write_header(CLIENT, self.secret.kind, self.secret.cost, self.salt, self.cipher)
            self.out = Keys(self.static, self.cipher, CLIENT, 1, self.salt, 0)
        else:
            if not self.opened:
                raise Refused("a server sends nothing before it has opened a record")
            header = write_header(SERVER, KDF_NONE, 0, self.salt, self.cipher)
            self.out = Keys(self.static, self.cipher, SERVER, 2, self.peer_salt + self.salt, 0)
        return header + self._record(BEGIN, b"\0", header)

    def _join(self):
        if self.role == CLIENT and self.opened and not self.joined:
            self.joined = True
            self.out = self.out.join(self.peer_salt)
            return self._record(JOIN, b"\0")
        return b""

    def send(self, plain):
        wire = self.start() if self.out is None else b""
        wire += self._join()
        for i in range(0, len(plain), MAX_DATA):
            wire += self._record(DATA, plain[i:i + MAX_DATA])
        return wire

    def end(self):
        wire = self.send(b"") + self._record(END, b"\0")
        self.closed = True
        return wire

    # Receiving.

    def receive(self, wire):
        """Returns the plaintext of the complete records of wire."""
        self.buffer += wire
        plain = b""
        while not self.ended:
            if self.inp is None and not self._receive_header():
                break
            if len(self.buffer) < 3:
                break
            kind, n = struct.unpack(">BH", self.buffer[:3])
            if (kind == BEGIN) != (self.opened == 0) or kind > END:
                raise Refused("record of type %d at number %d" % (kind, self.opened))
            if not 1 <= n <= (MAX_DATA if kind == DATA else 1):
                raise Refused("length %d with type %d" % (n, kind))
            if len(self.buffer) < 3 + n + TAG:
                break
            text = self._open(kind, self.buffer[:3], self.buffer[3:3 + n + TAG])
            self.buffer = self.buffer[3 + n + TAG:]
            if kind == DATA:
                plain += text
            elif text != b"\0":
                raise Refused("plaintext of a record of type %d" % kind)
            elif kind == END:
                self.ended = True
        return plain

    def _open(self, kind, head, sealed):
        if kind == JOIN:
            if self.role == CLIENT or self.joined or self.out is None:
                raise Refused("a join that does not belong here")
            self.joined = True
            self.inp = self.inp.join(self.salt)
        cipher, nonce = self.inp.next()
        try:
            text = cipher.decrypt(nonce, sealed, head if self.opened else self.header + head)
        except InvalidTag:
            raise Refused("record %d is not authentic" % self.opened)
        self.opened += 1
        return text

    def _receive_header(self):
        wire = self.buffer
        if wire[:8] != MAGIC[:len(wire)]:
            raise Refused("not a sealed stream")
        if len(wire) < 48:
            return False
        version, role, kind, cost = struct.unpack(">BBBI", wire[8:15])
        size = wire[47]
        if version != VERSION:
            raise Refused("version %d" % version)
        if role != CLIENT + SERVER - self.role:
            raise Refused("role %d" % role)
        if self.role == CLIENT and (kind, cost) != (KDF_NONE, 0):
            raise Refused("KDF in the header of a server")
        if self.role == SERVER and not self.secret.accepts(kind, cost):
            raise Refused("KDF %d with cost %d" % (kind, cost))
        if not 1 <= size <= 31:
            raise Refused("length of the name %d" % size)
        if len(wire) < 48 + size:
            return False
        if wire[48:48 + size] != self.cipher.encode():
            raise Refused("cipher %r" % wire[48:48 + size])
        self.header, self.buffer = wire[:48 + size], wire[48 + size:]
        self.peer_salt = self.header[15:47]
        if self.role == SERVER:
            self.static = self.secret.static_key(kind, cost, self.peer_salt)
            self.inp = Keys(self.static, self.cipher, CLIENT, 1, self.peer_salt, 0)
        else:
            self.inp = Keys(self.static, self.cipher, SERVER, 2, self.salt + self.peer_salt, 0)
        return True


# The commands.

def vectors(document):
    text = open(document, encoding="utf-8").read()
    blocks = [b for b in re.findall(r"```text\n(.*?)```", text, re.S) if b.startswith("cipher:")]
    for block in blocks:
        check(block)
    if len(blocks) < 3:
        raise SystemExit("the document has %d conversations" % len(blocks))
    print("%d conversations" % len(blocks))


def check(block):
    fields, flights = {}, []
    for line in block.splitlines():
        if line.startswith("  "):
            flights[-1][2] += bytes.fromhex(line.strip())
            continue
        name, _, value = line.partition(":")
        value = value.strip()
        if name.endswith(" sends"):
            flights.append([name.split()[0], value, b""])
        elif name not in ("client", "server"):
            fields[name] = value
    if "key" in fields:
        secret = Secret(KDF_NONE, 0, bytes.fromhex(fields["key"]))
    elif "PBKDF2 digest" in fields:
        kind = {"SHA256": KDF_SHA256, "SHA512": KDF_SHA512}[fields["PBKDF2 digest"]]
        secret = Secret(kind, int(fields["PBKDF2 iterations"]), fields["passphrase"].encode())
    else:
        secret = Secret(KDF_SCRYPT, 15, fields["passphrase"].encode())
    sides = {
        "client": Side(CLIENT, secret, fields["cipher"], bytes.fromhex(fields["client salt"])),
        "server": Side(SERVER, secret, fields["cipher"], bytes.fromhex(fields["server salt"])),
    }
    for role, plain, wire in flights:
        sender = sides[role]
        receiver = sides["server" if role == "client" else "client"]
        mine = sender.end() if plain == "(end)" else sender.send(plain.encode())
        if mine != wire:
            raise SystemExit("%s sends %s: want\n%s\nhave\n%s" % (role, plain, wire.hex(), mine.hex()))
        got = b""
        for i in range(len(wire)):  # the receiver must not depend on the cuts of the transport
            got += receiver.receive(wire[i:i + 1])
        if receiver.ended != (plain == "(end)") or got != (b"" if receiver.ended else plain.encode()):
            raise SystemExit("%s sends %s: received %r" % (role, plain, got))


def seal(secret, cipher):
    side = Side(CLIENT, secret, cipher)
    out = sys.stdout.buffer
    out.write(side.start())
    while chunk := sys.stdin.buffer.read(MAX_DATA):
        out.write(side.send(chunk))
    out.write(side.end())


def unseal(secret, cipher):
    side = Side(SERVER, secret, cipher)
    while chunk := sys.stdin.buffer.read(MAX_DATA):
        sys.stdout.buffer.write(side.receive(chunk))
    if not side.ended:
        raise Refused("the stream was cut")
    if side.buffer:
        raise Refused("data after the end")


def connect(secret, cipher, port):
    side = Side(CLIENT, secret, cipher)
    lock, met = threading.Lock(), threading.Event()
    conn = socket.create_connection(("127.0.0.1", int(port)))
    conn.sendall(side.start())

    def sender():
        while chunk := sys.stdin.buffer.read1(MAX_DATA):
            with lock:
                conn.sendall(side.send(chunk))
            met.wait()  # so that the server knows that all but the first chunk is not a recording
        with lock:
            conn.sendall(side.end())
        conn.shutdown(socket.SHUT_WR)

    threading.Thread(target=sender, daemon=True).start()
    while wire := conn.recv(MAX_DATA):
        with lock:
            plain = side.receive(wire)
            if not side.closed:
                conn.sendall(side.send(b""))  # the join record
        if side.joined:
            met.set()
        sys.stdout.buffer.write(plain)
        sys.stdout.buffer.flush()
        if side.ended:
            return
    raise Refused("the stream was cut")


def serve(secret, cipher):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        conn, _ = listener.accept()
    side = Side(SERVER, secret, cipher)
    while not side.ended:
        wire = conn.recv(MAX_DATA)
        if not wire:
            raise Refused("the stream was cut")
        plain = side.receive(wire)
        if side.opened:
            conn.sendall(side.send(plain))
    conn.sendall(side.end())
    conn.close()
    print("fresh" if side.joined else "not fresh", flush=True)


def main(args):
    if args[1:2] == ["vectors"]:
        return vectors(args[2])
    commands = {"seal": seal, "open": unseal, "connect": connect, "serve": serve}
    if len(args) < 4 or args[1] not in commands:
        raise SystemExit(__doc__)
    try:
        commands[args[1]](Secret.parse(args[2]), args[3], *args[4:])
        sys.stdout.flush()
    except Refused as refused:
        raise SystemExit("sealed.py: %s" % refused)


if __name__ == "__main__":
    main(sys.argv)
