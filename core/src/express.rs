//! The short way of a plain message: known by its form, put on record, let through.
//!
//! `call` and `answer` say whether the message was decided here. If not, nothing was decided or written, and the way
//! in Python judges it as if it had come there first.

use crate::head;
use crate::json::{Form, Limits};
use crate::marks::Marks;
use crate::message;
use crate::place::Place;
use crate::record::{self, Entry};
use pyo3::buffer::PyBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use rustix::time::{clock_gettime, ClockId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

/// Bytes of a form; longer ones are not kept.
const FORM_BYTES: usize = 2048;
/// Forms of each kind; a full table is emptied.
const REMEMBERED: usize = 1024;

/// What time it is, in ns: since some start, and since 1970.
#[derive(Clone, Copy)]
pub struct Clock {
    pub monotonic: i64,
    pub realtime: i64,
}

impl Clock {
    pub fn now() -> Self {
        Clock { monotonic: nanoseconds(ClockId::Monotonic), realtime: nanoseconds(ClockId::Realtime) }
    }

    /// Later than `self`, by one look at the one clock: `self` is so young that nobody has set the other since.
    pub fn later(self) -> Self {
        let monotonic = nanoseconds(ClockId::Monotonic);
        Clock { monotonic, realtime: self.realtime + (monotonic - self.monotonic) }
    }
}

fn nanoseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// A request that waits for its answer. `seq` is its record; `started_ns` is negative once cancelled.
#[pyclass(module = "callgate._core")]
pub struct Pending {
    #[pyo3(get)]
    method: Py<PyString>,
    #[pyo3(get)]
    name: Py<PyString>,
    #[pyo3(get)]
    seq: i64,
    #[pyo3(get, set)]
    started_ns: i64,
    #[pyo3(get)]
    modern: bool,
}

#[pymethods]
impl Pending {
    #[new]
    fn new(method: Py<PyString>, name: Py<PyString>, seq: i64, started_ns: i64, modern: bool) -> Self {
        Pending { method, name, seq, started_ns, modern }
    }
}

struct KnownCall {
    method: Py<PyString>,
    name: Py<PyString>,
    head: Vec<u8>,
    /// The revision that the message names itself (2026-07-28 and later).
    revision: Option<Py<PyString>>,
    /// Whether the controls cleared it, and the state of theirs in which they did.
    cleared: AtomicBool,
    stamp: AtomicU64,
}

/// Version, method and name, as HTTP headers say them.
type Mirrored<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

impl KnownCall {
    /// Whether headers say the same. Those of the handshake era say nothing of method and name.
    fn is_mirrored(&self, py: Python<'_>, (version, method, name): Mirrored) -> PyResult<bool> {
        match (&self.revision, version) {
            (None, None) => Ok(true),
            (Some(revision), Some(version)) => Ok(revision.to_str(py)? == version
                && method == Some(self.method.to_str(py)?)
                && name == Some(self.name.to_str(py)?)),
            _ => Ok(false),
        }
    }
}

/// The eight bytes of a memory that another process may change.
fn number_in(py: Python<'_>, memory: &PyBuffer<u8>) -> Option<u64> {
    let mut bytes = [0; 8];
    let cells = memory.as_slice(py)?;
    if cells.len() != bytes.len() {
        return None;
    }
    for (byte, cell) in bytes.iter_mut().zip(cells) {
        *byte = cell.get();
    }
    Some(u64::from_ne_bytes(bytes))
}

/// What is known of forms, at most `REMEMBERED`: a full memory is emptied.
struct Memory<T> {
    all: HashMap<Vec<u8>, Arc<T>>,
    /// The one asked for last: nearly always the next one, too.
    last: Option<(Vec<u8>, Arc<T>)>,
}

impl<T> Memory<T> {
    fn new() -> Self {
        Memory { all: HashMap::new(), last: None }
    }

    fn get(&mut self, form: &[u8]) -> Option<Arc<T>> {
        if let Some((last, known)) = &self.last {
            if last == form {
                return Some(Arc::clone(known));
            }
        }
        let known = Arc::clone(self.all.get(form)?);
        self.last = Some((form.to_vec(), Arc::clone(&known)));
        Some(known)
    }

    fn insert(&mut self, form: Vec<u8>, known: T) {
        if self.all.len() >= REMEMBERED {
            self.all.clear();
        }
        self.last = None;
        self.all.insert(form, Arc::new(known));
    }

    fn clear(&mut self) {
        self.last = None;
        self.all.clear();
    }
}

/// What was found plain, for one gate.
#[pyclass(module = "callgate._core")]
pub struct Forms {
    limits: Limits,
    max_call: usize,
    max_answer: usize,
    calls: Memory<KnownCall>,
    /// The constant text of the record.
    answers: Memory<Vec<u8>>,
    form: Form,
}

#[pymethods]
impl Forms {
    /// `limits` is a `callgate.config.Limits`.
    #[new]
    fn new(limits: &Bound<'_, PyAny>) -> PyResult<Self> {
        let of = |name: &str| limits.getattr(name)?.extract::<usize>();
        Ok(Forms {
            limits: Limits {
                depth: of("depth")?,
                nodes: of("nodes")?,
                keys: of("keys")?,
                string_bytes: of("string_bytes")?,
                name_bytes: of("name_bytes")?,
            },
            max_call: of("request_bytes")?,
            max_answer: of("response_bytes")?,
            calls: Memory::new(),
            answers: Memory::new(),
            form: Form::new(FORM_BYTES),
        })
    }

    /// Forget everything.
    fn clear(&mut self) {
        self.calls.clear();
        self.answers.clear();
    }

    fn __len__(&self) -> usize {
        self.calls.all.len() + self.answers.all.len()
    }

    /// Whether the lane can read a request of this form.
    fn reads_call(&mut self, raw: &[u8]) -> bool {
        raw.len() <= self.max_call && message::call(raw, self.limits, &mut self.form).is_some()
    }

    /// Whether the lane can read an answer of this form.
    fn reads_answer(&mut self, raw: &[u8]) -> bool {
        raw.len() <= self.max_answer && message::answer(raw, self.limits, &mut self.form).is_some()
    }

    /// Keep the form of a request that was let through as it came. `head`: the constant text of its record;
    /// `revision`: the one it names itself. False where its form is not one to keep.
    fn learn_call(
        &mut self,
        server: &str,
        raw: &[u8],
        method: Py<PyString>,
        name: Py<PyString>,
        head: Vec<u8>,
        revision: Option<Py<PyString>>,
    ) -> bool {
        if !self.reads_call(raw) {
            return false;
        }
        if self.form.text(server.as_bytes()).is_none() {
            return false;
        }
        let (cleared, stamp) = (AtomicBool::new(false), AtomicU64::new(0));
        let known = KnownCall { method, name, head, revision, cleared, stamp };
        self.calls.insert(self.form.bytes.clone(), known);
        true
    }

    /// The same for an answer to a request of `method` and `name`.
    fn learn_answer(&mut self, raw: &[u8], method: &str, name: &str, head: Vec<u8>) -> bool {
        if !self.reads_answer(raw) {
            return false;
        }
        if self.form.text(method.as_bytes()).and_then(|()| self.form.text(name.as_bytes())).is_none() {
            return false;
        }
        self.answers.insert(self.form.bytes.clone(), head);
        true
    }
}

/// A message of HTTP: `parts`, which are whole lines, the length of its body, and the body.
fn joined<'py>(py: Python<'py>, parts: &[&[u8]], body: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(body.len()).as_bytes();
    let length: &[&[u8]] = &[b"content-length: ", digits, b"\r\n\r\n", body];
    let pieces = || parts.iter().chain(length);
    PyBytes::new_with(py, pieces().map(|piece| piece.len()).sum(), |place| {
        let mut rest = place;
        for piece in pieces() {
            let (here, after) = rest.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            rest = after;
        }
        Ok(())
    })
}

