//! The loop of the stdio relay, for as long as everything that passes is plain.
//!
//! It reads what is there, lets plain lines through in one write, and gives everything else to Python: other
//! descriptors, the ends of streams, lines that are not plain, what a pipe did not take.

use crate::express::{Clock, Express};
use crate::marks::Marks;
use crate::steady::Steady;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::event::epoll;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::time::{clock_gettime, ClockId};
use std::cmp::Reverse;
use std::os::fd::RawFd;

/// Rounds after which Python is asked whether it has something else to do.
const ROUNDS: usize = 1024;
/// Rounds after which a turn is taken for one of many: see `Steady`.
const STEADY: usize = 16;
const EVENTS: usize = 8;

/// One event for Python: the descriptor, what it is about, and the bytes that belong to it.
type Told<'py> = (RawFd, u8, Option<Bound<'py, PyBytes>>);
/// The descriptor is ready; nothing was read.
const READY: u8 = 0;
/// Read from it, and still to be decided.
const READ: u8 = 1;
/// Decided, and still to be written; nothing where the reader is gone.
const UNWRITTEN: u8 = 2;

/// The relay's descriptor `number`, for one system call.
#[allow(unsafe_code)]
pub fn descriptor(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is the relay's and stays open while the relay runs its loop, which is on the stack above us;
    // were it closed all the same, the call would fail with EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

fn failure(error: Errno) -> PyErr {
    PyOSError::new_err((error.raw_os_error(), "the relay's poller failed"))
}

/// What a wait found: descriptors that are ready, and whether there are bytes and nothing else to say of each.
type Found = (usize, [(RawFd, bool); EVENTS]);

fn wait(poller: RawFd, timeout_ms: i32) -> Result<Found, Errno> {
    wait_into(poller, &mut epoll::EventVec::with_capacity(EVENTS), timeout_ms)
}

/// The same, with room for the events that is there already.
fn wait_into(poller: RawFd, events: &mut epoll::EventVec, timeout_ms: i32) -> Result<Found, Errno> {
    epoll::wait(descriptor(poller), events, timeout_ms)?;
    let mut found = [(0, true); EVENTS];
    let mut count = 0;
    for (place, event) in found.iter_mut().zip(&*events) {
        // Python registers each descriptor under its own number.
        let [a, b, c, d, ..] = event.data.u64().to_ne_bytes();
        *place = (RawFd::from_ne_bytes([a, b, c, d]), { event.flags } == epoll::EventFlags::IN);
        count += 1;
    }
    Ok((count, found))
}

/// A clock that costs next to nothing and is some milliseconds late.
fn milliseconds() -> i64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

struct Lane {
    source: RawFd,
    onward: RawFd,
    buffer: Vec<u8>,
    client: bool,
    /// Whether a line passed since Python asked last.
    passed: bool,
}

#[pyclass(module = "callgate._core", unsendable)]
pub struct Pump {
    poller: RawFd,
    express: Py<Express>,
    channel: Py<Marks>,
    lanes: [Lane; 2],
    events: epoll::EventVec,
    steady: Option<Steady>,
    /// Python looks up so often, however slowly messages come; and the longest wait after one.
    active_ms: i32,
}

#[pymethods]
impl Pump {
    /// `poller` is an epoll descriptor; `up` (from the client) and `down` are (source, onward, bytes of one read).
    #[new]
    fn new(
        poller: RawFd,
        express: Py<Express>,
        channel: Py<Marks>,
        up: (RawFd, RawFd, usize),
        down: (RawFd, RawFd, usize),
        active_ms: i32,
    ) -> Self {
        let lane = |(source, onward, read_bytes): (RawFd, RawFd, usize), client| Lane {
            source,
            onward,
            buffer: vec![0; read_bytes],
            client,
            passed: false,
        };
        Pump {
            poller,
            express,
            channel,
            lanes: [lane(up, true), lane(down, false)],
            events: epoll::EventVec::with_capacity(EVENTS),
            steady: Steady::new(poller, [up.0, down.0]),
            active_ms,
        }
    }

    /// Relay until there is something for Python: a list of (descriptor, what, bytes), what was read before what is
    /// only ready. An empty list asks for housekeeping; None says that nothing came for `timeout_ms` (-1: never), or
    /// for `active_ms` after something did.
    ///
    /// `up` and `down`: whether that lane is between lines and its pipe takes everything. `alone`: the process has no
    /// other Python thread that was seen to run, so that the interpreter's lock is kept while it waits a moment.
    fn turn<'py>(
        &mut self,
        py: Python<'py>,
        timeout_ms: i32,
        up: bool,
        down: bool,
        alone: bool,
    ) -> PyResult<Option<Vec<Told<'py>>>> {
        let mut told: Vec<Told<'py>> = Vec::new();
        let came = self.rounds(py, timeout_ms, [up, down], alone, &mut told);
        if let Some(steady) = &mut self.steady {
            steady.end().map_err(failure)?;
        }
        if !came? {
            return Ok(None);
        }
        // A line begun must be ended before anything else is written there, and what was read comes before what is
        // still in the pipe.
        told.sort_by_key(|(_, what, _)| Reverse(*what));
        Ok(Some(told))
    }

    /// Whether lines passed here since it was last asked: (from the client, from the server).
    fn take_passed(&mut self) -> (bool, bool) {
        let passed = (self.lanes[0].passed, self.lanes[1].passed);
        self.lanes[0].passed = false;
        self.lanes[1].passed = false;
        passed
    }
}

