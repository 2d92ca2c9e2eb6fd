//! Where the next record of evidence goes, and what it follows: the part of `callgate.audit.writer.Journal` that
//! changes with each record.

use crate::pump::descriptor;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rustix::io::pwrite;
use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{compiler_fence, Ordering::SeqCst};

/// Where the records in `tail` begin; before them stands where they belong. See `callgate.audit.spool`.
const HEADER: usize = 64;

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
    /// The file that `tail` is appended to; negative: none.
    #[pyo3(get, set)]
    pub segment: RawFd,
    #[pyo3(get, set)]
    pub segment_number: u32,
    /// Bytes in it.
    #[pyo3(get, set)]
    pub position: usize,
    /// Bytes of a full one.
    #[pyo3(get, set)]
    pub segment_bytes: usize,
    tail: Option<(PyObject, PyBuffer<u8>)>,
}

#[pymethods]
impl Place {
    #[new]
    #[pyo3(signature = (*_arguments, **_named))]
    fn new(_arguments: &Bound<'_, PyTuple>, _named: Option<&Bound<'_, PyDict>>) -> Self {
        Place { segment: -1, ..Place::default() }
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
        self.segment = -1;
        self.limit = -1;
    }
}

impl Place {
    /// The end of a line of `length` bytes, if it may be written here.
    pub fn end(&self, length: usize) -> Option<usize> {
        let end = self.offset.checked_add(length)?;
        (end <= usize::try_from(self.limit).ok()?).then_some(end)
    }

    /// Append what is in `tail` to the segment, as `Spool.flush` does, while the segment does not get full by it. False:
    /// it is for the journal, which finds everything as if nobody had tried.
    pub fn flush(&mut self, py: Python<'_>) -> bool {
        let (Some((_, buffer)), Some(length)) = (&self.tail, self.offset.checked_sub(HEADER)) else { return false };
        let Some(end) = self.position.checked_add(length).filter(|&end| end < self.segment_bytes) else { return false };
        let (Some(cells), Ok(position)) = (buffer.as_mut_slice(py), u32::try_from(end)) else { return false };
        let (Some(mark), Some(records)) = (cells.get(..8), cells.get(HEADER..self.offset)) else { return false };
        if self.segment < 0 {
            return false;
        }
        let waiting: Vec<u8> = records.iter().map(Cell::get).collect();
        match pwrite(descriptor(self.segment), &waiting, self.position as u64) {
            Ok(written) if written == length => {}
            _ => return false,
        }
        records.iter().for_each(|cell| cell.set(0));
        compiler_fence(SeqCst); // a kill finds both done, the first alone, or neither
        let place = u64::from(self.segment_number) << 32 | u64::from(position);
        mark.iter().zip(place.to_le_bytes()).for_each(|(cell, byte)| cell.set(byte));
        self.position = end;
        self.offset = HEADER;
        true
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