/// The short way of one channel.
#[pyclass(module = "callgate._core", frozen)]
pub struct Express {
    forms: Py<Forms>,
    /// The channel's requests without an answer.
    pending: Py<PyDict>,
    /// What the gate withheld; while there is anything, calls go the way in Python.
    withheld: Py<PyDict>,
    scope: PyObject,
    journal: Py<Place>,
    clears: PyObject,
    /// A memory whose bytes change before a call that was cleared is cleared no longer.
    stamp: Option<PyBuffer<u8>>,
    scan: PyObject,
    server: Py<PyString>,
    in_flight: usize,
    /// Whether no pattern can be found in text without unusual bytes.
    ascii_is_clear: bool,
    line: Py<Line>,
}

/// Room for a record under construction.
#[pyclass]
struct Line(Vec<u8>);

#[pymethods]
impl Express {
    #[new]
    #[pyo3(signature = (forms, pending, withheld, scope, journal, clears, stamp, scan, server, in_flight, *, ascii_is_clear))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        forms: Py<Forms>,
        pending: Py<PyDict>,
        withheld: Py<PyDict>,
        scope: PyObject,
        journal: Py<Place>,
        clears: PyObject,
        stamp: Option<Bound<'_, PyAny>>,
        scan: PyObject,
        server: Py<PyString>,
        in_flight: usize,
        ascii_is_clear: bool,
    ) -> PyResult<Self> {
        let stamp = stamp.map(|memory| PyBuffer::get(&memory)).transpose()?;
        let line = Py::new(py, Line(Vec::with_capacity(1024)))?;
        Ok(Express {
            forms,
            pending,
            withheld,
            scope,
            journal,
            clears,
            stamp,
            scan,
            server,
            in_flight,
            ascii_is_clear,
            line,
        })
    }

    /// Decide a request of the client. True: it may go on as it is.
    fn call(&self, channel: &Bound<'_, Marks>, raw: &[u8]) -> PyResult<bool> {
        Ok(self.decide(channel, raw, None, Clock::now())?.is_some())
    }

    /// The same over HTTP, where headers repeat what the body says: `version` (None: of the handshake era), `method`
    /// and `name`, as far as they are plain. Its id, where it may go on as it is.
    fn call_mirrored(
        &self,
        channel: &Bound<'_, Marks>,
        raw: &[u8],
        version: Option<&str>,
        method: Option<&str>,
        name: Option<&str>,
    ) -> PyResult<Option<i64>> {
        self.decide(channel, raw, Some((version, method, name)), Clock::now())
    }

    /// A whole request with a head that was read before (`before` and `after` are its halves): its id, and the bytes to
    /// send, which begin with `lines`. None: nothing was decided. See `call_mirrored` for the headers.
    #[allow(clippy::too_many_arguments)]
    fn request<'py>(
        &self,
        channel: &Bound<'py, Marks>,
        data: &[u8],
        before: &[u8],
        after: &[u8],
        lines: &[u8],
        version: Option<&str>,
        method: Option<&str>,
        name: Option<&str>,
    ) -> PyResult<Option<(i64, Bound<'py, PyBytes>)>> {
        let Some(body) = head::body(before, after, data) else { return Ok(None) };
        let mirrored = Some((version, method, name));
        let Some(id) = self.decide(channel, body, mirrored, Clock::now())? else { return Ok(None) };
        Ok(Some((id, joined(channel.py(), &[lines, b"\r\n"], body)?)))
    }

    /// A whole answer with a head that was read before: the bytes to send, which begin with `lines` and `date`. None:
    /// nothing was decided.
    fn reply<'py>(
        &self,
        channel: &Bound<'py, Marks>,
        data: &[u8],
        before: &[u8],
        after: &[u8],
        lines: &[u8],
        date: &[u8],
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some(body) = head::body(before, after, data) else { return Ok(None) };
        if !self.decide_answer(channel, body, Clock::now())? {
            return Ok(None);
        }
        joined(channel.py(), &[lines, date], body).map(Some)
    }

    /// Decide an answer of the server. True: it may go on as it is.
    fn answer(&self, channel: &Bound<'_, Marks>, raw: &[u8]) -> PyResult<bool> {
        self.decide_answer(channel, raw, Clock::now())
    }
}

