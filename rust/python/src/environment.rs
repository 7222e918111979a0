//! Environments: which constructor stands for which label, and what can be made of what is stored.

use std::collections::HashMap;
use std::sync::Arc;

use goblins_core::record::Shape;
use goblins_core::storage::Fit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::behavior::{Constructor, Parameter, ParameterKind, version_bytes};
use crate::cbor;
use crate::class_actor::ClassInfo;
use crate::collections::library_labels;
use crate::records::Records;

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
        if shape.version == known.version {
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
        let versions = begins.call0()?.try_iter()?.map(|version| version_bytes(&version?));
        Ok(Self::From(versions.collect::<PyResult<_>>()?))
    }
}

/// The map between labels and constructors.
pub(crate) struct Environment {
    pub(crate) by_label: HashMap<String, Maker>,
    /// Labels of old, and those of today.
    aliases: HashMap<String, String>,
    /// By the constructor's address, which is kept alive by the map above.
    pub(crate) by_constructor: HashMap<usize, Arc<Shape>>,
    pub(crate) records: Records,
}

impl Environment {
    pub(crate) fn new(
        py: Python<'_>,
        labels: &Bound<'_, PyDict>,
        records: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let (mut by_label, mut aliases) = (HashMap::new(), HashMap::new());
        let mut by_constructor = HashMap::new();
        let library = library_labels(py).into_iter().flatten();
        for (label, constructor) in labels.iter().chain(library) {
            let label: String = label.extract()?;
            if let Ok(of) = constructor.cast_exact::<PyString>() {
                aliases.insert(label, of.to_str()?.to_owned());
                continue;
            }
            let (constructor, rehydrate, plain) = match constructor.cast_into_exact::<PyTuple>() {
                Ok(parts) => parts.extract()?,
                Err(error) => (error.into_inner(), None, None::<Py<PyAny>>),
            };
            let address = plain.as_ref().map_or(constructor.as_ptr(), Py::as_ptr) as usize;
            let (maker, version, fields) = match constructor.cast_into_exact::<Constructor>() {
                Ok(function) => {
                    let fields =
                        function.get().parameters.iter().map(|parameter| name(py, parameter)).collect();
                    let version = function.get().version_bytes.clone();
                    let restore = function.get().restore.as_ref().map(|restore| restore.clone_ref(py));
                    (Maker::Function(function.unbind(), restore.or(rehydrate), plain), version, fields)
                }
                Err(error) => {
                    let class = error.into_inner().cast_into::<PyType>()?;
                    let info = ClassInfo::of(&class)?;
                    let fields = info.get().fields.iter();
                    let fields = fields.map(|field| field.bind(py).to_string_lossy().into_owned()).collect();
                    let version = info.get().version_bytes.clone();
                    (Maker::Class(class.unbind()), version, fields)
                }
            };
            let shape = Shape { label: label.clone(), version, fields };
            by_constructor.insert(address, Arc::new(shape));
            by_label.insert(label, maker);
        }
        Ok(Self { by_label, aliases, by_constructor, records: Records::new(records)? })
    }

    /// What makes the actors that are stored under a label, and whether that is one of old.
    pub(crate) fn maker(&self, label: &str) -> Option<(&Maker, bool)> {
        match self.aliases.get(label) {
            Some(of) => Some((self.by_label.get(of)?, true)),
            None => Some((self.by_label.get(label)?, false)),
        }
    }

    /// What the environment knows of stored shapes, to be asked without Python.
    pub(crate) fn judge(&self, py: Python<'_>) -> PyResult<Judge> {
        let labels = self.by_label.keys().chain(self.aliases.keys());
        let by_label = labels.filter_map(|label| {
            let (maker, _) = self.maker(label)?;
            Some(maker.known(py).map(|known| (label.clone(), known)))
        });
        Ok(Judge { by_label: by_label.collect::<PyResult<_>>()? })
    }
}

/// The name of a parameter, which is that of a field.
pub(crate) fn name(py: Python<'_>, parameter: &Parameter) -> String {
    parameter.name.bind(py).to_string_lossy().into_owned()
}
