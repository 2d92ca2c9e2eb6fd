"""A control that hangs is interrupted, on the thread that runs it.

Controls are synchronous, so nothing else could stop one. An interval timer runs only while messages flow:
its handler raises inside a control call that has lasted a whole interval, and switches the timer off
when nothing was decided since the last tick. An idle gate has no wake-ups; a message pays one integer.
"""

from __future__ import annotations

import atexit
import signal
from threading import get_ident, main_thread
from time import monotonic, thread_time
from types import CodeType, FrameType

INTERVAL_S = 0.5
"""How often the timer looks."""
BUSY_S = 0.4
"""A control that computes is interrupted once it has used this much CPU time, measured from the first look."""
BLOCKED_S = 5.0
"""A control that waits is interrupted after this long. Longer, because on a loaded machine everything waits."""


class ControlTimeout(BaseException):
    """Raised inside a control that did not return in time; not an Exception, so no control swallows it."""


class Watchdog:
    """Counts control calls; see the module. Only the main thread can be guarded (signal handlers run there)."""

    __slots__ = ("_cpu", "_last", "_usable", "_wall", "armed", "busy", "calls", "guarded")

    def __init__(self) -> None:
        self.guarded: CodeType | None = None
        """The function that calls controls. Nothing else is ever interrupted, whatever another thread counts here."""
        self.calls = 0
        """Raised by the engine before each control call."""
        self.busy = False
        """True while a control runs."""
        self._last = -1
        self._cpu = self._wall = 0.0
        self.armed = False
        """Whether the timer runs."""
        self._usable = hasattr(signal, "setitimer")

    def arm(self) -> None:
        """Start the timer unless it runs. Called before controls run; a decision on another thread goes unguarded."""
        if self.armed or not self._usable or get_ident() != main_thread().ident:
            return
        handler = signal.getsignal(signal.SIGALRM)
        if handler not in (signal.SIG_DFL, None) and not isinstance(getattr(handler, "__self__", None), Watchdog):
            self._usable = False  # somebody else's timer: it stays theirs, and there is no watchdog
            return
        signal.signal(signal.SIGALRM, self._tick)
        self.armed = True
        self._last = -1
        atexit.unregister(self.disarm)
        atexit.register(self.disarm)  # at exit the handler goes first, and the signal would then kill
        signal.setitimer(signal.ITIMER_REAL, INTERVAL_S, INTERVAL_S)

    def disarm(self) -> None:
        """Stop the timer."""
        if self.armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.armed = False

    def _tick(self, number: int, frame: FrameType | None) -> None:
        del number
        if not self.busy:
            if self._last == self.calls:
                self.disarm()
        elif self._last != self.calls:
            self._cpu = thread_time()
            self._wall = monotonic()
        elif (thread_time() - self._cpu >= BUSY_S or monotonic() - self._wall >= BLOCKED_S) and self._deciding(frame):
            raise ControlTimeout
        self._last = self.calls

    def _deciding(self, frame: FrameType | None) -> bool:
        """Whether it is this thread that runs a control."""
        while frame is not None and frame.f_code is not self.guarded:
            frame = frame.f_back
        return frame is not None


WATCHDOG = Watchdog()
"""A process has one alarm timer, so all its gates share one watchdog: it runs on when one of them closes."""
