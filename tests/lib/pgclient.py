"""pgclient.py -- a small client of the PostgreSQL protocol, version 3.

For tests: it shows what the server really sent (column types, command tags, every field of an error,
notices, the state of the transaction) and can send what no driver would. Standard library only.

    with Connection("127.0.0.1", port) as c:
        for result in c.simple("select 1; select 2"):
            print(result.columns, result.rows, result.tag, result.error)
        r = c.extended("select $1::int + 1", ["41"], result_format=BINARY)
        print(r.texts())                # [["42"]]

Rows hold bytes as they came (None: NULL); texts() decodes both formats to PostgreSQL's text form.
A server that says FATAL or goes away raises ConnectionLost; an ordinary error is in result.error.
"""

import base64
import decimal
import hashlib
import hmac
import os
import socket
import ssl
import struct
import uuid

TEXT, BINARY = 0, 1

BOOL, BYTEA, CHAR, NAME, INT8, INT2, INT4, TEXT_OID, OID = 16, 17, 18, 19, 20, 21, 23, 25, 26
FLOAT4, FLOAT8, UNKNOWN, BPCHAR, VARCHAR = 700, 701, 705, 1042, 1043
DATE, TIMESTAMP, TIMESTAMPTZ, NUMERIC, UUID, VOID = 1082, 1114, 1184, 1700, 2950, 2278

TYPE_NAMES = {
    BOOL: "bool", BYTEA: "bytea", CHAR: "char", NAME: "name", INT8: "int8", INT2: "int2",
    INT4: "int4", TEXT_OID: "text", OID: "oid", FLOAT4: "float4", FLOAT8: "float8",
    UNKNOWN: "unknown", BPCHAR: "bpchar", VARCHAR: "varchar", DATE: "date",
    TIMESTAMP: "timestamp", TIMESTAMPTZ: "timestamptz", NUMERIC: "numeric", UUID: "uuid",
    VOID: "void", 1005: "int2[]", 1007: "int4[]", 1009: "text[]", 1016: "int8[]",
    1186: "interval", 114: "json", 3802: "jsonb", 2205: "regclass",
}
TYPE_OIDS = {name: oid for oid, name in TYPE_NAMES.items()}

# The fields of ErrorResponse and NoticeResponse.
FIELDS = {
    "S": "severity", "V": "severity_plain", "C": "sqlstate", "M": "message", "D": "detail",
    "H": "hint", "P": "position", "p": "internal_position", "q": "internal_query", "W": "where",
    "s": "schema", "t": "table", "c": "column", "d": "type", "n": "constraint", "F": "file",
    "L": "line", "R": "routine",
}


class ConnectionLost(Exception):
    """The server closed the connection, or said FATAL (then `error` is set)."""

    def __init__(self, text, error=None):
        super().__init__(text)
        self.error = error


class ProtocolError(Exception):
    """The server sent what the protocol does not allow here."""


class ServerError(Exception):
    """Raised by Result.check()."""


class Notice:
    """An ErrorResponse or NoticeResponse; each field of FIELDS is an attribute, None when absent."""

    def __init__(self, body):
        for name in FIELDS.values():
            setattr(self, name, None)
        for field in body.rstrip(b"\0").split(b"\0"):
            name = FIELDS.get(chr(field[0]))
            if name is not None:
                setattr(self, name, field[1:].decode())

    def __str__(self):
        return f"{self.severity} {self.sqlstate} {self.message}"


class Column:
    def __init__(self, name, table, attnum, oid, typlen, typmod, fmt):
        self.name, self.table, self.attnum = name, table, attnum
        self.type, self.typlen, self.typmod, self.format = oid, typlen, typmod, fmt

    @property
    def type_name(self):
        return TYPE_NAMES.get(self.type, str(self.type))

    def __repr__(self):
        return f"{self.name}:{self.type_name}"


class Result:
    """What one statement gave. Exactly one of tag, error, suspended and empty is set at its end."""

    def __init__(self):
        self.columns = None     # None: it returns no rows.
        self.rows = []
        self.tag = None
        self.error = None
        self.suspended = False
        self.empty = False
        self.notices = []
        self.params = None      # Types, after a Describe of a statement.
        self.copy_data = []

    def texts(self):
        """The rows in text form, whatever format they came in."""
        return [[None if v is None else decode(c.type, c.format, v)
                 for c, v in zip(self.columns, row)] for row in self.rows]

    def check(self):
        if self.error is not None:
            raise ServerError(str(self.error))
        return self


