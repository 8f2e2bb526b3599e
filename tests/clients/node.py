"""node.py -- one dsqld with an empty store, for tests of clients.

    class Wire(node.TestCase):      # setUpClass starts it, tearDownClass ends it
        def test_x(self): self.port ...
    node.main()
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

ARGS = None
START_SECONDS = 60
STOP_SECONDS = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    """Starts in the constructor; ready when its SQL port answers."""

    def __init__(self, *flags):
        self.dir = tempfile.mkdtemp(prefix="dsql-clients-")
        self.port = free_port()
        self.log_path = os.path.join(self.dir, "log")
        self.asked_to_end = False
        command = [ARGS.dsqld, "start", "--store", os.path.join(self.dir, "store"),
                   "--listen-sql", f"127.0.0.1:{self.port}",
                   "--listen-rpc", f"127.0.0.1:{free_port()}",
                   "--listen-http", f"127.0.0.1:{free_port()}", *flags]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def _wait_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError("dsqld ended at start:\n" + self.log())
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                if '"node.ready"' in self.log():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("dsqld did not become ready:\n" + self.log())

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def terminate(self):
        """Once: a second signal would cut it short."""
        if not self.asked_to_end:
            self.asked_to_end = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """Ends it politely; a report of a sanitizer or a broken invariant fails the test."""
        if self.process.poll() is None:
            self.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
            log = self.log()
        finally:
            self.kill()
        if code != 0 or "Sanitizer" in log or "runtime error" in log:
            raise AssertionError(f"dsqld ended with {code}:\n" + log[-20000:])

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class TestCase(unittest.TestCase):
    FLAGS = ("--insecure",)

    @classmethod
    def setUpClass(cls):
        cls.node = Node(*cls.FLAGS)
        cls.port = cls.node.port

    @classmethod
    def tearDownClass(cls):
        cls.node.stop()


def main():
    global ARGS
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsqld", required=True)
    parser.add_argument("--dsqlctl")
    ARGS, rest = parser.parse_known_args()
    # The tests see this module under its own name, not as __main__.
    sys.modules["node"].ARGS = ARGS
    unittest.main(module="__main__", argv=[sys.argv[0], *rest])
