"""The proxy as a process: started on a free port, ready once its log says so, its log at hand for every check."""

import re
import subprocess
import threading

from checks import Failed

READY = re.compile(r" - Started server on (?:\S*:)(\d+)$")


class Proxy:
    """Runs until it is stopped."""

    def __init__(self, executable, flags, directory, is_tls, machine=()):
        self.command = [*machine, executable, "--hostname", "127.0.0.1", "--port", "0", *flags]
        self._lines, self._has_ended = [], False
        self._changed = threading.Condition()
        self._process = subprocess.Popen(self.command, cwd=directory, stdin=subprocess.DEVNULL, text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.port = int(self.expect_line(READY, "the proxy did not start").group(1))
        except Failed as failure:
            self.stop()
            raise Failed("\n".join([str(failure), *self.lines()])) from None
        self.url = f"https://localhost:{self.port}" if is_tls else f"http://127.0.0.1:{self.port}"

    def ports(self, count):
        """The ports of all its listeners, in the order of the configuration."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ports()) >= count or self._has_ended, 5)
            if len(self._ports()) != count:
                raise Failed(f"the proxy has {len(self._ports())} listeners, not {count}")
            return self._ports()

    def _ports(self):
        return [int(match.group(1)) for match in map(READY.search, self._lines) if match]

    def stop(self):
        """Ends it as an operator would; it has five seconds for that."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended, 5)

    def is_running(self):
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def lines(self):
        """The log so far."""
        with self._changed:
            return list(self._lines)

    def expect_line(self, pattern, complaint, seconds=5):
        """Waits for a line of the log in which `pattern` is found; returns the match."""
        def find():
            return next(filter(None, map(re.compile(pattern).search, self._lines)), None)

        with self._changed:
            self._changed.wait_for(lambda: find() or self._has_ended, seconds)
            match = find()
        if not match:
            raise Failed(f"{complaint}: no line of its log matches {re.compile(pattern).pattern!r}")
        return match

    def expect_access(self, method, host, port, path, status=200):
        """Waits for the access line of a request: it shows that the proxy looked into the tunnel."""
        pattern = rf" - {method} {re.escape(host)}:{port}{re.escape(path)} - {status}\b"
        return self.expect_line(pattern, "the proxy has not seen the request")

    def count_access(self, pattern):
        """How many lines of the log match."""
        return sum(1 for line in self.lines() if re.search(pattern, line))

    def _read(self):
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