def _decode_numeric(data):
    ndigits, weight, sign, dscale = struct.unpack(">hhHH", data[:8])
    if sign in (0xC000, 0xD000, 0xF000):
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}[sign]
    digits = struct.unpack(f">{ndigits}h", data[8:])
    whole = "".join(f"{digits[i] if i < ndigits else 0:04d}" for i in range(weight + 1))
    text = whole.lstrip("0") or "0"
    if dscale > 0:
        count = (dscale + 3) // 4
        places = [digits[i] if 0 <= i < ndigits else 0
                  for i in range(weight + 1, weight + 1 + count)]
        text += "." + "".join(f"{d:04d}" for d in places)[:dscale]
    return ("-" if sign == 0x4000 else "") + text


def _shortest(value, size):
    """The shortest digits that give the same float back: "d.ddde+xx" of Python."""
    if size == 8:
        return repr(value)
    for precision in range(1, 10):
        text = f"{value:.{precision}g}"
        if struct.pack(">f", float(text)) == struct.pack(">f", value):
            break
    return text


def _decode_float(value, size):
    """As float4out and float8out print it: with an exponent below 1e-4 and from 1e6 or 1e15 on."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = decimal.Decimal(_shortest(value, size)).normalize().as_tuple()
    text = "".join(map(str, digits))
    scale = len(text) + exponent - 1  # Of the first digit.
    minus = "-" if sign else ""
    if value == 0:
        return minus + "0"
    if scale < -4 or scale >= (6 if size == 4 else 15):
        return f"{minus}{text[0]}{'.' + text[1:] if len(text) > 1 else ''}e{scale:+03d}"
    if exponent >= 0:
        return minus + text + "0" * exponent
    text = text.rjust(1 - exponent, "0")
    return f"{minus}{text[:exponent]}.{text[exponent:]}"


def _civil(days):
    """(year, month, day) of a day counted from 2000-01-01; any year, as datetime knows few."""
    z = days + 730425  # From 0000-03-01.
    era, doe = divmod(z, 146097)
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return era * 400 + yoe + (month <= 2), month, doy - (153 * mp + 2) // 5 + 1


def _decode_day(days):
    year, month, day = _civil(days)
    return (f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}",
            "" if year > 0 else " BC")


def _decode_timestamp(micros, suffix):
    if micros == 2**63 - 1:
        return "infinity"
    if micros == -2**63:
        return "-infinity"
    days, micros = divmod(micros, 86400 * 10**6)
    seconds, micros = divmod(micros, 10**6)
    date, era = _decode_day(days)
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{date} {time}{fraction}{suffix}{era}"


def decode(oid, fmt, data):
    """The text form of a value; timestamps in UTC."""
    if fmt == TEXT or oid in (TEXT_OID, VARCHAR, BPCHAR, NAME, UNKNOWN, CHAR):
        return data.decode()
    simple = {INT2: ">h", INT4: ">i", INT8: ">q", OID: ">I"}
    if oid in simple:
        return str(struct.unpack(simple[oid], data)[0])
    if oid == BOOL:
        return {b"\0": "f", b"\1": "t"}[data]
    if oid == FLOAT4:
        return _decode_float(struct.unpack(">f", data)[0], 4)
    if oid == FLOAT8:
        return _decode_float(struct.unpack(">d", data)[0], 8)
    if oid == TIMESTAMPTZ:
        return _decode_timestamp(struct.unpack(">q", data)[0], "+00")
    if oid == TIMESTAMP:
        return _decode_timestamp(struct.unpack(">q", data)[0], "")
    if oid == DATE:
        return "".join(_decode_day(struct.unpack(">i", data)[0]))
    if oid == NUMERIC:
        return _decode_numeric(data)
    if oid == UUID:
        return str(uuid.UUID(bytes=data))
    if oid == BYTEA:
        return "\\x" + data.hex()
    if oid == VOID:
        return ""
    raise ProtocolError(f"no binary decoder for type {oid}")


def encode_binary(oid, text):
    """The binary form of a parameter given as text."""
    simple = {INT2: ">h", INT4: ">i", INT8: ">q", OID: ">I"}
    if oid in simple:
        return struct.pack(simple[oid], int(text))
    if oid == BOOL:
        return b"\1" if text in ("t", "true") else b"\0"
    if oid == FLOAT8:
        return struct.pack(">d", float(text))
    if oid == FLOAT4:
        return struct.pack(">f", float(text))
    return text.encode()


class Connection:
    """One session. `parameters`, `pid`, `txn` ('I', 'T' or 'E') follow what the server reports."""

    def __init__(self, host, port, user="dsql", database="postgres", password=None, options=None,
                 timeout=30, tls=None):
        self.address = (host, port)
        self.password = password
        self.user = user
        self.parameters = {}
        self.notices = []       # Those that belong to no result.
        self.pid = self.secret = None
        self.txn = None
        self._in = b""
        self._out = bytearray()
        self._sock = socket.create_connection(self.address, timeout=timeout)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if tls is not None:
                self._start_tls(tls, host)
            self._startup({"user": user, "database": database, **(options or {})})
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- Bytes -----------------------------------------------------------------------------------

    def _recv_exactly(self, count):
        while len(self._in) < count:
            data = self._sock.recv(65536)
            if not data:
                raise ConnectionLost("the server closed the connection")
            self._in += data
        head, self._in = self._in[:count], self._in[count:]
        return head

    def send(self, kind, body=b""):
        """Queues a message; flush_out() sends it."""
        self._out += kind + struct.pack(">I", len(body) + 4) + body

    def flush_out(self):
        if self._out:
            self._sock.sendall(self._out)
            self._out.clear()

    def receive(self):
        """The next message: (kind, body). Notices and parameters come too."""
        self.flush_out()
        head = self._recv_exactly(5)
        size = struct.unpack(">I", head[1:])[0]
        if size < 4:
            raise ProtocolError(f"message of {size} bytes")
        return head[:1], self._recv_exactly(size - 4)

    # ---- Start -----------------------------------------------------------------------------------

    def _start_tls(self, context, host):
        self._sock.sendall(struct.pack(">II", 8, 80877103))
        if self._sock.recv(1) != b"S":
            raise ConnectionLost("the server does not offer TLS")
        if context is True:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._sock = context.wrap_socket(self._sock, server_hostname=host)

    def _startup(self, parameters):
        body = struct.pack(">I", 196608)
        for name, value in parameters.items():
            body += name.encode() + b"\0" + value.encode() + b"\0"
        body += b"\0"
        self._sock.sendall(struct.pack(">I", len(body) + 4) + body)
        while True:
            kind, body = self.receive()
            if kind == b"R":
                self._authenticate(body)
            elif kind == b"K":
                self.pid, self.secret = struct.unpack(">II", body)
            elif kind == b"E":
                error = Notice(body)
                raise ConnectionLost(str(error), error)
            elif kind == b"Z":
                self.txn = body.decode()
                return
            else:
                self._async_message(kind, body)

    def _authenticate(self, body):
        code = struct.unpack(">I", body[:4])[0]
        if code == 0:
            return
        if code == 3:
            self.send(b"p", self.password.encode() + b"\0")
        elif code == 5:
            inner = hashlib.md5((self.password + self.user).encode()).hexdigest()
            outer = hashlib.md5(inner.encode() + body[4:8]).hexdigest()
            self.send(b"p", b"md5" + outer.encode() + b"\0")
        elif code == 10:
            self._scram()
        else:
            raise ProtocolError(f"authentication method {code}")

    def _scram(self):
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        first = ("n,," + bare).encode()
        self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first)
        server_first = self._scram_reply(11).decode()
        fields = dict(f.split("=", 1) for f in server_first.split(","))
        if not fields["r"].startswith(nonce):
            raise ProtocolError("SCRAM: the server's nonce does not extend ours")
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(),
                                     base64.b64decode(fields["s"]), int(fields["i"]))
        final = f"c=biws,r={fields['r']}"
        signed = f"{bare},{server_first},{final}".encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.send(b"p", f"{final},p={base64.b64encode(proof).decode()}".encode())
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        expected = base64.b64encode(hmac.digest(server_key, signed, "sha256")).decode()
        if self._scram_reply(12).decode() != f"v={expected}":
            raise ProtocolError("SCRAM: the server does not know the password")

    def _scram_reply(self, want):
        kind, body = self.receive()
        if kind == b"E":
            error = Notice(body)
            raise ConnectionLost(str(error), error)
        if kind != b"R" or struct.unpack(">I", body[:4])[0] != want:
            raise ProtocolError(f"SCRAM: unexpected {kind}")
        return body[4:]

    # ---- Results ---------------------------------------------------------------------------------

    def _async_message(self, kind, body):
        if kind == b"S":
            name, value = body.decode().split("\0")[:2]
            self.parameters[name] = value
        elif kind == b"N":
            self.notices.append(Notice(body))
        elif kind != b"A":
            raise ProtocolError(f"unexpected message {kind}")

    @staticmethod
    def _columns(body):
        columns = []
        count = struct.unpack(">H", body[:2])[0]
        at = 2
        for _ in range(count):
            end = body.index(b"\0", at)
            name = body[at:end].decode()
            fixed = struct.unpack(">IhIhih", body[end + 1:end + 19])
            columns.append(Column(name, *fixed))
            at = end + 19
        if at != len(body):
            raise ProtocolError("RowDescription has bytes behind its end")
        return columns

    @staticmethod
    def _row(body):
        row = []
        count = struct.unpack(">H", body[:2])[0]
        at = 2
        for _ in range(count):
            size = struct.unpack(">i", body[at:at + 4])[0]
            at += 4
            if size < 0:
                row.append(None)
            else:
                row.append(body[at:at + size])
                at += size
        if at != len(body):
            raise ProtocolError("DataRow has bytes behind its end")
        return row

    def _take(self, result, kind, body):
        """Puts a message into the result. True when it ends the result."""
        if kind == b"T":
            result.columns = self._columns(body)
        elif kind == b"D":
            result.rows.append(self._row(body))
        elif kind == b"C":
            result.tag = body.rstrip(b"\0").decode()
            return True
        elif kind == b"E":
            result.error = Notice(body)
            if result.error.severity_plain in ("FATAL", "PANIC"):
                raise ConnectionLost(str(result.error), result.error)
            return True
        elif kind == b"I":
            result.empty = True
            return True
        elif kind == b"s":
            result.suspended = True
            return True
        elif kind == b"N":
            result.notices.append(Notice(body))
        elif kind == b"t":
            count = struct.unpack(">H", body[:2])[0]
            result.params = list(struct.unpack(f">{count}I", body[2:]))
        elif kind == b"d":
            result.copy_data.append(body)
        elif kind == b"G":
            self.send(b"f", b"no data\0")
        elif kind not in (b"1", b"2", b"3", b"n", b"H", b"c"):
            self._async_message(kind, body)
        return False

    def simple(self, sql):
        """A Query message; a result per statement."""
        self.send(b"Q", sql.encode() + b"\0")
        results = []
        result = Result()
        while True:
            kind, body = self.receive()
            if kind == b"Z":
                self.txn = body.decode()
                if results:
                    results[-1].notices += result.notices
                return results
            if self._take(result, kind, body):
                results.append(result)
                result = Result()

    def query(self, sql):
        """The text rows of one statement; raises ServerError."""
        results = self.simple(sql)
        for r in results:
            r.check()
        return results[-1].texts() if results[-1].columns is not None else []

    # ---- Extended protocol -------------------------------------------------------------------------

    def parse(self, sql, name="", types=()):
        self.send(b"P", name.encode() + b"\0" + sql.encode() + b"\0"
                  + struct.pack(f">H{len(types)}I", len(types), *types))

    def bind(self, params=(), portal="", name="", formats=(), result_formats=()):
        """params: bytes, str or None."""
        body = portal.encode() + b"\0" + name.encode() + b"\0"
        body += struct.pack(f">H{len(formats)}H", len(formats), *formats)
        body += struct.pack(">H", len(params))
        for p in params:
            if p is None:
                body += struct.pack(">i", -1)
            else:
                data = p.encode() if isinstance(p, str) else p
                body += struct.pack(">I", len(data)) + data
        body += struct.pack(f">H{len(result_formats)}H", len(result_formats), *result_formats)
        self.send(b"B", body)

    def describe(self, kind="P", name=""):
        self.send(b"D", kind.encode() + name.encode() + b"\0")

    def execute(self, portal="", rows_max=0):
        self.send(b"E", portal.encode() + b"\0" + struct.pack(">I", rows_max))

    def close_object(self, kind, name):
        self.send(b"C", kind.encode() + name.encode() + b"\0")

    def flush(self):
        self.send(b"H")

    def sync(self):
        """Sends Sync and reads up to ReadyForQuery: the results of all that was queued."""
        self.send(b"S")
        results = []
        result = Result()
        while True:
            kind, body = self.receive()
            if kind == b"Z":
                self.txn = body.decode()
                if not results or result.columns is not None or result.params is not None:
                    results.append(result)
                return results
            if self._take(result, kind, body):
                results.append(result)
                result = Result()

    def extended(self, sql, params=(), types=(), formats=(), result_format=TEXT):
        """Parse, Describe statement, Bind, Describe portal, Execute, Sync."""
        self.parse(sql, types=types)
        self.describe("S")
        self.bind(params, formats=formats, result_formats=[result_format])
        self.describe("P")
        self.execute()
        results = self.sync()
        return results[0]

    # ---- End ---------------------------------------------------------------------------------------

    def cancel(self):
        """Asks the server, over a connection of its own, to stop what this one is doing."""
        with socket.create_connection(self.address, timeout=10) as s:
            s.sendall(struct.pack(">IIII", 16, 80877102, self.pid, self.secret))
            s.recv(1)

    def close(self):
        try:
            self.send(b"X")
            self.flush_out()
        except OSError:
            pass  # It is gone already.
        self._sock.close()