impl Express {
    /// Decide an answer. True: it may go on as it is.
    pub fn decide_answer(&self, channel: &Bound<'_, Marks>, raw: &[u8], clock: Clock) -> PyResult<bool> {
        let py = channel.py();
        if self.journal.borrow(py).limit < 0 {
            return Ok(false); // as above
        }
        let pending = self.pending.bind(py);
        let (found, id, waiting, head) = {
            let mut forms = self.forms.borrow_mut(py);
            let Forms { limits, max_answer, answers, form, .. } = &mut *forms;
            if raw.len() > *max_answer {
                return Ok(false);
            }
            let Some(found) = message::answer(raw, *limits, form) else { return Ok(false) };
            let id = found.id.into_pyobject(py)?;
            let Some(waiting) = pending.get_item(&id)? else { return Ok(false) };
            let waiting = waiting.downcast_into::<Pending>()?;
            let head = {
                let waiting = waiting.borrow();
                let asked = (waiting.method.to_str(py)?, waiting.name.to_str(py)?);
                if form.text(asked.0.as_bytes()).and_then(|()| form.text(asked.1.as_bytes())).is_none() {
                    return Ok(false);
                }
                answers.get(&form.bytes)
            };
            let Some(head) = head else { return Ok(false) };
            (found, id, waiting, head)
        };
        if channel.get().replayable.load(Relaxed) || !self.clear(py, raw, found.unusual)? {
            return Ok(false);
        }
        let (about, started) = {
            let waiting = waiting.borrow();
            (waiting.seq, waiting.started_ns)
        };
        let took = (clock.monotonic - started) / 1000;
        if self.record(py, &head, found.id, raw, about, took, clock)?.is_none() {
            return Ok(false);
        }
        pending.del_item(id)?;
        Ok(true)
    }

