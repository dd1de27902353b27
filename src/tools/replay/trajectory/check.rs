//! Reading a trajectory, and checking that the file is complete.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::{Map, Value};

use super::key::{self, Key, PARAM};
use super::recorded::{Tensor, Trajectory};
use crate::Result;
use crate::io::tensor_file::{Entry, Pairs, TensorFile, quote};

/// The largest number of steps with a curvature, which has no tensor for each step.
const MAX_FREE_STEPS: usize = 1_000_000;

impl Trajectory {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read, [`Error::File`](crate::Error::File) if it is not a complete trajectory.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        build(TensorFile::open(path.as_ref())?)
    }

    /// Reads a trajectory from a file's bytes. Errors show `name`.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if the bytes are not a complete trajectory.
    pub fn from_bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Self> {
        build(TensorFile::parse(name, bytes.into())?)
    }
}

fn build(file: TensorFile) -> Result<Trajectory> {
    let mut trajectory = Trajectory {
        optimizer: file.text("optimizer")?.to_owned(),
        hyper: hyper(&file)?,
        steps: steps(&file)?,
        source: file.text("source")?.to_owned(),
        tolerance_f32: tolerance(&file, "tolerance_f32")?,
        tolerance_f64: tolerance(&file, "tolerance_f64")?,
        tensors: Vec::new(),
        directions: 0,
        expected: BTreeMap::new(),
        states: Vec::new(),
        file,
    };
    let last = trajectory.survey()?;
    trajectory.check_steps(last)?;
    trajectory.check_objective()?;
    trajectory.check_directions()?;
    trajectory.check_expectations()?;
    trajectory.check_records()?;
    Ok(trajectory)
}

impl Trajectory {
    /// Checks every key by itself, collects tensors and expectations, and returns the last step that a key names.
    fn survey(&mut self) -> Result<usize> {
        let entries = self.file.entries();
        let params = entries.iter().filter_map(|e| Some((e.key.strip_prefix("param/")?, e)));
        self.tensors = params
            .map(|(name, e)| Tensor { name: name.to_owned(), shape: e.shape.clone(), data: e.data.clone() })
            .collect();
        if self.tensors.is_empty() {
            return Err(self.file.error("has no `param/<tensor>`, needs at least one"));
        }
        let mut last = 0;
        for entry in self.file.entries() {
            let key = self.check_entry(entry)?;
            last = last.max(key.step().unwrap_or(0));
            match key {
                Key::Direction { j, .. } => self.directions = self.directions.max(j),
                Key::Expect { t, quantity, .. } => {
                    self.expected.entry(quantity.to_owned()).or_default().insert(t);
                }
                _ => {}
            }
        }
        self.states = self.expected.keys().filter(|quantity| *quantity != PARAM).cloned().collect();
        Ok(last)
    }

    /// Checks `steps`. Gradients bound `steps` by themselves, because the first missing gradient is an error.
    fn check_steps(&self, last: usize) -> Result<()> {
        let most = if self.has("curvature/") { MAX_FREE_STEPS } else { usize::MAX };
        if (last..=most).contains(&self.steps) {
            return Ok(());
        }
        if last > most {
            return Err(self.file.error(format!("a key names step {last}, needs at most {most}")));
        }
        let needs = if self.steps < last { format!("{last}, which a key names") } else { format!("at most {most}") };
        Err(self.file.error(format!("`steps` is {}, needs {needs}", self.steps)))
    }

