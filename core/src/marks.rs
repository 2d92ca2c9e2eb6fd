//! What of a channel each message looks at: `callgate.gate.channel.Channel` stands on it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[pyclass(module = "callgate._core", subclass, frozen)]
pub struct Marks {
    pub modern: AtomicBool,
    pub replayable: AtomicBool,
}

#[pymethods]
impl Marks {
    #[new]
    #[pyo3(signature = (*_arguments, **_named))]
    fn new(_arguments: &Bound<'_, PyTuple>, _named: Option<&Bound<'_, PyDict>>) -> Self {
        Marks { modern: AtomicBool::new(false), replayable: AtomicBool::new(false) }
    }

    #[getter]
    fn get_modern(&self) -> bool {
        self.modern.load(Relaxed)
    }

    #[setter]
    fn set_modern(&self, modern: bool) {
        self.modern.store(modern, Relaxed);
    }

    #[getter]
    fn get_replayable(&self) -> bool {
        self.replayable.load(Relaxed)
    }

    #[setter]
    fn set_replayable(&self, replayable: bool) {
        self.replayable.store(replayable, Relaxed);
    }
}
