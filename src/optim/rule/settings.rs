//! Settings: every optimizer's hyper-parameters with their names, defaults and ranges in one place.

use std::borrow::Cow;
use std::fmt;

use super::sealed::Sealed;

/// A setting's value as the command line, files and checkpoints carry it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A switch.
    Flag(bool),
    /// One of a few words.
    Word(String),
}

impl Value {
    /// Reads `1e-3`, `true` or a word.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "true" => Self::Flag(true),
            "false" => Self::Flag(false),
            _ => text.parse().map_or_else(|_| Self::Word(text.to_owned()), Self::Number),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(x) if *x != 0.0 && !(1e-3..1e6).contains(&x.abs()) => write!(f, "{x:e}"),
            Self::Number(x) => write!(f, "{x}"),
            Self::Flag(x) => write!(f, "{x}"),
            Self::Word(x) => write!(f, "{x}"),
        }
    }
}

/// Up to here f64 holds every whole number.
const MOST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The numbers a setting accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    least: f64,
    most: f64,
    most_included: bool,
    /// Empty where the bounds say it all.
    text: &'static str,
}

impl Range {
    /// Learning rates, decays, factors.
    pub const NOT_NEGATIVE: Self =
        Self { least: 0.0, most: f32::MAX as f64, most_included: true, text: "a finite number of at least 0" };
    /// Decay rates of moving averages: at 1 the average would never move.
    pub const BELOW_ONE: Self = Self { least: 0.0, most: 1.0, most_included: false, text: "a number in [0, 1)" };
    /// Where something lies between two things, neither of them included.
    pub const BETWEEN: Self = Self { least: 1e-3, most: 1.0, most_included: false, text: "a number in [1e-3, 1)" };
    /// Powers.
    pub const POWER: Self = Self { least: 0.0, most: 10.0, most_included: true, text: "a number in [0, 10]" };
    /// Shares.
    pub const SHARE: Self = Self { least: 0.0, most: 1.0, most_included: true, text: "a number in [0, 1]" };
    /// Shares that a division needs above 0.
    pub const POSITIVE_SHARE: Self =
        Self { least: 1e-30, most: 1.0, most_included: true, text: "a number in [1e-30, 1]" };
    /// Terms that keep a denominator from 0: they must survive rounding to f32 and a flush of subnormals.
    pub const EPSILON: Self =
        Self { least: 1e-30, most: f32::MAX as f64, most_included: true, text: "a finite number of at least 1e-30" };

    /// Sizes and counts.
    pub const COUNT: Self = Self { least: 1.0, most: 1e5, most_included: true, text: "a whole number in [1, 100000]" };
    /// Sizes and counts that may be none.
    pub const COUNT_OR_NONE: Self =
        Self { least: 0.0, most: 1e5, most_included: true, text: "a whole number in [0, 100000]" };
    /// Seeds: what f64 holds exactly, as all values of settings travel as f64.
    pub const SEED: Self =
        Self { least: 0.0, most: MOST_WHOLE, most_included: true, text: "a whole number in [0, 2^53]" };

    /// Any number that f32 holds.
    pub const ANY: Self =
        Self { least: -(f32::MAX as f64), most: f32::MAX as f64, most_included: true, text: "a finite number" };

    /// Numbers of steps, which f32 holds exactly.
    pub const STEPS: Self = Self::between(0.0, 16_777_216.0);
    /// How often S-Adam may probe.
    pub const PROBES: Self = Self::between(1.0, 8.0);
    /// Rows of a block of WarpAdam's matrix.
    pub const BLOCK: Self = Self::between(1.0, 64.0);

    /// Numbers of at least `least`.
    #[must_use]
    pub const fn from(least: f64) -> Self {
        Self { least, most: f32::MAX as f64, most_included: true, text: "" }
    }

    /// Numbers in `[least, most]`.
    #[must_use]
    pub const fn between(least: f64, most: f64) -> Self {
        Self { least, most, most_included: true, text: "" }
    }

    /// Numbers in `[least, most)`.
    #[must_use]
    pub const fn below(least: f64, most: f64) -> Self {
        Self { least, most, most_included: false, text: "" }
    }