    fn check_entry<'a>(&self, entry: &'a Entry) -> Result<Key<'a>> {
        let name = || quote(&entry.key);
        let Some(key) = Key::parse(&entry.key) else {
            return Err(self.file.error(format!("{} is not a key of a trajectory, needs {}", name(), key::FORMS)));
        };
        if entry.dtype != key.dtype() {
            return Err(self.file.error(format!("{} is {:?}, needs {:?}", name(), entry.dtype, key.dtype())));
        }
        let Some(tensor) = key.tensor() else { return Ok(key) };
        match self.tensor(tensor) {
            Some(tensor) => self.check_shape(entry, &tensor.shape).map(|()| key),
            None => Err(self.file.error(format!("{} belongs to no `param/<tensor>`", name()))),
        }
    }

    fn tensor(&self, name: &str) -> Option<&Tensor> {
        let at = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()?;
        self.tensors.get(at)
    }

    fn check_shape(&self, entry: &Entry, needed: &[usize]) -> Result<()> {
        if entry.shape == needed {
            return Ok(());
        }
        Err(self.file.error(format!("{} has shape {:?}, needs {needed:?}", quote(&entry.key), entry.shape)))
    }

    fn check_records(&self) -> Result<()> {
        if let Some(lgi) = self.file.entry(key::LGI) {
            self.check_shape(lgi, &[self.steps])?;
        }
        let mut before = 0;
        for &t in self.triggers().unwrap_or_default().iter() {
            if t <= before || !usize::try_from(t).is_ok_and(|t| t <= self.steps) {
                let needs = format!("needs ascending steps from 1 to {}", self.steps);
                return Err(self.file.error(format!("`{}` has {t} after {before}, {needs}", key::TRIGGERS)));
            }
            before = t;
        }
        Ok(())
    }

    fn check_objective(&self) -> Result<()> {
        if !self.has("curvature/") {
            return (1..=self.steps).try_for_each(|t| self.check_all(|tensor| key::gradient(t, tensor)));
        }
        if self.has("grad/") {
            return Err(self.file.error("has both `grad/…` and `curvature/…`, needs one of them"));
        }
        self.check_all(key::curvature)
    }

    fn check_directions(&self) -> Result<()> {
        let steps = if self.directions == 0 { 0 } else { self.steps };
        for t in 1..=steps {
            for j in 1..=self.directions {
                self.check_all(|tensor| key::direction(t, j, tensor))?;
            }
        }
        Ok(())
    }

    fn check_expectations(&self) -> Result<()> {
        for (quantity, steps) in &self.expected {
            for t in steps {
                self.check_all(|tensor| key::expect(*t, quantity, tensor))?;
            }
        }
        Ok(())
    }

    fn has(&self, prefix: &str) -> bool {
        self.file.entries().iter().any(|e| e.key.starts_with(prefix))
    }

    /// Checks that each tensor has the key that `key` makes of its name. The first missing key ends the check, so that a large number of
    /// steps in the file costs no time.
    fn check_all(&self, key: impl Fn(&str) -> String) -> Result<()> {
        let keys = self.tensors.iter().map(|tensor| key(&tensor.name));
        match keys.into_iter().find(|key| self.file.entry(key).is_none()) {
            Some(key) => Err(self.file.error(format!("lacks {}", quote(&key)))),
            None => Ok(()),
        }
    }
}

fn steps(file: &TensorFile) -> Result<usize> {
    let text = file.text("steps")?;
    key::count(text).ok_or_else(|| file.error(format!("`steps` is {}, needs a whole number from 1", quote(text))))
}

fn tolerance(file: &TensorFile, name: &str) -> Result<f64> {
    let text = file.text(name)?;
    let parsed = text.parse().ok().filter(|tolerance| (0.0..1.0).contains(tolerance));
    parsed.ok_or_else(|| file.error(format!("`{name}` is {}, needs a number from 0 up to 1, 1 excluded", quote(text))))
}

fn hyper(file: &TensorFile) -> Result<Map<String, Value>> {
    let parsed = serde_json::from_str::<Pairs<Setting>>(file.text("hyper")?);
    let pairs = parsed.map_err(|e| file.error(format!("`hyper`: {e}")))?;
    Ok(pairs.0.into_iter().map(|(name, Setting(value))| (name, value)).collect())
}

/// A setting's value, without nested values.
struct Setting(Value);

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SettingVisitor)
    }
}

struct SettingVisitor;

impl Visitor<'_> for SettingVisitor {
    type Value = Setting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, true, false or a text")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Setting, E> {
        Ok(Setting(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Setting, E> {
        Ok(Setting(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Setting, E> {
        Ok(Setting(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Setting, E> {
        if value.is_finite() { Ok(Setting(value.into())) } else { Err(E::custom("not a finite number")) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Setting, E> {
        Ok(Setting(value.into()))
    }
}
