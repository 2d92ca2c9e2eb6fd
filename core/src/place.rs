//! Where the next record of evidence goes, and what it follows: the part of `callgate.audit.writer.Journal` that
//! changes with each record.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

#[pyclass(module = "callgate._core", subclass)]
#[derive(Default)]
pub struct Place {
    #[pyo3(get, set)]
    pub offset: usize,
    /// How far records may be written without asking the journal; negative: nowhere.
    #[pyo3(get, set)]
    pub limit: isize,
    #[pyo3(get, set)]
    pub seq: i64,
    #[pyo3(get, set)]
    pub prev: String,
    tail: Option<(PyObject, PyBuffer<u8>)>,
}

#[pymethods]
impl Place {
    #[new]
    #[pyo3(signature = (*_arguments, **_named))]
    fn new(_arguments: &Bound<'_, PyTuple>, _named: Option<&Bound<'_, PyDict>>) -> Self {
        Place::default()
    }

    #[getter]
    fn get_tail(&self, py: Python<'_>) -> Option<PyObject> {
        self.tail.as_ref().map(|(tail, _)| tail.clone_ref(py))
    }

    #[setter]
    fn set_tail(&mut self, tail: Bound<'_, PyAny>) -> PyResult<()> {
        let buffer = PyBuffer::get(&tail)?;
        self.tail = Some((tail.unbind(), buffer));
        Ok(())
    }

    /// Hold `tail` no longer: it is about to be closed.
    fn let_go(&mut self) {
        self.tail = None;
        self.limit = -1;
    }
}

impl Place {
    /// The end of a line of `length` bytes, if it may be written here.
    pub fn end(&self, length: usize) -> Option<usize> {
        let end = self.offset.checked_add(length)?;
        (end <= usize::try_from(self.limit).ok()?).then_some(end)
    }

    /// Put a line there and move on. False: nothing was written.
    pub fn write(&mut self, py: Python<'_>, line: &[u8], digest: &str) -> bool {
        let Some(end) = self.end(line.len()) else { return false };
        let Some((_, buffer)) = &self.tail else { return false };
        let Some(cells) = buffer.as_mut_slice(py).and_then(|all| all.get(self.offset..end)) else { return false };
        for (cell, byte) in cells.iter().zip(line) {
            cell.set(*byte);
        }
        self.offset = end;
        self.prev.clear();
        self.prev.push_str(digest);
        self.seq += 1;
        true
    }
}
