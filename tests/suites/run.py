#!/usr/bin/env python3
"""run.py -- suites that nobody here wrote, against one node: how much of them passes.

    run.py SUITES BIN OUT [SUITE...]      SUITES has run-all, BIN has dsqld, OUT gets the reports

Prints one line per suite, `SUITE name passed N of M`. These are figures to watch, not a gate: the status
is 0 unless the server did not start or did not live to the end.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from servers import Dsqld  # pylint: disable=wrong-import-position


def main():
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    suites, programs, out = (os.path.abspath(a) for a in sys.argv[1:4])
    with tempfile.TemporaryDirectory(prefix="dsql-suites-") as folder:
        server = Dsqld(folder, 1, programs)
        try:
            server.start()
            env = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(server.port),
                   "PGUSER": "postgres", "PGPASSWORD": "x", "PGDATABASE": "postgres"}
            subprocess.run([os.path.join(suites, "run-all"), out, *sys.argv[4:]], env=env, check=False)
            dead = any(p.poll() is not None for p in server.processes)
        finally:
            server.stop()
    if dead:
        print("suites: dsqld did not live to the end", file=sys.stderr)
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
