//! Environments: which constructor stands for which label, and what can be made of what is stored.

use std::collections::HashMap;
use std::sync::Arc;

use goblins_core::record::Shape;
use goblins_core::storage::Fit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::behavior::{Constructor, Parameter, ParameterKind, same_version, version_bytes};
use crate::calls;
use crate::cbor;
use crate::class_actor::ClassInfo;
use crate::collections::library_labels;
use crate::once::once;
use crate::records::Records;

/// Version 0, which a constructor has if it names none, as it is stored.
const UNVERSIONED: [u8; 1] = [0];

/// What makes actors from records.
pub(crate) enum Maker {
    /// With a rehydrator, if the environment has one; and the function itself where it is one without `@actor`.
    Function(Py<Constructor>, Option<Py<PyAny>>, Option<Py<PyAny>>),
    Class(Py<PyType>),
}

/// What a constructor can make actors of.
struct Known {
    version: Vec<u8>,
    version_text: String,
    /// Without an upgrade, fields that it needs, and all that it takes; none for any.
    needs: Vec<String>,
    takes: Option<Vec<String>>,
    upgrade: Upgrade,
}

enum Upgrade {
    No,
    /// From these versions on, as they are stored.
    From(Vec<Vec<u8>>),
    /// A function that knows itself what it can do.
    Any,
}

/// Says which stored shapes an environment can make actors of.
pub(crate) struct Judge {
    by_label: HashMap<String, Known>,
}

impl Judge {
    pub(crate) fn fits(&self, shape: &Shape) -> Fit {
        let Some(known) = self.by_label.get(&shape.label) else {
            return Fit::Unknown;
        };
        if same_version(&shape.version, &known.version) {
            return known.fits_fields(shape);
        }
        match &known.upgrade {
            Upgrade::Any => Fit::Fits,
            Upgrade::From(versions) if versions.contains(&shape.version) => Fit::Fits,
            Upgrade::From(_) => Fit::Misfit(format!(
                "they have version {}, and the migrations to version {} don't begin there",
                version_text(&shape.version),
                known.version_text
            )),
            Upgrade::No => Fit::Misfit(format!(
                "they have version {}, the constructor has version {}, and there is no upgrade=",
                version_text(&shape.version),
                known.version_text
            )),
        }
    }
}

impl Known {
    fn fits_fields(&self, shape: &Shape) -> Fit {
        if let Some(missing) = self.needs.iter().find(|need| !shape.fields.contains(need)) {
            return Fit::Misfit(format!(
                "they have no field {missing:?}: give that a default, or give a new version= and an upgrade="
            ));
        }
        let takes = |field: &&String| self.takes.as_ref().is_some_and(|takes| !takes.contains(field));
        match shape.fields.iter().find(takes) {
            Some(lost) => Fit::Misfit(format!(
                "they have a field {lost:?}, which would be lost: give a new version= and an upgrade= that drops it"
            )),
            None => Fit::Fits,
        }
    }
}

/// A version that is stored, in words.
fn version_text(bytes: &[u8]) -> String {
    Python::attach(|py| {
        cbor::decode_all(py, bytes, &cbor::NoActors)
            .ok()
            .and_then(|version| version.repr().ok())
            .map_or_else(|| "that can't be read".to_owned(), |text| text.to_string_lossy().into_owned())
    })
}

