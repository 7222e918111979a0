//! What this build is, and what it needs.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// The version of the package, which is that of the crate.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether the compiler was told to optimise.
pub(crate) const OPTIMISED: bool = !cfg!(debug_assertions);

/// Refuses processors that lack the instructions RocksDB was compiled for.
#[cfg(target_arch = "x86_64")]
pub(crate) fn check_processor() -> PyResult<()> {
    let there = [
        ("SSE4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("PCLMULQDQ", std::arch::is_x86_feature_detected!("pclmulqdq")),
    ];
    missing(&there).map_or(Ok(()), |names| {
        Err(PyImportError::new_err(format!(
            "goblins needs a processor with {names}, which those of 2010 and later have; this one has not. \
             Where it is emulated, choose another model for it, such as `-cpu Nehalem` or newer in QEMU."
        )))
    })
}

/// Elsewhere the compiler's baseline is enough.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn check_processor() -> PyResult<()> {
    Ok(())
}

/// The names of what is not there.
#[cfg(target_arch = "x86_64")]
fn missing(there: &[(&str, bool)]) -> Option<String> {
    let names: Vec<_> = there.iter().filter(|(_, is)| !is).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::missing;

    #[test]
    fn the_error_names_what_the_processor_lacks() {
        assert_eq!(missing(&[("SSE4.2", true), ("PCLMULQDQ", true)]), None);
        assert_eq!(missing(&[("SSE4.2", true), ("PCLMULQDQ", false)]).as_deref(), Some("PCLMULQDQ"));
        assert_eq!(missing(&[("SSE4.2", false), ("X", false)]).as_deref(), Some("SSE4.2 and X"));
    }
}
