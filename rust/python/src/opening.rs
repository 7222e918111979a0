//! Opening the vat that lives in a part of a store.

use std::sync::Arc;

use goblins_core::SaveOn;
use goblins_core::record::VatRecord;
use goblins_core::residency::Limits;
use goblins_core::schema;
use goblins_core::vat::{Vat as KernelVat, VatOptions};
use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::behavior::{same_version, type_name};
use crate::calls;
use crate::cbor::{self, DecodeError};
use crate::current::occupied;
use crate::environment::Environment;
use crate::errors::{behavior_error, deadlock, kernel_error, migration_error, open_error, store_error};
use crate::host::PyHost;
use crate::refs::Ref;
use crate::registry::Registry;
use crate::runtime::{check, runtime};
use crate::stores::Store;
use crate::vat::Vat;

/// A vat about to be opened from a store: it is given to the vat's constructor, which makes the vat of it.
#[pyclass(frozen, module = "goblins", name = "_Opening")]
pub(crate) struct Opening {
    /// A `PersistenceEnv`.
    env: Py<PyAny>,
    store: Py<Store>,
    part: String,
    save_on: SaveOn,
    /// How many actors may be awake, and how many bytes of them.
    limits: Limits,
    registry: Option<Py<Registry>>,
    opened: Mutex<Option<OpenedVat>>,
}

/// A vat, and what stood in the store; nothing if it was empty.
type OpenedVat = (Arc<KernelVat<PyHost>>, Option<VatRecord>);

impl Opening {
    /// The vat, with what stands in the store.
    pub(crate) fn open(&self, py: Python<'_>, options: VatOptions) -> PyResult<Arc<KernelVat<PyHost>>> {
        let env = Environment::new(self.env.bind(py))?;
        let judge = env.judge(py)?;
        let storage = self.store.get().storage();
        let claim = py.detach(|| storage.claim(&self.part)).map_err(|error| store_error(&error))?;
        let opened = py
            .detach(|| KernelVat::open(runtime(), options, claim, env, |shape| judge.fits(shape)))
            .map_err(|error| open_error(&error))?;
        opened.vat.set_save_on(self.save_on);
        if self.limits != Limits::default() {
            opened.vat.set_sleep(self.limits);
        }
        if let Some(registry) = &self.registry {
            opened.vat.use_registry(registry.get().registry.clone());
        }
        *self.opened.lock() = Some((opened.vat.clone(), opened.record));
        Ok(opened.vat)
    }
}

#[pymethods]
impl Opening {
    #[new]
    #[pyo3(signature = (env, store, part, sleep=(None, None), registry=None, by_hand=false))]
    fn new(
        env: Py<PyAny>,
        store: Py<Store>,
        part: String,
        sleep: (Option<usize>, Option<u64>),
        registry: Option<Py<Registry>>,
        by_hand: bool,
    ) -> PyResult<Self> {
        check()?;
        if occupied().is_some() {
            return Err(deadlock(
                "a persistent vat can't be opened in a turn: open it outside, and pass refs on",
            ));
        }
        let limits = Limits { actors: sleep.0, bytes: sleep.1 };
        let save_on = if by_hand { SaveOn::Request } else { SaveOn::Churn };
        Ok(Self { env, store, part, save_on, limits, registry, opened: Mutex::new(None) })
    }