    /// Decide a request; its id, where it may go on as it is. `mirrored`: what HTTP headers say of it.
    pub fn decide(
        &self,
        channel: &Bound<'_, Marks>,
        raw: &[u8],
        mirrored: Option<Mirrored>,
        clock: Clock,
    ) -> PyResult<Option<i64>> {
        let py = channel.py();
        if self.journal.borrow(py).limit < 0 {
            return Ok(None); // each record is the log's own business
        }
        let Some((found, known)) = self.known_call(py, raw) else { return Ok(None) };
        let pending = self.pending.bind(py);
        let id = found.id.into_pyobject(py)?;
        if pending.len() >= self.in_flight || pending.contains(&id)? {
            return Ok(None);
        }
        if let Some(mirrored) = mirrored {
            if !known.is_mirrored(py, mirrored)? {
                return Ok(None);
            }
        }
        if let Some(revision) = &known.revision {
            if !channel.getattr(intern!(py, "revision"))?.eq(revision)? {
                return Ok(None);
            }
        }
        if !self.withheld.bind(py).is_empty() || !self.clear(py, raw, found.unusual)? {
            return Ok(None);
        }
        if !self.cleared(py, &known)? {
            return Ok(None);
        }
        let Some(seq) = self.record(py, &known.head, found.id, raw, 0, 0, clock)? else { return Ok(None) };
        let modern = known.revision.is_some();
        let waiting = Pending {
            method: known.method.clone_ref(py),
            name: known.name.clone_ref(py),
            seq,
            started_ns: clock.monotonic,
            modern,
        };
        channel.get().modern.store(modern, Relaxed);
        pending.set_item(id, Py::new(py, waiting)?)?;
        Ok(Some(found.id))
    }

    /// Whether all controls allow this call unseen. Asked once for each state of what they know.
    fn cleared(&self, py: Python<'_>, known: &KnownCall) -> PyResult<bool> {
        let now = self.stamp.as_ref().and_then(|stamp| number_in(py, stamp));
        if now.is_some_and(|now| known.cleared.load(Relaxed) && known.stamp.load(Relaxed) == now) {
            return Ok(true);
        }
        let clear = self.clears.bind(py).call1((&self.server, &known.method, &known.name))?.is_truthy()?;
        // The state was read before they were asked: should it change meanwhile, they are asked again.
        known.stamp.store(now.unwrap_or(0), Relaxed);
        known.cleared.store(clear && now.is_some(), Relaxed);
        Ok(clear)
    }

    fn known_call(&self, py: Python<'_>, raw: &[u8]) -> Option<(message::Call, Arc<KnownCall>)> {
        let mut forms = self.forms.borrow_mut(py);
        let Forms { limits, max_call, calls, form, .. } = &mut *forms;
        if raw.len() > *max_call {
            return None;
        }
        let found = message::call(raw, *limits, form)?;
        form.text(self.server.to_str(py).ok()?.as_bytes())?;
        Some((found, calls.get(&form.bytes)?))
    }

    /// Whether no pattern is in it.
    fn clear(&self, py: Python<'_>, raw: &[u8], unusual: bool) -> PyResult<bool> {
        if !unusual && self.ascii_is_clear {
            return Ok(true);
        }
        if unusual && std::str::from_utf8(raw).is_err() {
            return Ok(false);
        }
        Ok(!self.scan.bind(py).call1((PyBytes::new(py, raw),))?.is_truthy()?)
    }

    /// Put an allowed message on record; its `seq`. None where the log wants to do more than take a line.
    #[allow(clippy::too_many_arguments)]
    fn record(
        &self,
        py: Python<'_>,
        head: &[u8],
        rpc_id: i64,
        data: &[u8],
        about: i64,
        took_us: i64,
        clock: Clock,
    ) -> PyResult<Option<i64>> {
        let mut place = self.journal.borrow_mut(py);
        if place.limit < 0 {
            return Ok(None);
        }
        let scope = self.scope.bind(py).getattr(intern!(py, "text"))?;
        let seq = place.seq + 1;
        let mut line = self.line.borrow_mut(py);
        let entry = Entry {
            about,
            head,
            prev: place.prev.as_bytes(),
            rpc_id,
            scope: scope.downcast::<PyBytes>()?.as_bytes(),
            seq,
            data,
            time_us: clock.realtime / 1000,
            took_us,
        };
        record::write(&mut line.0, &entry);
        let digest = record::sha256(&line.0);
        // No Python code runs from here on: a signal handler that raises comes before all of this or after it.
        let Ok(digest) = std::str::from_utf8(&digest) else { return Ok(None) };
        if place.end(line.0.len()).is_none() && !(place.flush(py) && place.end(line.0.len()).is_some()) {
            // The log makes room, unless it cannot: then the way in Python says so to whoever waits.
            drop(place);
            let made = self.journal.bind(py).call_method1(intern!(py, "make_room"), (line.0.len(),))?;
            place = self.journal.borrow_mut(py);
            if !made.is_truthy()? || place.seq + 1 != seq {
                return Ok(None);
            }
        }
        if !place.write(py, &line.0, digest) {
            return Ok(None);
        }
        Ok(Some(seq))
    }
}