impl Pump {
    /// See `turn`. False where nothing came.
    fn rounds<'py>(
        &mut self,
        py: Python<'py>,
        timeout_ms: i32,
        ready: [bool; 2],
        alone: bool,
        told: &mut Vec<Told<'py>>,
    ) -> PyResult<bool> {
        let (poller, active_ms) = (self.poller, self.active_ms);
        let mut wait_ms = timeout_ms;
        let mut began = Clock::now();
        let mut ends: Option<i64> = None;
        for round in 0..ROUNDS {
            if let (STEADY, Some(steady), [true, true]) = (round, &mut self.steady, ready) {
                let left = ends.map_or(0, |ends| ends - milliseconds());
                steady.begin(left.clamp(1, i64::from(active_ms))).map_err(failure)?;
                wait_ms = -1;
            }
            let steady = self.steady.as_ref().filter(|steady| steady.is_begun());
            let moment = steady.is_some() || (0..=active_ms).contains(&wait_ms);
            let waited = if alone && moment {
                wait_into(poller, &mut self.events, wait_ms)
            } else {
                py.allow_threads(|| wait(poller, wait_ms))
            };
            let (count, found) = match waited {
                Ok(found) => found,
                Err(Errno::INTR) => break,
                Err(error) => return Err(failure(error)),
            };
            if count == 0 {
                return Ok(false);
            }
            if !moment {
                began = Clock::now();
            }
            let mut whole = true;
            for (number, plain) in found.into_iter().take(count) {
                let lane = self.lanes.iter_mut().zip(ready).find(|(lane, ready)| lane.source == number && *ready);
                match lane {
                    Some((lane, _)) => {
                        let clock = began.later();
                        whole &= plain & lane.relay(py, self.express.get(), self.channel.bind(py), clock, told)?;
                    }
                    None if self.steady.as_ref().is_some_and(|steady| steady.is_timer(number)) => whole = false,
                    None => told.push((number, READY, None)),
                }
            }
            if !told.is_empty() {
                break;
            }
            if steady.is_some() {
                if !whole {
                    break; // what is left is reported after `end`
                }
                continue;
            }
            let now = milliseconds();
            if now >= *ends.get_or_insert(now + i64::from(active_ms)) {
                break;
            }
            wait_ms = active_ms;
        }
        Ok(true)
    }
}

impl Lane {
    /// Relay what one read brings. Whether that was all there was to read.
    fn relay<'py>(
        &mut self,
        py: Python<'py>,
        express: &Express,
        channel: &Bound<'py, Marks>,
        clock: Clock,
        told: &mut Vec<Told<'py>>,
    ) -> PyResult<bool> {
        let count = match rustix::io::read(descriptor(self.source), &mut self.buffer) {
            Ok(0) => {
                told.push((self.source, READY, None)); // reading again finds the same end
                return Ok(true);
            }
            Ok(count) => count,
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::INTR) => return Ok(false),
            Err(_) => {
                told.push((self.source, READY, None));
                return Ok(true);
            }
        };
        let chunk = &self.buffer[..count];
        let mut plain = 0;
        let mut failed = None;
        while let Some(length) = memchr::memchr(b'\n', &chunk[plain..]) {
            let line = &chunk[plain..plain + length];
            let decided = match self.client {
                true => express.decide(channel, line, None, clock).map(|id| id.is_some()),
                false => express.decide_answer(channel, line, clock),
            };
            match decided {
                Ok(true) => plain += length + 1,
                Ok(false) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if plain > 0 {
            self.passed = true;
            let written = match rustix::io::write(descriptor(self.onward), &chunk[..plain]) {
                Ok(written) => Some(written),
                Err(Errno::AGAIN | Errno::INTR) => Some(0),
                Err(_) => None,
            };
            if written != Some(plain) {
                let rest = written.map(|written| PyBytes::new(py, &chunk[written..plain]));
                told.push((self.source, UNWRITTEN, rest));
            }
        }
        if plain < count {
            told.push((self.source, READ, Some(PyBytes::new(py, &chunk[plain..]))));
        }
        failed.map_or(Ok(count < self.buffer.len()), Err)
    }
}
