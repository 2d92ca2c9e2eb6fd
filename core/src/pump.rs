//! The loop of the stdio relay, for as long as everything that passes is plain.
//!
//! It reads what is there, lets plain lines through in one write, and gives everything else to Python: other
//! descriptors, the ends of streams, lines that are not plain, what a pipe did not take.

use crate::express::{Clock, Express};
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
/// The same in time, however slowly messages come; and the longest wait after one.
const ACTIVE_MS: i32 = 250;
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
fn descriptor(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is the relay's and stays open while the relay runs its loop, which is on the stack above us;
    // were it closed all the same, the call would fail with EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

fn failure(error: Errno) -> PyErr {
    PyOSError::new_err((error.raw_os_error(), "the relay's poller failed"))
}

/// How many descriptors are ready, and which: Python registers each under its own number.
fn wait(poller: RawFd, timeout_ms: i32) -> Result<(usize, [RawFd; EVENTS]), Errno> {
    wait_into(poller, &mut epoll::EventVec::with_capacity(EVENTS), timeout_ms)
}

/// The same, with room for the events that is there already.
fn wait_into(poller: RawFd, events: &mut epoll::EventVec, timeout_ms: i32) -> Result<(usize, [RawFd; EVENTS]), Errno> {
    epoll::wait(descriptor(poller), events, timeout_ms)?;
    let mut numbers = [0; EVENTS];
    let mut count = 0;
    for (number, event) in numbers.iter_mut().zip(&*events) {
        let [a, b, c, d, ..] = event.data.u64().to_ne_bytes();
        *number = RawFd::from_ne_bytes([a, b, c, d]);
        count += 1;
    }
    Ok((count, numbers))
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
    channel: PyObject,
    lanes: [Lane; 2],
    events: epoll::EventVec,
}

#[pymethods]
impl Pump {
    /// `poller` is an epoll descriptor; `up` (from the client) and `down` are (source, onward, bytes of one read).
    #[new]
    fn new(
        poller: RawFd,
        express: Py<Express>,
        channel: PyObject,
        up: (RawFd, RawFd, usize),
        down: (RawFd, RawFd, usize),
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
        }
    }

    /// Relay until there is something for Python: a list of (descriptor, what, bytes), what was read before what is
    /// only ready. An empty list asks for housekeeping; None says that nothing came for `timeout_ms` (-1: never), or
    /// for `ACTIVE_MS` after something did.
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
        let ready = [up, down];
        let mut told: Vec<Told<'py>> = Vec::new();
        let mut wait_ms = timeout_ms;
        let mut began = Clock::now();
        let mut ends: Option<i64> = None;
        for _ in 0..ROUNDS {
            let poller = self.poller;
            let moment = (0..=ACTIVE_MS).contains(&wait_ms);
            let waited = if alone && moment {
                wait_into(poller, &mut self.events, wait_ms)
            } else {
                py.allow_threads(|| wait(poller, wait_ms))
            };
            let (count, ready_numbers) = match waited {
                Ok(found) => found,
                Err(Errno::INTR) => break,
                Err(error) => return Err(failure(error)),
            };
            if count == 0 {
                return Ok(None);
            }
            if !moment {
                began = Clock::now();
            }
            for number in ready_numbers.into_iter().take(count) {
                let lane = self.lanes.iter_mut().zip(ready).find(|(lane, ready)| lane.source == number && *ready);
                match lane {
                    Some((lane, _)) => {
                        let clock = began.later();
                        lane.relay(py, self.express.get(), self.channel.bind(py), clock, &mut told)?;
                    }
                    None => told.push((number, READY, None)),
                }
            }
            let now = milliseconds();
            if !told.is_empty() || now >= *ends.get_or_insert(now + i64::from(ACTIVE_MS)) {
                break;
            }
            wait_ms = ACTIVE_MS;
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

impl Lane {
    /// Relay what one read brings.
    fn relay<'py>(
        &mut self,
        py: Python<'py>,
        express: &Express,
        channel: &Bound<'py, PyAny>,
        clock: Clock,
        told: &mut Vec<Told<'py>>,
    ) -> PyResult<()> {
        let count = match rustix::io::read(descriptor(self.source), &mut self.buffer) {
            Ok(0) => {
                told.push((self.source, READY, None)); // reading again finds the same end
                return Ok(());
            }
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => {
                told.push((self.source, READY, None));
                return Ok(());
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
        failed.map_or(Ok(()), Err)
    }
}
