"""Two processes that time in turns: a token goes to and fro between them over a local socket."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from acmix_bench.errors import WAITED_IN_VAIN

PATIENCE = 60.0  # seconds to wait for the other to build and warm up, or to finish a block
SPINNING = 0.1  # seconds to wait at most for threads that spin


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Where the two meet, and which of them begins."""

    path: Path
    first: bool

    def join(self) -> Token:
        """Meet the other.

        Raises:
            TimeoutError: where it does not come.
        """
        try:
            connection = self._accept() if self.first else self._connect()
        except TimeoutError:
            raise TimeoutError(WAITED_IN_VAIN) from None
        connection.settimeout(PATIENCE)
        return Token(connection, held=self.first)

    def _accept(self) -> socket.socket:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path))
            listener.listen(1)
            listener.settimeout(PATIENCE)
            connection, _ = listener.accept()
        self.path.unlink()
        return connection

    def _connect(self) -> socket.socket:
        end = time.monotonic() + PATIENCE
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.path))
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                if time.monotonic() > end:
                    raise TimeoutError from None
                time.sleep(0.001)


class Token:
    """The right to run."""

    def __init__(self, connection: socket.socket, *, held: bool) -> None:
        self._connection, self._held, self._ended = connection, held, False

    def take(self) -> bool:
        """Wait for the token; False where it or the other has ended.

        Raises:
            TimeoutError: where it does not come.
        """
        if not self._held and not self._ended:
            try:
                with suppress(ConnectionResetError):
                    self._held = bool(self._connection.recv(1))
            except TimeoutError:
                raise TimeoutError(WAITED_IN_VAIN) from None
            if not self._held:
                self.end()
        return self._held

    def give(self) -> bool:
        """Hand the token on, with the cores free; False where it or the other has ended."""
        _rest()
        self._held = False
        if self._ended:
            return False
        try:
            self._connection.sendall(b".")
        except (BrokenPipeError, ConnectionResetError):
            self.end()
            return False
        return True

    def end(self) -> None:
        """Leave; the other's next wait tells it."""
        self._ended = True
        self._connection.close()


def _rest() -> None:
    """Wait until no other thread of this process runs.

    OpenMP's threads spin for milliseconds after their work is done, on cores that the other process is about to need.
    """
    end = time.monotonic() + SPINNING
    tasks = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != threading.get_native_id()]
    while any(_is_running(task) for task in tasks) and time.monotonic() < end:
        time.sleep(0.0005)


def _is_running(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False