    /// Checks a number, or says what it must be.
    #[cfg(feature = "custom")]
    pub(crate) fn check(self, x: f64) -> Result<(), Cow<'static, str>> {
        if self.contains(x) { Ok(()) } else { Err(self.needs()) }
    }

    /// What a number must be.
    fn needs(self) -> Cow<'static, str> {
        if !self.text.is_empty() {
            return self.text.into();
        }
        let end = if self.most_included { ']' } else { ')' };
        let [least, most] = [self.least, self.most].map(Value::Number);
        format!("a number in [{least}, {most}{end}").into()
    }

    fn contains(self, x: f64) -> bool {
        x >= self.least && (x < self.most || (self.most_included && x == self.most))
    }
}

/// A type that a setting can have.
pub(crate) trait Setting: Sized {
    /// The value as it is carried.
    fn value(&self) -> Value;
    /// Takes a carried value, or says what is needed.
    fn from_value(value: &Value) -> Result<Self, Cow<'static, str>>;
    /// Whether it lies in `range`, or what is needed.
    fn check(&self, range: Range) -> Result<(), Cow<'static, str>>;
}

impl Setting for f64 {
    fn value(&self) -> Value {
        Value::Number(*self)
    }
    fn from_value(value: &Value) -> Result<Self, Cow<'static, str>> {
        if let Value::Number(x) = value { Ok(*x) } else { Err("a number".into()) }
    }
    fn check(&self, range: Range) -> Result<(), Cow<'static, str>> {
        if range.contains(*self) { Ok(()) } else { Err(range.needs()) }
    }
}

/// A setting whose default another one decides: the word `mode` leaves it to that.
impl Setting for Option<f64> {
    fn value(&self) -> Value {
        self.map_or_else(|| Value::Word("mode".to_owned()), Value::Number)
    }
    fn from_value(value: &Value) -> Result<Self, Cow<'static, str>> {
        match value {
            Value::Number(x) => Ok(Some(*x)),
            Value::Word(word) if word == "mode" => Ok(None),
            _ => Err("a number, or `mode` for the mode's".into()),
        }
    }
    fn check(&self, range: Range) -> Result<(), Cow<'static, str>> {
        self.map_or(Ok(()), |x| x.check(range))
    }
}

/// Whole numbers travel as [`Value::Number`].
macro_rules! whole {
    ($type:ty) => {
        impl Setting for $type {
            fn value(&self) -> Value {
                Value::Number(*self as f64)
            }
            fn from_value(value: &Value) -> Result<Self, Cow<'static, str>> {
                match value {
                    Value::Number(x) if x.fract() == 0.0 && (0.0..=MOST_WHOLE.min(<$type>::MAX as f64)).contains(x) => {
                        Ok(*x as Self)
                    }
                    _ => Err("a whole number of at least 0".into()),
                }
            }
            fn check(&self, range: Range) -> Result<(), Cow<'static, str>> {
                if range.contains(*self as f64) { Ok(()) } else { Err(range.needs()) }
            }
        }
    };
}
whole!(u32);
#[cfg(feature = "tools")]
whole!(usize);
#[cfg(feature = "tools")]
whole!(u64);

impl Setting for bool {
    fn value(&self) -> Value {
        Value::Flag(*self)
    }
    fn from_value(value: &Value) -> Result<Self, Cow<'static, str>> {
        if let Value::Flag(x) = value { Ok(*x) } else { Err("true or false".into()) }
    }
    fn check(&self, _: Range) -> Result<(), Cow<'static, str>> {
        Ok(())
    }
}

/// What [`settings!`] writes for a configuration.
pub trait Configured: Sealed {
    /// The optimizer's name.
    const NAME: &'static str;
    /// The names of its settings, in order.
    const SETTINGS: &'static [&'static str];
    /// Those that have no default.
    const REQUIRED: &'static [&'static str];
    /// The defaults, with NaN for what has none.
    fn template() -> Self;
    /// All settings with their values.
    fn settings(&self) -> Vec<(&'static str, Value)>;
    /// Sets one by name.
    fn set(&mut self, name: &str, value: &Value) -> crate::Result<()>;
    /// Checks each against its range.
    fn check_ranges(&self) -> crate::Result<()>;
}

