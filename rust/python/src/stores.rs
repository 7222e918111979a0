//! Stores, and vats opened from them.

use std::path::PathBuf;
use std::sync::Arc;

use goblins_core::memory::MemoryStore as KernelMemoryStore;
use goblins_core::storage::Storage;
use goblins_core::vat::{Vat as KernelVat, VatOptions};
use goblins_store_rocksdb::RocksStore as KernelRocksStore;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::behavior::type_name;
use crate::calls;
use crate::cbor;
use crate::current::current;
use crate::errors::{behavior_error, deadlock, kernel_error, migration_error, open_error, store_error};
use crate::host::PyHost;
use crate::portrait::Environment;
use crate::refs::Ref;
use crate::runtime::{check, is_forked, remember, runtime};
use crate::vat::Vat;

/// A place where portraits live. Made as `MemoryStore()` or `RocksStore(path)`.
#[pyclass(subclass, frozen, weakref, module = "goblins", name = "Store")]
pub(crate) struct Store {
    storage: Arc<Storage<PyHost>>,
}

impl Store {
    fn open(
        py: Python<'_>,
        make: impl FnOnce() -> Result<Arc<Storage<PyHost>>, goblins_core::store::StoreError> + Send,
    ) -> PyResult<Self> {
        check()?;
        let storage = py.detach(make).map_err(|error| store_error(&error))?;
        remember(&storage);
        Ok(Self { storage })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if is_forked() {
            // The threads that closing would wait for are in the parent.
            std::mem::forget(self.storage.clone());
        }
    }
}

#[pymethods]
impl Store {
    /// The part with this name: give it to `spawn_persistent_vat` to keep several vats in one store.
    fn vat(slf: &Bound<'_, Self>, name: String) -> StorePart {
        StorePart { store: slf.clone().unbind(), name }
    }

    /// Names of the parts that hold a vat.
    fn vats(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        py.detach(|| self.storage.part_names()).map_err(|error| store_error(&error))
    }

    /// Closes the vats that live here, then the store. Closing twice does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if current().is_some() {
            return Err(deadlock("a store can't be closed in a turn: its vats must come to rest first"));
        }
        check()?;
        self.storage.close(py)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<bool> {
        self.close(py).map(|()| false)
    }

    fn __repr__(&self) -> String {
        format!("<store {}>", self.storage.name())
    }
}

/// A store that lives as long as this object: for tests.
#[pyclass(extends = Store, frozen, module = "goblins", name = "MemoryStore")]
pub(crate) struct MemoryStore;

#[pymethods]
impl MemoryStore {
    #[new]
    fn new(py: Python<'_>) -> PyResult<PyClassInitializer<Self>> {
        let store = Store::open(py, || Storage::open(KernelMemoryStore::new()))?;
        Ok(PyClassInitializer::from(store).add_subclass(Self))
    }
}

/// A store in a folder, kept by RocksDB.
#[pyclass(extends = Store, frozen, module = "goblins", name = "RocksStore")]
pub(crate) struct RocksStore {
    path: PathBuf,
    sync: bool,
}

#[pymethods]
impl RocksStore {
    #[new]
    #[pyo3(signature = (path, *, sync=true))]
    fn new(py: Python<'_>, path: PathBuf, sync: bool) -> PyResult<PyClassInitializer<Self>> {
        crate::runtime::rocksdb_runs();
        let folder = path.clone();
        let store = Store::open(py, move || Storage::open(KernelRocksStore::open(folder, sync)?))?;
        Ok(PyClassInitializer::from(store).add_subclass(Self { path, sync }))
    }

    /// The folder.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Whether results wait until the disk has them.
    #[getter]
    fn sync(&self) -> bool {
        self.sync
    }
}

/// A named part of a store: the place of one vat.
#[pyclass(frozen, module = "goblins", name = "StorePart")]
pub(crate) struct StorePart {
    store: Py<Store>,
    name: String,
}

