//! `callgate._core`: see Cargo.toml. Everything here is an optimisation that Python can do without, and does the
//! same in `callgate.gate.express`; `tests/core` hold both ways equal.

mod express;
mod head;
mod json;
mod marks;
mod message;
mod place;
mod pump;
mod record;
mod steady;

use pyo3::prelude::*;

/// See `callgate.native`: raised with every change of what is called from there.
const INTERFACE: u32 = 5;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("INTERFACE", INTERFACE)?;
    module.add_class::<place::Place>()?;
    module.add_class::<marks::Marks>()?;
    module.add_class::<express::Pending>()?;
    module.add_class::<express::Forms>()?;
    module.add_class::<express::Express>()?;
    module.add_class::<pump::Pump>()
}