impl Maker {
    /// What stands under a label of a `PersistenceEnv`, with the address of the constructor, and version and fields
    /// of the portraits that it has today.
    fn of(given: Bound<'_, PyAny>) -> PyResult<(Self, usize, Vec<u8>, Vec<String>)> {
        let py = given.py();
        let (constructor, rehydrate, plain) = match given.cast_into_exact::<PyTuple>() {
            Ok(parts) => parts.extract()?,
            Err(error) => (error.into_inner(), None, None::<Py<PyAny>>),
        };
        let address = plain.as_ref().map_or(constructor.as_ptr(), Py::as_ptr) as usize;
        match constructor.cast_into_exact::<Constructor>() {
            Ok(function) => {
                let this = function.get();
                let fields = this.parameters.iter().map(|parameter| name(py, parameter)).collect();
                let version = this.version_bytes.clone();
                let restore = this.restore.as_ref().map(|restore| restore.clone_ref(py));
                Ok((
                    Self::Function(function.unbind(), restore.or(rehydrate), plain),
                    address,
                    version,
                    fields,
                ))
            }
            Err(error) => {
                let class = error.into_inner().cast_into::<PyType>()?;
                let info = ClassInfo::of(&class)?;
                let fields = info.get().fields.iter();
                let fields = fields.map(|field| field.bind(py).to_string_lossy().into_owned()).collect();
                let version = info.get().version_bytes.clone();
                Ok((Self::Class(class.unbind()), address, version, fields))
            }
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Function(constructor, restore, plain) => {
                let [restore, plain] = [restore, plain].map(|one| one.as_ref().map(|one| one.clone_ref(py)));
                Self::Function(constructor.clone_ref(py), restore, plain)
            }
            Self::Class(class) => Self::Class(class.clone_ref(py)),
        }
    }

    /// Whether it makes the same of a record as another one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Function(_, restore, _), Self::Function(_, restore_too, _)) => {
                let same = match (restore, restore_too) {
                    (Some(restore), Some(other)) => restore.is(other),
                    (None, None) => true,
                    _ => false,
                };
                self.address() == other.address() && same
            }
            (Self::Class(a), Self::Class(b)) => a.is(b),
            _ => false,
        }
    }

    fn address(&self) -> usize {
        match self {
            Self::Function(_, _, Some(plain)) => plain.as_ptr() as usize,
            Self::Function(constructor, ..) => constructor.as_ptr() as usize,
            Self::Class(class) => class.as_ptr() as usize,
        }
    }

    /// Whether a function of the user gives the portrait, so that only it knows the fields.
    fn has_own_portrait(&self) -> bool {
        match self {
            Self::Function(constructor, _, plain) => plain.is_some() || constructor.get().portrait.is_some(),
            Self::Class(_) => false,
        }
    }

    fn known(&self, py: Python<'_>) -> PyResult<Known> {
        let texts = |names: &mut dyn Iterator<Item = &Py<PyString>>| -> Vec<String> {
            names.map(|name| name.bind(py).to_string_lossy().into_owned()).collect()
        };
        let (version, bytes, upgrade, needs, takes) = match self {
            Self::Function(constructor, restore, plain) => {
                let constructor = constructor.get();
                if restore.is_some() || plain.is_some() || constructor.portrait.is_some() {
                    // Only the functions know which fields there may be.
                    return Ok(Known {
                        version: constructor.version_bytes.clone(),
                        version_text: constructor.version.bind(py).repr()?.to_string_lossy().into_owned(),
                        needs: Vec::new(),
                        takes: None,
                        upgrade: match Upgrade::of(py, constructor.upgrade.as_ref())? {
                            // A rehydrator gets the version, and may know what to do with it.
                            Upgrade::No if restore.is_some() => Upgrade::Any,
                            upgrade => upgrade,
                        },
                    });
                }
                let parameters = &constructor.parameters;
                let rest = |kind| matches!(kind, ParameterKind::Rest | ParameterKind::RestKeywords);
                let needed = parameters.iter().filter(|one| one.default.is_none() && !rest(one.kind));
                let needs = texts(&mut needed.map(|one| &one.name));
                let takes = texts(&mut parameters.iter().map(|one| &one.name));
                (&constructor.version, &constructor.version_bytes, &constructor.upgrade, needs, takes)
            }
            Self::Class(class) => {
                let info = ClassInfo::of(class.bind(py))?.unbind();
                let info = info.get();
                let takes = texts(&mut info.fields.iter());
                let upgrade = info.upgrade.as_ref().map(|upgrade| upgrade.clone_ref(py));
                return Ok(Known {
                    version: info.version_bytes.clone(),
                    version_text: info.version.bind(py).repr()?.to_string_lossy().into_owned(),
                    needs: info.needs.clone(),
                    takes: Some(takes),
                    upgrade: Upgrade::of(py, upgrade.as_ref())?,
                });
            }
        };
        Ok(Known {
            version: bytes.clone(),
            version_text: version.bind(py).repr()?.to_string_lossy().into_owned(),
            needs,
            takes: Some(takes),
            upgrade: Upgrade::of(py, upgrade.as_ref())?,
        })
    }
}

