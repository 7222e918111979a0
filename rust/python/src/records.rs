//! Records: classes whose instances are values, each under its name in an environment.
//!
//! A dataclass or a class of attrs is read and filled field by field, past its own code: neither `__init__` nor
//! `__post_init__`, and no `__setattr__` of its own.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::exceptions::{PyLookupError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyString, PyTuple, PyType};

use crate::calls;
use crate::cbor::Head;
use crate::copies::deep_copy;
use crate::shapes::{self, Shape};

/// What its instances are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Instances of a dataclass or of a class of attrs.
    Fields,
    /// Named tuples.
    Tuple,
    /// Members of an enum.
    Enum,
    /// Members of an enum that can be joined.
    Flag,
}

/// A class that `records=` of an environment names.
#[pyclass(frozen, module = "goblins", name = "_RecordClass")]
pub(crate) struct RecordClass {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) class: Py<PyType>,
    pub(crate) fields: Vec<Py<PyString>>,
    /// The attributes that an instance may have.
    attributes: Py<PyFrozenSet>,
    /// Gives the default of a field, by the instance and the field's name, or raises LookupError.
    default: Py<PyAny>,
    /// The members of an enum, by name.
    members: Py<PyDict>,
    /// What stands before the parts in the bytes of an instance.
    pub(crate) head: Head,
    shape: Option<Arc<Shape>>,
}

#[pymethods]
impl RecordClass {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "called with keywords, by one function")]
    fn new(
        name: String,
        kind: &str,
        class_: Bound<'_, PyType>,
        fields: Vec<Py<PyString>>,
        slots: Vec<Py<PyString>>,
        ignored: Vec<Py<PyString>>,
        mutable: bool,
        default: Py<PyAny>,
        members: Py<PyDict>,
    ) -> PyResult<Self> {
        let (class, py) = (&class_, class_.py());
        let kind = match kind {
            "fields" => Kind::Fields,
            "tuple" => Kind::Tuple,
            "enum" => Kind::Enum,
            "flag" => Kind::Flag,
            other => return Err(PyValueError::new_err(format!("no kind of records: {other}"))),
        };
        let attributes = PyFrozenSet::new(py, fields.iter().chain(&ignored))?.unbind();
        let texts = fields.iter().map(|field| field.bind(py).to_str()).collect::<PyResult<Vec<_>>>()?;
        let head = Head::new(&name, kind, &texts)?;
        let has_dict = class.getattr(intern!(py, "__dictoffset__"))?.extract::<isize>()? != 0;
        let shape = match kind {
            Kind::Fields => Some(Shape::Fields { mutable, has_dict, slots }),
            Kind::Tuple => Some(Shape::Tuple { has_dict }),
            Kind::Enum | Kind::Flag => None,
        };
        let shape = shape.map(Arc::new);
        if let Some(shape) = &shape {
            shapes::register(class, shape)?;
        }
        Ok(Self { name, kind, class: class_.unbind(), fields, attributes, default, members, head, shape })
    }

    /// The name that it is stored under.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// The class.
    #[getter]
    fn record(&self, py: Python<'_>) -> Py<PyType> {
        self.class.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.class)?;
        visit.call(&self.default)?;
        visit.call(&self.members)
    }
}

impl Drop for RecordClass {
    fn drop(&mut self) {
        if self.shape.is_some() {
            shapes::forget(self.class.as_ptr() as usize);
        }
    }
}

impl RecordClass {
    /// What an instance has under the name of a field, without code of its class.
    pub(crate) fn field<'py>(
        &self,
        instance: &Bound<'py, PyAny>,
        index: usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.kind == Kind::Tuple {
            return instance.cast::<PyTuple>()?.get_item(index).map(Some);
        }
        match self.fields.get(index) {
            Some(field) => shapes::get(instance, field.bind(instance.py())),
            None => Ok(None),
        }
    }

    /// An attribute of an instance that would be lost.
    pub(crate) fn unknown_attribute(&self, instance: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        let Some(dict) = self.shape.as_ref().map(|shape| shape.dict(instance)).transpose()?.flatten() else {
            return Ok(None);
        };
        for name in dict.keys() {
            let known = self.kind == Kind::Fields && self.attributes.bind(instance.py()).contains(&name)?;
            if !known {
                return Ok(Some(name.to_string()));
            }
        }
        Ok(None)
    }

    /// The member with a name.
    pub(crate) fn member<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.members.bind(name.py()).get_item(name)
    }

    /// Makes an instance. `stored` gives what stands in the store; what it does not have gets its default, or else is
    /// what comes back as the error.
    pub(crate) fn make<'py>(
        &self,
        py: Python<'py>,
        mut stored: impl FnMut(&str) -> Option<Bound<'py, PyAny>>,
    ) -> PyResult<Result<Bound<'py, PyAny>, String>> {
        let class = self.class.bind(py);
        let mut items = Vec::new();
        let instance = if self.kind == Kind::Fields { Some(shapes::blank(class)?) } else { None };
        for field in &self.fields {
            let field = field.bind(py);
            let name = field.to_str()?;
            let value = match stored(name) {
                Some(value) => value,
                None => match calls::call_with(self.default.bind(py), (instance.as_ref(), field)) {
                    Err(error) if error.is_instance_of::<PyLookupError>(py) => {
                        return Ok(Err(name.to_owned()));
                    }
                    // It may belong to the class.
                    other => deep_copy(&other?)?,
                },
            };
            match &instance {
                Some(instance) => shapes::set(instance, field, Some(&value))?,
                None => items.push(value),
            }
        }
        match instance {
            Some(instance) => Ok(Ok(instance)),
            None => shapes::tuple(class, items).map(Ok),
        }
    }
}

/// The records of an environment.
#[derive(Default)]
pub(crate) struct Records {
    by_name: HashMap<String, Py<RecordClass>>,
    /// By the address of the class, which is kept alive by the map above.
    by_class: HashMap<usize, Py<RecordClass>>,
}

impl Records {
    pub(crate) fn new(records: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut found = Self::default();
        for record in records.values() {
            let record = record.cast_into_exact::<RecordClass>()?;
            let this = record.get();
            found.by_class.insert(this.class.as_ptr() as usize, record.clone().unbind());
            found.by_name.insert(this.name.clone(), record.unbind());
        }
        Ok(found)
    }

    /// Instances that were stored under another name are made by the class that has this one.
    pub(crate) fn add_alias(&mut self, py: Python<'_>, alias: String, name: &str) {
        if let Some(record) = self.by_name.get(name).map(|record| record.clone_ref(py)) {
            self.by_name.insert(alias, record);
        }
    }

    /// Whether another environment has the same classes under all names of this one.
    pub(crate) fn are_among(&self, other: &Self) -> bool {
        self.by_name.iter().all(|(name, record)| {
            let same = |other: &Py<RecordClass>| other.get().class.is(&record.get().class);
            other.by_name.get(name).is_some_and(same)
        })
    }

    /// That of the class of a value.
    pub(crate) fn of<'py>(&self, value: &Bound<'py, PyAny>) -> Option<Bound<'py, RecordClass>> {
        if self.by_class.is_empty() {
            return None;
        }
        let record = self.by_class.get(&(value.get_type_ptr() as usize))?;
        Some(record.bind(value.py()).clone())
    }

    /// That with a name.
    pub(crate) fn named<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, RecordClass>> {
        Some(self.by_name.get(name)?.bind(py).clone())
    }
}
