//! Settings of rules as an object of JavaScript: numbers, flags and words by name.

use js_sys::{Array, Object};
use wasm_bindgen::{JsCast as _, JsValue};
use wgpu_optim::optim::{self, Value};
use wgpu_optim::{Error, Result, Rule};

/// The settings of an object, in its order.
pub(crate) fn read(object: &Object) -> Result<Vec<(String, Value)>> {
    let one = |entry: JsValue| {
        let entry: Array = entry.unchecked_into();
        let name = entry.get(0).as_string().unwrap_or_default();
        let given = entry.get(1);
        let value = if let Some(number) = given.as_f64() {
            Value::Number(number)
        } else if let Some(flag) = given.as_bool() {
            Value::Flag(flag)
        } else if let Some(word) = given.as_string() {
            Value::Word(word)
        } else {
            let given = format!("{given:?}");
            return Err(Error::Usage(format!("setting `{name}` is {given}, needs a number, a boolean or a word")));
        };
        Ok((name, value))
    };
    Object::entries(object).iter().map(one).collect()
}

/// The rule of this name with these settings.
pub(crate) fn rule(name: &str, settings: &Object) -> Result<Box<dyn Rule>> {
    let settings = read(settings)?;
    optim::find(name)?.configure(settings.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

/// The rule with some settings changed.
pub(crate) fn changed(rule: &dyn Rule, settings: &Object) -> Result<Box<dyn Rule>> {
    let mut changed = rule.boxed();
    for (name, value) in read(settings)? {
        changed.set(&name, &value)?;
    }
    changed.check()?;
    Ok(changed)
}

/// The settings as an object.
pub(crate) fn write(rule: &dyn Rule) -> Object {
    let object = Object::new();
    for (name, value) in rule.settings() {
        // A plain object takes any property.
        let _ = js_sys::Reflect::set(&object, &JsValue::from_str(name), &self::value(&value));
    }
    object
}

/// A value of a setting: a number, a boolean or a word.
pub(crate) fn value(value: &Value) -> JsValue {
    match value {
        Value::Number(number) => JsValue::from_f64(*number),
        Value::Flag(flag) => JsValue::from_bool(*flag),
        Value::Word(word) => JsValue::from_str(word),
    }
}