/// Declares a configuration: a plain struct with public fields, its defaults, ranges and names.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        $name:ident = $text:literal,
        required { $($(#[$rdoc:meta])* $rfield:ident: $rty:ty, $rrange:ident;)* }
        $($(#[$fdoc:meta])* $field:ident: $ty:ty = $default:expr, $range:ident;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name {
            $($(#[$rdoc])* pub $rfield: $rty,)*
            $($(#[$fdoc])* pub $field: $ty,)*
        }

        impl $name {
            /// The required settings given, the others at their defaults.
            #[must_use]
            pub const fn new($($rfield: $rty),*) -> Self {
                Self { $($rfield,)* $($field: $default,)* }
            }
        }

        impl $crate::optim::rule::sealed::Sealed for $name {}

        impl $crate::optim::rule::settings::Configured for $name {
            const NAME: &'static str = $text;
            const SETTINGS: &'static [&'static str] = &[$(stringify!($rfield),)* $(stringify!($field),)*];
            const REQUIRED: &'static [&'static str] = &[$(stringify!($rfield),)*];

            fn template() -> Self {
                Self::new($(<$rty>::NAN),*)
            }

            fn settings(&self) -> Vec<(&'static str, $crate::optim::Value)> {
                use $crate::optim::rule::settings::Setting;
                vec![
                    $((stringify!($rfield), self.$rfield.value()),)*
                    $((stringify!($field), self.$field.value()),)*
                ]
            }

            fn set(&mut self, name: &str, value: &$crate::optim::Value) -> $crate::Result<()> {
                use $crate::optim::rule::settings::{Setting, refused};
                match name {
                    $(stringify!($rfield) => self.$rfield = <$rty>::from_value(value).map_err(|needs| refused($text, name, value, needs))?,)*
                    $(stringify!($field) => self.$field = <$ty>::from_value(value).map_err(|needs| refused($text, name, value, needs))?,)*
                    _ => return Err($crate::Error::unknown(concat!("setting of ", $text), name, Self::SETTINGS.iter().copied())),
                }
                Ok(())
            }

            fn check_ranges(&self) -> $crate::Result<()> {
                use $crate::optim::rule::settings::{Range, Setting, refused};
                $(self.$rfield.check(Range::$rrange).map_err(|needs| refused($text, stringify!($rfield), &self.$rfield.value(), needs))?;)*
                $(self.$field.check(Range::$range).map_err(|needs| refused($text, stringify!($field), &self.$field.value(), needs))?;)*
                Ok(())
            }
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident = $text:literal,
        $($rest:tt)*
    ) => {
        $crate::optim::rule::settings::settings! { $(#[$doc])* $name = $text, required {} $($rest)* }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}
pub(crate) use settings;

/// A choice among words: declares the enum and makes it a [`Setting`].
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $crate::optim::rule::settings::Setting for $name {
            fn value(&self) -> $crate::optim::Value {
                $crate::optim::Value::Word(match self { $(Self::$variant => $word),* }.to_owned())
            }
            fn from_value(value: &$crate::optim::Value) -> Result<Self, std::borrow::Cow<'static, str>> {
                match value {
                    $($crate::optim::Value::Word(word) if word == $word => Ok(Self::$variant),)*
                    _ => Err(["one of", $($word),*].join(" ").into()),
                }
            }
            fn check(&self, _: $crate::optim::rule::settings::Range) -> Result<(), std::borrow::Cow<'static, str>> {
                Ok(())
            }
        }
    };
}
pub(crate) use choice;

pub(crate) fn refused(optimizer: &str, setting: &str, value: &Value, needs: Cow<'static, str>) -> crate::Error {
    crate::Error::Setting {
        optimizer: optimizer.to_owned(),
        setting: setting.to_owned(),
        value: value.to_string(),
        needs,
    }
}
