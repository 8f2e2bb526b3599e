"""servers.py -- starting and ending the servers under test, and reading what CPU they used.

Every server listens on loopback, on ports that the system picked, keeps its files below the folder that
it was given, and is ended by the process ids that were started here.
"""

import glob
import os
import pwd
import signal
import socket
import subprocess
import time

START_SECONDS = 60
STOP_SECONDS = 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pids):
    """User and system time of these processes and all their descendants, the dead included."""
    parent, used = {}, {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as f:
                # The name in parentheses may hold anything; figures start behind the last one.
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue  # Gone meanwhile; its parent has its time.
        pid = int(path.split("/")[2])
        parent[pid] = int(fields[1])
        used[pid] = sum(int(fields[i]) for i in (11, 12, 13, 14))
    total = 0
    for pid, ticks in used.items():
        ancestor = pid
        while ancestor and ancestor not in pids:
            ancestor = parent.get(ancestor, 0)
        total += ticks if ancestor else 0
    return total / os.sysconf("SC_CLK_TCK")


class Server:
    """Common part: processes, clients, waiting for an answer."""

    name = "?"
    user = "postgres"
    database = "postgres"
    port = 0

    def __init__(self):
        self.processes = []

    @property
    def pids(self):
        return {p.pid for p in self.processes}

    def client_flags(self):
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, self.database]

    def client_env(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return {**kept, "PGSSLMODE": "disable", "PGCONNECT_TIMEOUT": "5"}

    def spawn(self, command, log_path, **options):
        with open(log_path, "ab") as log:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                                   stderr=log, **options))

    def wait_ready(self, port, log_path):
        """Until a statement is answered on this port."""
        flags = ["-h", "127.0.0.1", "-p", str(port), "-U", self.user, self.database]
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if any(p.poll() is not None for p in self.processes):
                raise RuntimeError(f"{self.name} ended at once, see {log_path}")
            if subprocess.run(["psql", "-X", "-q", *flags, "-c", "SELECT 1"], env=self.client_env(),
                              capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} gave no answer in {START_SECONDS} s, see {log_path}")

    def stop(self):
        for p in reversed(self.processes):
            if p.poll() is None:
                p.send_signal(self.stop_signal)
        for p in self.processes:
            try:
                p.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.processes = []

    stop_signal = signal.SIGTERM


class Postgres(Server):
    name = "postgres15"
    stop_signal = signal.SIGINT  # "Fast": ends sessions instead of waiting for them.

    def __init__(self, folder):
        super().__init__()
        self._folder = os.path.join(folder, "postgres")
        self._bin = "/usr/lib/postgresql/15/bin"

    def start(self):
        # It refuses to run as root.
        run_as = {}
        os.mkdir(self._folder, 0o700)
        if os.getuid() == 0:
            who = pwd.getpwnam("postgres")
            os.chown(self._folder, who.pw_uid, who.pw_gid)
            run_as = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        data = os.path.join(self._folder, "data")
        subprocess.run([f"{self._bin}/initdb", "-D", data, "-U", self.user, "-A", "trust", "-E", "UTF8",
                        "--no-locale"], check=True, capture_output=True, cwd=self._folder, **run_as)
        self.port = free_port()
        log = os.path.join(self._folder + ".log")
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "shared_buffers": "256MB",
                    "unix_socket_directories": self._folder, "max_wal_size": "4GB",
                    "max_connections": 200}
        flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self.spawn([f"{self._bin}/postgres", "-D", data, *flags], log, cwd=self._folder, **run_as)
        self.wait_ready(self.port, log)


class Dsqld(Server):
    """A cluster of one or more nodes, each in a zone of its own; clients ask the first."""

    def __init__(self, folder, nodes, bin_folder):
        super().__init__()
        self.name = f"dsql-{nodes}"
        self._folder = os.path.join(folder, self.name)
        self._nodes = nodes
        self.http_ports = []
        self._program = os.path.abspath(os.path.join(bin_folder, "dsqld"))

    def start(self):
        os.mkdir(self._folder)
        first_rpc = 0
        for i in range(self._nodes):
            rpc, sql, http = free_port(), free_port(), free_port()
            self.http_ports.append(http)
            first_rpc = first_rpc or rpc
            self.port = self.port or sql
            log = os.path.join(self._folder, f"n{i + 1}.log")
            join = ["--join", f"127.0.0.1:{first_rpc}"] if i > 0 else []
            self.spawn([self._program, "start", "--store", os.path.join(self._folder, f"n{i + 1}"),
                        "--listen-rpc", f"127.0.0.1:{rpc}", "--listen-sql", f"127.0.0.1:{sql}",
                        "--listen-http", f"127.0.0.1:{http}", "--shards", "1",
                        "--locality", f"region=local,zone=z{i + 1}", "--insecure", *join], log)
            self.wait_ready(sql, log)