impl Upgrade {
    fn of(py: Python<'_>, upgrade: Option<&Py<PyAny>>) -> PyResult<Self> {
        let Some(upgrade) = upgrade else {
            return Ok(Self::No);
        };
        // Migrations say where they can begin.
        let Some(begins) = upgrade.bind(py).getattr_opt(intern!(py, "_begins"))? else {
            return Ok(Self::Any);
        };
        let versions = calls::call_with(&begins, ())?.try_iter()?.map(|version| version_bytes(&version?));
        Ok(Self::From(versions.collect::<PyResult<_>>()?))
    }
}

/// The map between labels and constructors.
pub(crate) struct Environment {
    /// The `PersistenceEnv` that it was made of.
    pub(crate) origin: Py<PyAny>,
    /// Labels, and old names of labels.
    pub(crate) by_label: HashMap<String, Maker>,
    /// By the constructor's address, which is kept alive by the map above.
    pub(crate) by_constructor: HashMap<usize, Arc<Shape>>,
    pub(crate) records: Records,
}

impl Environment {
    /// That of a `PersistenceEnv`.
    pub(crate) fn new(origin: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = origin.py();
        let (labels, records, aliases) = origin.call_method0(intern!(py, "_parts"))?.extract::<(
            Bound<'_, PyDict>,
            Bound<'_, PyDict>,
            Bound<'_, PyDict>,
        )>()?;
        let mut by_label = HashMap::new();
        let mut by_constructor = HashMap::new();
        let library = library_labels(py).into_iter().flatten();
        for (label, constructor) in labels.iter().chain(library) {
            let label: String = label.extract()?;
            let (maker, address, version, fields) = Maker::of(constructor)?;
            let shape = Shape { label: label.clone(), version, fields };
            by_constructor.insert(address, Arc::new(shape));
            by_label.insert(label, maker);
        }
        let mut records = Records::new(&records)?;
        for (alias, name) in aliases {
            let (alias, name) = (alias.extract::<String>()?, name.extract::<String>()?);
            match by_label.get(&name).map(|maker| maker.clone_ref(py)) {
                Some(maker) => drop(by_label.insert(alias, maker)),
                None => records.add_alias(py, alias, &name),
            }
        }
        Ok(Self { origin: origin.clone().unbind(), by_label, by_constructor, records })
    }

    /// One that knows the actors of the library only.
    pub(crate) fn empty(py: Python<'_>) -> PyResult<Arc<Self>> {
        static EMPTY: PyOnceLock<Arc<Environment>> = PyOnceLock::new();
        let empty = || {
            let origin = py.import("goblins._persistence")?.getattr("cell_env")?;
            Self::new(&origin).map(Arc::new)
        };
        once(py, &EMPTY, empty).cloned()
    }

    /// The label under which what this makes is stored.
    pub(crate) fn label_of(&self, maker: &Maker) -> Option<&str> {
        Some(&self.by_constructor.get(&maker.address())?.label)
    }

    /// Whether actors of a stored shape would be stored in the same way today.
    pub(crate) fn is_today(&self, shape: &Shape) -> bool {
        let Some(maker) = self.by_label.get(&shape.label) else {
            // Nobody can make them, so nobody can store them otherwise.
            return true;
        };
        let Some(today) = self.by_constructor.get(&maker.address()) else {
            return true;
        };
        if maker.has_own_portrait() {
            // Its version may be one that the function gives.
            return shape.label == today.label
                && (shape.version == today.version || today.version == UNVERSIONED);
        }
        shape == &**today
    }

    /// What the environment knows of stored shapes, to be asked without Python.
    pub(crate) fn judge(&self, py: Python<'_>) -> PyResult<Judge> {
        let by_label = self.by_label.iter().map(|(label, maker)| {
            let info = maker.known(py)?;
            Ok((label.clone(), info))
        });
        Ok(Judge { by_label: by_label.collect::<PyResult<_>>()? })
    }
}

/// The name of a parameter, which is that of a field.
pub(crate) fn name(py: Python<'_>, parameter: &Parameter) -> String {
    parameter.name.bind(py).to_string_lossy().into_owned()
}