#[pymethods]
impl StorePart {
    #[getter]
    fn store(&self, py: Python<'_>) -> Py<Store> {
        self.store.clone_ref(py)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    fn __repr__(&self) -> String {
        format!("<part {} of {}>", self.name, self.store.get().__repr__())
    }
}

/// Opens the vat of a part, or makes its roots if the part is empty. Gives the vat and its roots.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "called with keywords, by one function")]
#[pyo3(signature = (labels, spawn_roots, store, part, *, name, log_capacity, version))]
pub(crate) fn _open_vat<'py>(
    py: Python<'py>,
    labels: &Bound<'py, PyDict>,
    spawn_roots: &Bound<'py, PyAny>,
    store: &Bound<'py, Store>,
    part: &str,
    name: Option<String>,
    log_capacity: Option<usize>,
    version: &Bound<'py, PyAny>,
) -> PyResult<(Vat, Vec<Py<Ref>>)> {
    check()?;
    if current().is_some() {
        return Err(deadlock(
            "a persistent vat can't be opened in a turn: open it outside, and pass refs on",
        ));
    }
    let storage = &store.get().storage;
    let env = Environment::new(py, labels)?;
    let known = env.labels();
    let version_bytes = plain_version(version)?;
    let options = VatOptions { name: Some(name.unwrap_or_else(|| part.to_owned())), log_capacity };
    let claim = storage.claim(part).map_err(|error| store_error(&error))?;
    let opened = py
        .detach(|| {
            KernelVat::open(runtime(), options, claim, env, |label| known.iter().any(|known| known == label))
        })
        .map_err(|error| open_error(&error))?;
    let vat = opened.vat;
    let roots = match &opened.record {
        Some(record) if record.roots_version != version_bytes => {
            Err(version_differs(py, &record.roots_version, version))
        }
        Some(record) => vat.roots(py, record),
        None => found(&vat, spawn_roots, version_bytes),
    };
    match roots {
        Ok(roots) => {
            let kept = roots.iter().map(|root| root.clone_ref(py)).collect();
            Ok((Vat::new_with_roots(vat, kept), roots))
        }
        Err(error) => {
            // The part is free for another attempt.
            if let Err(failure) = vat.close(py) {
                crate::errors::log_unheard(
                    py,
                    "a vat that could not be opened could not be closed",
                    &failure,
                );
            }
            Err(error)
        }
    }
}

fn plain_version(version: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    cbor::encode(version, &mut cbor::NoRefs, &mut bytes).map_err(|error| {
        behavior_error(format!("the version of the roots must be a plain value: {}", error.reason))
    })?;
    Ok(bytes)
}

fn version_differs(py: Python<'_>, stored: &[u8], wanted: &Bound<'_, PyAny>) -> PyErr {
    struct NoActors;
    impl cbor::Actors for NoActors {
        fn actor<'py>(&self, _py: Python<'py>, _number: u64) -> Option<Bound<'py, PyAny>> {
            None
        }
    }
    let stored = cbor::decode_all(py, stored, &NoActors)
        .map_or_else(|error| error.to_string(), |value| value.to_string());
    migration_error(format!(
        "the roots in the store have version {stored}, and this program wants {wanted}; there is no upgrade between \
         them (nothing was changed)"
    ))
}

fn found(
    vat: &Arc<KernelVat<PyHost>>,
    spawn_roots: &Bound<'_, PyAny>,
    version: Vec<u8>,
) -> PyResult<Vec<Py<Ref>>> {
    let py = spawn_roots.py();
    let id: [u8; 16] =
        py.import("os")?.call_method1("urandom", (16,))?.cast::<PyBytes>()?.as_bytes().try_into()?;
    vat.found(py, id, version, |_| {
        let made = calls::call_with(spawn_roots, ())?;
        let several = made.is_instance_of::<PyTuple>() || made.is_instance_of::<PyList>();
        let roots = if several {
            made.try_iter()?.map(|root| as_root(vat, root?)).collect::<PyResult<Vec<_>>>()?
        } else {
            vec![as_root(vat, made)?]
        };
        if roots.is_empty() {
            return Err(behavior_error("spawn_roots returned no root: return a Ref, or a tuple of Refs"));
        }
        Ok(roots)
    })
}

fn as_root(vat: &Arc<KernelVat<PyHost>>, root: Bound<'_, PyAny>) -> PyResult<Py<Ref>> {
    match root.cast_into_exact::<Ref>() {
        Ok(root) if Arc::ptr_eq(root.get().cell.vat(), vat) => Ok(root.unbind()),
        Ok(root) => Err(kernel_error(&goblins_core::error::KernelError::FarReference {
            actor: "a root".to_owned(),
            target: root.get().describe(root.py()),
        })),
        Err(error) => {
            let kind = type_name(&error.into_inner());
            Err(behavior_error(format!(
                "spawn_roots returned {kind} as a root: return a Ref, or a tuple of Refs"
            )))
        }
    }
}