    /// The roots: those that are stored, or those that `spawn_roots` makes if there are none. After an error the
    /// vat is closed, and its part free for another attempt.
    fn roots(
        &self,
        py: Python<'_>,
        vat: &Bound<'_, PyAny>,
        spawn_roots: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        upgrade: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Ref>>> {
        let Some((kernel, record)) = self.opened.lock().take() else {
            return Err(PyTypeError::new_err(
                "vat_constructor made no vat of what it was given: it must pass all its keywords on to a Vat",
            ));
        };
        let made = vat.cast::<Vat>().map_err(|_| {
            PyTypeError::new_err(format!("vat_constructor returned {}, which is no Vat", type_name(vat)))
        });
        let roots = made.and_then(|made| {
            let roots = roots_of(&kernel, record, spawn_roots, version, upgrade)?;
            made.get().hold(roots.iter().map(|root| root.clone_ref(py)).collect());
            kernel.publish(py);
            Ok(roots)
        });
        if roots.is_err()
            && let Err(failure) = kernel.close(py)
        {
            crate::errors::log_unheard(py, "a vat that could not be opened could not be closed", &failure);
        }
        roots
    }
}

fn roots_of(
    vat: &Arc<KernelVat<PyHost>>,
    record: Option<VatRecord>,
    spawn_roots: &Bound<'_, PyAny>,
    version: &Bound<'_, PyAny>,
    upgrade: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<Py<Ref>>> {
    let py = spawn_roots.py();
    let bytes = plain_version(version)?;
    match record {
        Some(record) if !same_version(&record.roots_version, &bytes) => match upgrade {
            Some(upgrade) => upgraded(vat, &record, upgrade, version, bytes),
            None => Err(version_differs(&stored_version(py, vat, &record)?, version)),
        },
        Some(record) => Ok(vat.roots(py, &record)?),
        None => {
            let id: [u8; 16] =
                py.import("os")?.call_method1("urandom", (16,))?.cast::<PyBytes>()?.as_bytes().try_into()?;
            Ok(vat.found(py, id, bytes, |_| {
                Ok(made_roots(vat, "spawn_roots", calls::call_with(spawn_roots, ())?)?)
            })?)
        }
    }
}

/// New roots, made of the stored ones (PV-08). They, their version and all else that the upgrade makes are written
/// together.
fn upgraded(
    vat: &Arc<KernelVat<PyHost>>,
    record: &VatRecord,
    upgrade: &Bound<'_, PyAny>,
    version: &Bound<'_, PyAny>,
    bytes: Vec<u8>,
) -> PyResult<Vec<Py<Ref>>> {
    let py = upgrade.py();
    let old = vat.roots(py, record)?;
    Ok(vat.found(py, record.id, bytes, |_| Ok(new_roots(vat, record, &old, upgrade, version)?))?)
}

/// What an upgrade makes of the stored roots, in the open turn.
pub(crate) fn new_roots(
    vat: &Arc<KernelVat<PyHost>>,
    record: &VatRecord,
    old: &[Py<Ref>],
    upgrade: &Bound<'_, PyAny>,
    version: &Bound<'_, PyAny>,
) -> PyResult<Vec<Py<Ref>>> {
    let py = upgrade.py();
    let stored = stored_version(py, vat, record)?;
    let old = PyTuple::new(py, old)?;
    let module = py.import("goblins._migrations")?;
    let made = calls::call_attribute(&module, "upgrade_roots", (upgrade, stored, old, version))?;
    if let Ok(pair) = made.cast::<PyTuple>()
        && pair.len() == 2
        && !pair.get_item(0)?.is_instance_of::<Ref>()
        && (pair.get_item(1)?.is_instance_of::<PyList>() || pair.get_item(1)?.is_instance_of::<PyTuple>())
    {
        return Err(behavior_error(
            "the upgrade of the roots returned a version and a list: return the new root or a tuple of the new roots \
             only; their version is what version= says",
        ));
    }
    made_roots(vat, "the upgrade of the roots", made)
}

pub(crate) fn plain_version(version: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    cbor::encode(version, &mut cbor::NoRefs, &mut bytes).map_err(|error| {
        error.into_error(|reason, _| {
            behavior_error(format!("the version of the roots must be a plain value: {reason}"))
        })
    })?;
    Ok(bytes)
}

/// The version of the roots in the store.
pub(crate) fn stored_version<'py>(
    py: Python<'py>,
    vat: &KernelVat<PyHost>,
    record: &VatRecord,
) -> PyResult<Bound<'py, PyAny>> {
    let refuse = |error: &DecodeError| {
        let reason = format!("the version of the roots can't be read: {error}");
        match vat.persistence() {
            Some(persistence) => {
                let claim = persistence.claim();
                let key = schema::key(claim.part(), schema::Kind::Vat, 0);
                store_error(&schema::corrupt(&claim.storage().name(), &key, &reason))
            }
            None => migration_error(reason),
        }
    };
    cbor::decode_all(py, &record.roots_version, &cbor::NoActors).map_err(|error| error.into_error(refuse))
}

pub(crate) fn version_differs(stored: &Bound<'_, PyAny>, wanted: &Bound<'_, PyAny>) -> PyErr {
    migration_error(format!(
        "the roots in the store have version {stored}, and this program wants {wanted}; there is no upgrade between \
         them (nothing was changed)"
    ))
}

/// The roots that somebody has made.
fn made_roots(vat: &Arc<KernelVat<PyHost>>, by: &str, made: Bound<'_, PyAny>) -> PyResult<Vec<Py<Ref>>> {
    let several = made.is_instance_of::<PyTuple>() || made.is_instance_of::<PyList>();
    let roots = if several {
        made.try_iter()?.map(|root| as_root(vat, by, root?)).collect::<PyResult<Vec<_>>>()?
    } else {
        vec![as_root(vat, by, made)?]
    };
    if roots.is_empty() {
        return Err(behavior_error(format!("{by} returned no root: return a Ref, or a tuple of Refs")));
    }
    Ok(roots)
}

fn as_root(vat: &Arc<KernelVat<PyHost>>, by: &str, root: Bound<'_, PyAny>) -> PyResult<Py<Ref>> {
    match root.cast_into_exact::<Ref>() {
        Ok(root) if Arc::ptr_eq(root.get().cell.vat(), vat) => Ok(root.unbind()),
        Ok(root) => Err(kernel_error(&goblins_core::error::KernelError::FarRoot {
            actor: "a root".to_owned(),
            target: root.get().describe(root.py()),
        })),
        Err(error) => {
            let kind = type_name(&error.into_inner());
            Err(behavior_error(format!("{by} returned {kind} as a root: return a Ref, or a tuple of Refs")))
        }
    }
}
