//! The parser of a checkpoint's metadata. It reads each member into its own type, since a tree of JSON values would take forty times the
//! length of a hostile text, and would keep the last of two equal names.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::io::lean;
use crate::io::tensor_file::{Pairs, quote, value};
use crate::optim::Value;

/// Puts the value of `key` into its place; refuses a second one.
fn put<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    place: &mut Option<T>,
    map: &mut A,
    key: &str,
) -> Result<(), A::Error> {
    match place.replace(value(map, key)?) {
        None => Ok(()),
        Some(_) => Err(twice(key)),
    }
}

fn twice<E: de::Error>(key: &str) -> E {
    E::custom(format_args!("{} appears twice", quote(key)))
}

fn lacks<E: de::Error>(key: &str) -> E {
    E::custom(format_args!("lacks `{key}`"))
}

/// An object with members of known names. A member without a default is needed; members of other names are passed over.
macro_rules! object {
    ($(#[$doc:meta])* $object:ident { $($name:literal => $field:ident: $type:ty $(= $default:expr)?,)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $object {
            $(pub(super) $field: $type,)*
        }

        impl<'de> Deserialize<'de> for $object {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members;

                impl<'de> Visitor<'de> for Members {
                    type Value = $object;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("an object with" $(, " `", $name, "`")*))
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$object, A::Error> {
                        $(let mut $field: Option<$type> = None;)*
                        while let Some(key) = map.next_key::<String>()? {
                            match key.as_str() {
                                $($name => put(&mut $field, &mut map, $name)?,)*
                                _ => drop(map.next_value::<IgnoredAny>()?),
                            }
                        }
                        Ok($object { $($field: $field $(.or_else(|| Some($default)))?.ok_or_else(|| lacks($name))?,)* })
                    }
                }

                deserializer.deserialize_map(Members)
            }
        }
    };
}

object! {
    /// The version alone: other versions may have other members.
    Version {
        "version" => version: u64,
    }
}

object! {
    /// The metadata beside those of the rules.
    Common {
        "notes" => notes: Notes = Notes(BTreeMap::new()),
    }
}

object! {
    /// The metadata of a file of several rules.
    Rules {
        "rules" => rules: List<Rule>,
    }
}

object! {
    /// The metadata of a rule. In a file of one rule they are members beside the common metadata.
    Rule {
        "optimizer" => optimizer: String,
        "groups" => groups: List<Group>,
        "tensors" => tensors: List<Tensor>,
        "applied" => step_count: u32,
        "skipped" => skipped: u32,
        "streak" => streak: u32,
        "loss_scale_bits" => loss_scale: u32,
        "accumulated" => accumulated: u32 = 0,
        "rounding" => rounding: Option<Rounding> = None,
        "mode" => mode: Option<String> = None,
        "memory_bits" => global_state: List<u32> = List(Vec::new()),
        "probe_loss_bits" => losses: List<u64> = List(Vec::new()),
    }
}

object! {
    /// The settings of a group.
    Group {
        "name" => name: String,
        "settings" => settings: Pairs<Setting>,
    }
}

object! {
    /// A tensor, with the maps of its arrays in eight bits, and the bits of the numbers that are kept once per tensor.
    Tensor {
        "name" => name: String,
        "group" => group: String,
        "maps" => maps: Pairs<String> = Pairs(Vec::new()),
        "progress_bits" => progress: Pairs<u32> = Pairs(Vec::new()),
    }
}

object! {
    /// The key and the count of stochastic rounding.
    Rounding {
        "key" => key: u32,
        "steps" => steps: u32,
    }
}

/// A list that never takes much more memory than its items.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

struct Items<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            lean::push(&mut items, item);
        }
        Ok(List(items))
    }
}

/// The notes of the caller.
#[derive(Debug)]
pub(super) struct Notes(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NotesVisitor)
    }
}

struct NotesVisitor;

impl<'de> Visitor<'de> for NotesVisitor {
    type Value = Notes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names and texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Notes, A::Error> {
        let mut notes = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let text = value(&mut map, &key)?;
            if notes.contains_key(&key) {
                return Err(twice(&key));
            }
            notes.insert(key, text);
        }
        Ok(Notes(notes))
    }
}

/// The value of a setting.
#[derive(Debug)]
pub(super) struct Setting(pub(super) Value);

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
        Ok(Setting(Value::Flag(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Setting, E> {
        Ok(Setting(Value::Number(value as f64)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Setting, E> {
        Ok(Setting(Value::Number(value as f64)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Setting, E> {
        Ok(Setting(Value::Number(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Setting, E> {
        Ok(Setting(Value::Word(value.to_owned())))
    }
}
