"""A ZeroMQ socket on an asyncio loop: no thread, no future a message, no polling.

The socket's file descriptor is edge-triggered: it tells that something happened, once. So a wake-up
reads until nothing is left, and a loop turn that sent ends with a look for messages whose wake-up
the sending may have swallowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import zmq

Frames = list[bytes]

_MORE = zmq.NOBLOCK | zmq.SNDMORE


class LoopSocket:
    """Owns `socket`; calls `receive` with each message's frames, on the running loop.

    A wake-up reads at most `batch` messages before it gives way to the rest of the loop.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], receive: Callable[[Frames], None], *, batch: int = 64
    ) -> None:
        self._socket = socket
        self._receive = receive
        self._batch = batch
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.get(zmq.FD))
        self._again: asyncio.Handle | None = None
        self._closed = False
        self._loop.add_reader(self._fd, self._drain)
        self._look()

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue a message for its peer; never blocks.

        Raises:
            zmq.Again: the peer's queue is full.
            zmq.ZMQError: EHOSTUNREACH for a peer that is gone.
        """
        if self._again is None:
            self._again = self._loop.call_soon(self._drain)
        send = self._socket.send
        for frame in frames[:-1]:
            send(frame, _MORE)
        send(frames[-1], zmq.NOBLOCK)

    def close(self, *, linger_ms: int = 0) -> None:
        """Stop reading, and close the socket; what is queued has `linger_ms` to leave."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        if self._again is not None:
            self._again.cancel()
        self._socket.close(linger=linger_ms)

    def _look(self) -> None:
        if self._again is None and int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            self._again = self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._again = None
        try:
            for _ in range(self._batch):
                if not self.read_one():
                    return
        finally:
            if not self._closed:
                self._look()

    def read_one(self) -> bool:
        """Receive one message now, if there is one; False where there is none."""
        if self._closed:
            return False
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._receive(frames)
        return True


class RouterSocket(LoopSocket):
    """A ROUTER; `on_sender` gets the first frame of each message before `receive` gets them all.

    That frame carries what libzmq knows of the connection.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        receive: Callable[[Frames], None],
        *,
        on_sender: Callable[[zmq.Frame], None],
    ) -> None:
        super().__init__(socket, receive)
        self._on_sender = on_sender

    def read_one(self) -> bool:
        """As for any socket."""
        if self._closed:
            return False
        try:
            sender = self._socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        self._on_sender(sender)
        self._receive([sender.bytes, *self._socket.recv_multipart()])
        return True
