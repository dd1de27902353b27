//! The types that a field of a shape can have: how to write, read and check each.

use crate::optim::Value;

/// A type that a field can have.
pub(crate) trait Field: Sized {
    const KIND: &'static str;
    fn print(&self) -> String;
    fn read(text: &str) -> Option<Self>;
    /// The numbers that the range check tests.
    fn numbers(&self) -> Vec<f64>;
}

impl Field for f64 {
    const KIND: &'static str = "a number";
    fn print(&self) -> String {
        Value::Number(*self).to_string()
    }
    fn read(text: &str) -> Option<Self> {
        match text.split_once('/') {
            Some((over, under)) => Some(over.parse::<Self>().ok()? / under.parse::<Self>().ok()?),
            None => text.parse().ok(),
        }
    }
    fn numbers(&self) -> Vec<f64> {
        vec![*self]
    }
}

impl Field for u64 {
    const KIND: &'static str = "a count of steps";
    fn print(&self) -> String {
        self.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn numbers(&self) -> Vec<f64> {
        vec![*self as f64]
    }
}

impl Field for Vec<u64> {
    const KIND: &'static str = "steps with + between them";
    fn print(&self) -> String {
        self.iter().map(u64::to_string).collect::<Vec<_>>().join("+")
    }
    fn read(text: &str) -> Option<Self> {
        text.split('+').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
    }
    fn numbers(&self) -> Vec<f64> {
        self.iter().map(|x| *x as f64).collect()
    }
}

impl Field for bool {
    const KIND: &'static str = "true or false";
    fn print(&self) -> String {
        self.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn numbers(&self) -> Vec<f64> {
        Vec::new()
    }
}
