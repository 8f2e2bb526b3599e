"""pgserver.py -- a PostgreSQL 15 of our own, for comparison: in a temporary directory, on a free port
of the loopback interface, gone when the `with` block ends.

    with PostgresServer() as server:
        c = Connection("127.0.0.1", server.port)

PostgreSQL refuses to run as root; then it runs as the user `postgres` of Debian's package.
"""

import os
import shutil
import socket
import subprocess
import tempfile

BIN = "/usr/lib/postgresql/15/bin"
USER = "dsql"


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class PostgresServer:
    def __init__(self, settings=None):
        self.port = free_port()
        self.settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "",
                         "fsync": "off", "timezone": "UTC", "log_timezone": "UTC",
                         "max_prepared_transactions": "10", **(settings or {})}
        self.folder = None

    def _run(self, *command):
        prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, cwd=self.folder,
                              check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: {done.stderr or done.stdout}")

    def _pg_ctl(self, *arguments):
        # Not captured: the server keeps the descriptors that it inherits.
        prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        subprocess.run([*prefix, f"{BIN}/pg_ctl", "-D", f"{self.folder}/data", "-l",
                        f"{self.folder}/log", "-w", *arguments], check=True, cwd=self.folder,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="dsql-pg-")
        try:
            if os.getuid() == 0:
                shutil.chown(self.folder, "postgres")
            self._run(f"{BIN}/initdb", "-D", f"{self.folder}/data", "-U", USER, "-A", "trust",
                      "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
            with open(f"{self.folder}/data/postgresql.conf", "a", encoding="utf-8") as f:
                f.write(f"port = {self.port}\n")
                for name, value in self.settings.items():
                    f.write(f"{name} = '{value}'\n")
            self._pg_ctl("start")
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_):
        try:
            self._pg_ctl("-m", "immediate", "stop")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
