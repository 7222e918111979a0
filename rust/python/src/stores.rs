//! Stores, and vats opened from them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goblins_core::memory::MemoryStore as KernelMemoryStore;
use goblins_core::storage::{Storage, StorageOptions};
use goblins_core::store::StoreError;
use goblins_store_rocksdb::RocksStore as KernelRocksStore;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use crate::current::occupied;
use crate::errors::{deadlock, store_error};
use crate::host::PyHost;
use crate::runtime::{check, open_stores, remember};
use crate::texts::{Folder, text};
use crate::upkeep;
use crate::wishes::generations;

/// A place where portraits live. Made as `MemoryStore()` or `RocksStore(path)`.
#[pyclass(subclass, frozen, weakref, module = "goblins", name = "Store")]
pub(crate) struct Store {
    storage: Arc<Storage<PyHost>>,
    /// What it is, for `repr`, if that is not all that its name says.
    view: Option<String>,
}

impl Store {
    pub(crate) fn storage(&self) -> &Arc<Storage<PyHost>> {
        &self.storage
    }

    fn open(
        py: Python<'_>,
        make: impl FnOnce() -> Result<Arc<Storage<PyHost>>, StoreError> + Send,
    ) -> PyResult<Self> {
        check()?;
        let storage = py.detach(make).map_err(|mut error| {
            name_holder(&mut error);
            store_error(&error)
        })?;
        remember(&storage);
        Ok(Self { storage, view: None })
    }
}

/// What was raised in a block that ends.
pub(crate) fn raised<'py>(error: &Bound<'py, PyTuple>) -> Option<Bound<'py, PyAny>> {
    error.get_item(1).ok().filter(|error| !error.is_none())
}

fn note_closing(py: Python<'_>, error: &Bound<'_, PyAny>, closing: &PyErr) -> PyResult<()> {
    py.import("goblins._errors")?.call_method1("note_closing", (error, closing.value(py)))?;
    Ok(())
}

/// Says which object of this process has a store open.
fn name_holder(error: &mut StoreError) {
    let StoreError::Locked { path, here: Some(object), .. } = error else {
        return;
    };
    let number = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let wanted = number(path);
    let open = open_stores().into_iter().find(|storage| number(Path::new(&storage.name())) == wanted);
    if let Some(storage) = open {
        let mut vats: Vec<_> = storage.live_vat_names();
        vats.sort();
        *object = match vats.is_empty() {
            true => format!("<store {}>, which has no live vat", storage.name()),
            false => format!("<store {}>, with the live vat(s) {}", storage.name(), vats.join(", ")),
        };
    }
}

#[pymethods]
impl Store {
    /// The part with this name: give it to `spawn_persistent_vat` to keep several vats in one store.
    fn vat(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<StorePart> {
        Ok(StorePart { store: slf.clone().unbind(), name: text("the name of a part", name)? })
    }

    /// Names of the parts that hold a vat.
    fn vats(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        check()?;
        py.detach(|| self.storage.part_names()).map_err(|error| store_error(&error))
    }

    /// Removes the stored actors that no root reaches.
    #[pyo3(signature = (progress=None))]
    fn collect<'py>(&self, py: Python<'py>, progress: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        upkeep::collect(py, &self.storage, progress.as_ref())
    }

    /// Closes the vats that live here, then the store. Closing twice does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if occupied().is_some() {
            return Err(deadlock("a store can't be closed in a turn: its vats must come to rest first"));
        }
        check()?;
        Ok(self.storage.close(py)?)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    #[pyo3(signature = (*error))]
    fn __exit__(&self, py: Python<'_>, error: &Bound<'_, PyTuple>) -> PyResult<bool> {
        match (self.close(py), raised(error)) {
            (Err(closing), Some(error)) if closing.is_instance_of::<PyException>(py) => {
                // It is told of the store's failure already, or there is something else to be told first.
                note_closing(py, &error, &closing).map(|()| false)
            }
            (closed, _) => closed.map(|()| false),
        }
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("goblins._asyncio")?.call_method1("enter_life", (slf,))
    }

    #[pyo3(signature = (*error))]
    fn __aexit__<'py>(slf: &Bound<'py, Self>, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("goblins._asyncio")?.call_method1("exit_life", (slf, raised(error)))
    }

    fn __repr__(&self) -> String {
        match &self.view {
            Some(view) => format!("<view of the store {}: {view}>", self.storage.name()),
            None => format!("<store {}>", self.storage.name()),
        }
    }
}

/// A store that lives as long as this object: for tests.
#[pyclass(extends = Store, frozen, module = "goblins", name = "MemoryStore")]
pub(crate) struct MemoryStore;

#[pymethods]
impl MemoryStore {
    #[new]
    #[pyo3(
        signature = (*, keep_generations=None, auto_collect=true),
        text_signature = "(*, keep_generations=100, auto_collect=True)"
    )]
    fn new(
        py: Python<'_>,
        keep_generations: Option<Bound<'_, PyAny>>,
        auto_collect: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        let keep_generations = keep_generations.as_ref().map_or(Ok(100), generations)?;
        let options = StorageOptions { keep_generations, auto_collect };
        let store = Store::open(py, move || Storage::open_with(KernelMemoryStore::new(), options))?;
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
    #[pyo3(
        signature = (path, *, sync=true, keep_generations=None, auto_collect=true),
        text_signature = "(path, *, sync=True, keep_generations=0, auto_collect=True)"
    )]
    fn new(
        py: Python<'_>,
        path: Folder,
        sync: bool,
        keep_generations: Option<Bound<'_, PyAny>>,
        auto_collect: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        crate::runtime::rocksdb_runs();
        let keep_generations = keep_generations.as_ref().map_or(Ok(0), generations)?;
        let options = StorageOptions { keep_generations, auto_collect };
        let mut folder = PathBuf::new();
        let store = Store::open(py, || {
            let kernel = KernelRocksStore::open(path.0, sync)?;
            folder = kernel.path().to_owned();
            Storage::open_with(kernel, options)
        })?;
        Ok(PyClassInitializer::from(store).add_subclass(Self { path: folder, sync }))
    }

    /// A store in a folder that is only read: no file there changes.
    #[staticmethod]
    fn _open_read_only(py: Python<'_>, path: Folder) -> PyResult<Py<Self>> {
        crate::runtime::rocksdb_runs();
        let mut folder = PathBuf::new();
        let store = Store::open(py, || {
            let kernel = KernelRocksStore::open_read_only(path.0)?;
            folder = kernel.path().to_owned();
            Storage::open(kernel)
        })?;
        Py::new(py, PyClassInitializer::from(store).add_subclass(Self { path: folder, sync: false }))
    }

    /// The folder: the absolute path of what was given.
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

    /// The states of this part that can be looked at.
    fn generations<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        check()?;
        upkeep::generations(py, self.store.get().storage(), &self.name)
    }

    /// The part as it was, in a view of the store.
    fn at(&self, py: Python<'_>, generation: &Bound<'_, PyInt>) -> PyResult<Self> {
        let storage = self.store.get().storage();
        // No store keeps one with a larger number.
        let number = generation.extract().unwrap_or(i128::MAX);
        let mut view = Store::open(py, || storage.at(&self.name, number))?;
        view.view = Some(format!("part {} at generation {generation}", self.name));
        Ok(Self { store: Py::new(py, view)?, name: self.name.clone() })
    }

    fn __repr__(&self) -> String {
        format!("<part {} of {}>", self.name, self.store.get().__repr__())
    }
}
