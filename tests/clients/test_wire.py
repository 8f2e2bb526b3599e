"""What no driver sends, and what attackers do."""

import socket
import struct
import time
import unittest

import node
from pgclient import Connection, ConnectionLost


def startup(user="tester"):
    body = struct.pack("!I", 196608) + f"user\0{user}\0\0".encode()
    return struct.pack("!I", len(body) + 4) + body


class Wire(node.TestCase):
    def open(self):
        s = socket.create_connection(("127.0.0.1", self.port), 10)
        self.addCleanup(s.close)
        return s

    def logged_in(self):
        s = self.open()
        s.sendall(startup())
        self.read_until_ready(s)
        return s

    def read_until_ready(self, s):
        data = b""
        while b"Z\0\0\0\5" not in data[-64:]:
            more = s.recv(65536)
            self.assertNotEqual(more, b"", f"closed after {data[-200:]!r}")
            data += more
        return data

    def assert_served(self):
        start = time.monotonic()
        with Connection("127.0.0.1", self.port) as c:
            self.assertEqual(c.simple("select 1")[0].texts(), [["1"]])
        self.assertLess(time.monotonic() - start, 10)

    def read_to_end(self, s):
        data = b""
        try:
            while True:
                more = s.recv(65536)
                if not more:
                    return data
                data += more
        except ConnectionResetError:
            return data

    def test_garbage_is_refused_and_hurts_nobody(self):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\4", b"\x7f\xff\xff\xff", b"\0" * 4096,
                        b"\x16\3\1\2\0\1\0\1\xfc\3\3" + b"x" * 600):
            s = self.open()
            s.sendall(garbage)
            self.read_to_end(s)
        self.assert_served()

    def test_half_open_connections_do_not_shut_out_clients(self):
        strangers = [self.open() for _ in range(300)]
        for s in strangers[:150]:
            s.sendall(b"\0\0")
        self.assert_served()

    def test_slow_sender_is_served(self):
        s = self.open()
        for byte in startup():
            s.sendall(bytes([byte]))
        self.read_until_ready(s)
        for byte in b"Q\0\0\0\x0dselect 1\0":
            s.sendall(bytes([byte]))
        self.assertIn(b"SELECT 1", self.read_until_ready(s))

    def test_slow_reader_blocks_only_itself(self):
        s = self.logged_in()
        query = b"select repeat('x', 100000)\0"
        message = b"Q" + struct.pack("!I", len(query) + 4) + query
        s.settimeout(2)
        sent = 0
        try:
            for _ in range(2000):  # 200 MB of answers that nobody reads.
                s.sendall(message)
                sent += 1
        except (TimeoutError, socket.timeout):
            pass
        self.assert_served()

    def test_cancel_reaches_the_right_session(self):
        with Connection("127.0.0.1", self.port) as c:
            c.simple("select 1")
            s = self.open()
            s.sendall(struct.pack("!IIII", 16, 80877102, 1, 2))
            self.assertEqual(self.read_to_end(s), b"")
            self.assertEqual(c.simple("select 2")[0].texts(), [["2"]])

    def test_messages_with_wrong_lengths_end_the_session_only(self):
        for bad in (b"Q\0\0\0\0", b"Q\xff\xff\xff\xff", b"?\0\0\0\4", b"\0\0\0\0\4"):
            s = self.logged_in()
            s.sendall(bad)
            self.assertIn(b"08P01", self.read_to_end(s))
        self.assert_served()


class Shutdown(unittest.TestCase):
    def test_idle_clients_are_told_and_blocks_may_end(self):
        n = node.Node("--insecure")
        try:
            idle = Connection("127.0.0.1", n.port)
            block = Connection("127.0.0.1", n.port)
            block.simple("create table sd (id int8 primary key)")
            block.simple("begin")
            block.simple("insert into sd values (1)")
            n.terminate()
            with self.assertRaises(ConnectionLost) as caught:
                for _ in range(100):
                    idle.simple("select 1")
                    time.sleep(0.05)
            if caught.exception.error is not None:
                self.assertEqual(caught.exception.error.sqlstate, "57P01")
            self.assertEqual(block.simple("commit")[0].tag, "COMMIT")
            idle.close()
            block.close()
        finally:
            n.stop()


if __name__ == "__main__":
    node.main()
