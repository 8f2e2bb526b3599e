"""sessions.py -- several sessions that step in turn, where a step may block.

    s = Sessions(connect)           # connect() gives a pgclient.Connection
    s.step("a", "update t set x = 1 where id = 1")
    step = s.step("b", "update t set x = 2 where id = 1")
    step.blocked                    # it had no answer within PATIENCE
    s.step("a", "commit")
    step.wait()                     # its Result now
    s.close()

Every session has a thread; its steps run in order, so a step behind a blocked one waits for it.
"""

import concurrent.futures
import time

PATIENCE = 0.25     # What takes longer is taken for blocked.
STUCK = 20.0        # What takes longer is a failure.


class Step:
    def __init__(self, future, sql):
        self.future, self.sql = future, sql
        self.blocked = False

    def wait(self, seconds=STUCK):
        """Its Result; an AssertionError when it is stuck."""
        try:
            return self.future.result(seconds)
        except concurrent.futures.TimeoutError:
            raise AssertionError(f"stuck for {seconds} s: {self.sql}") from None

    @property
    def sqlstate(self):
        error = self.wait().error
        return None if error is None else error.sqlstate

    @property
    def rows(self):
        """Rows in text form; None after an error."""
        result = self.wait()
        return None if result.error is not None else [tuple(r) for r in result.texts()]


class Sessions:
    def __init__(self, connect):
        self._connect = connect
        self._open = {}

    def _session(self, name):
        if name not in self._open:
            self._open[name] = (self._connect(), concurrent.futures.ThreadPoolExecutor(1), [])
        return self._open[name]

    def connection(self, name):
        return self._session(name)[0]

    def step(self, name, sql):
        connection, thread, steps = self._session(name)
        step = Step(thread.submit(lambda: connection.simple(sql)[-1]), sql)
        steps.append(step)
        done, _ = concurrent.futures.wait([step.future], PATIENCE)
        step.blocked = not done
        return step

    def settle(self):
        """Waits for everything; returns the steps of each session."""
        for _, _, steps in self._open.values():
            for step in steps:
                step.wait()
        return {name: steps for name, (_, _, steps) in self._open.items()}

    def close(self):
        for connection, thread, _ in self._open.values():
            connection.close()
            thread.shutdown(wait=True)
        self._open = {}


def timed(step, seconds=STUCK):
    """How long the step still takes."""
    began = time.monotonic()
    step.wait(seconds)
    return time.monotonic() - began
