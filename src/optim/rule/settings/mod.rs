//! Settings: every optimizer's hyper-parameters with their names, defaults and ranges in one place. The tools' problems declare their
//! settings in the same way.

mod range;
mod value;

pub use range::Range;
pub(crate) use range::within_f32;
pub use value::Value;

use std::borrow::Cow;

use super::sealed::Sealed;
use range::MOST_WHOLE;

/// A type that a setting can have.
pub(crate) trait Setting: Sized {
    /// The value as a [`Value`].
    fn value(&self) -> Value;
    /// The setting from a [`Value`], or the text of the accepted values.
    fn from_value(value: &Value) -> Result<Self, Cow<'static, str>>;
}

/// A setting that is a number and has a range.
pub(crate) trait Ranged: Setting {
    /// The text of the accepted values in `range`.
    fn accepts(range: Range) -> Cow<'static, str>;
    /// Checks that the number lies in `range`; the error is the text of the accepted values.
    fn check(&self, range: Range) -> Result<(), Cow<'static, str>>;
}

/// A setting without a range, such as a flag or a word: all of its values are accepted.
pub(crate) trait Choice: Setting {
    /// The text of the accepted values.
    fn accepts() -> Cow<'static, str>;
}

impl Setting for f64 {
    fn value(&self) -> Value {
        Value::Number(*self)
    }
    fn from_value(value: &Value) -> Result<Self, Cow<'static, str>> {
        if let Value::Number(x) = value { Ok(*x) } else { Err("a number".into()) }
    }
}

impl Ranged for f64 {
    fn accepts(range: Range) -> Cow<'static, str> {
        range.needs()
    }
    fn check(&self, range: Range) -> Result<(), Cow<'static, str>> {
        range.check(*self)
    }
}

/// A setting with a default that another setting decides: the word `mode` stands for that default.
impl Setting for Option<f64> {
    fn value(&self) -> Value {
        self.map_or_else(|| Value::Word("mode".to_owned()), Value::Number)
    }
    fn from_value(value: &Value) -> Result<Self, Cow<'static, str>> {
        match value {
            Value::Number(x) => Ok(Some(*x)),
            Value::Word(word) if word == "mode" => Ok(None),
            _ => Err("a number, or `mode` for the default of the mode".into()),
        }
    }
}

impl Ranged for Option<f64> {
    fn accepts(range: Range) -> Cow<'static, str> {
        format!("{}, or `mode` for the default of the mode", range.needs()).into()
    }
    fn check(&self, range: Range) -> Result<(), Cow<'static, str>> {
        self.map_or(Ok(()), |x| x.check(range))
    }
}

/// A [`Value::Number`] carries whole numbers too.
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
        }

        impl Ranged for $type {
            fn accepts(range: Range) -> Cow<'static, str> {
                range.needs_whole()
            }
            fn check(&self, range: Range) -> Result<(), Cow<'static, str>> {
                if range.contains(*self as f64) { Ok(()) } else { Err(range.needs_whole()) }
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
        if let Value::Flag(x) = value { Ok(*x) } else { Err(Self::accepts()) }
    }
}

impl Choice for bool {
    fn accepts() -> Cow<'static, str> {
        "true or false".into()
    }
}

/// The trait that [`settings!`] implements for a configuration.
pub trait Configured: Sealed {
    /// The optimizer's name.
    const NAME: &'static str;
    /// The names of its settings, in order.
    const SETTINGS: &'static [&'static str];
    /// The names of the settings without a default.
    const REQUIRED: &'static [&'static str];
    /// The defaults, with NaN for the settings without a default.
    fn template() -> Self;
    /// All settings with their values.
    fn settings(&self) -> Vec<(&'static str, Value)>;
    /// Sets a setting by name.
    fn set(&mut self, name: &str, value: &Value) -> crate::Result<()>;
    /// The text of the accepted values of each setting, in the order of [`SETTINGS`](Self::SETTINGS).
    fn accepts() -> Vec<Cow<'static, str>>;
    /// Checks each setting against its range.
    fn check_ranges(&self) -> crate::Result<()>;
}

/// The text of the accepted values of a setting: a number has a range, a flag or a word has none.
macro_rules! accepts {
    ($type:ty) => {
        <$type as $crate::optim::rule::settings::Choice>::accepts()
    };
    ($type:ty, $range:ident) => {
        <$type as $crate::optim::rule::settings::Ranged>::accepts($crate::optim::rule::settings::Range::$range)
    };
}
pub(crate) use accepts;

/// Declares a configuration: a plain struct with public fields, its defaults, ranges and names. A number has a range; a flag or a word
/// has none.
macro_rules! settings {
    (@check $text:literal, $self:ident.$field:ident: $ty:ty) => {};
    (@check $text:literal, $self:ident.$field:ident: $ty:ty, $range:ident) => {{
        use $crate::optim::rule::settings::{Range, Ranged, Setting, refused};
        <$ty as Ranged>::check(&$self.$field, Range::$range)
            .map_err(|needs| refused($text, stringify!($field), &$self.$field.value(), needs))?;
    }};
    (
        $(#[$doc:meta])*
        $name:ident = $text:literal,
        required { $($(#[$rdoc:meta])* $rfield:ident: $rty:ty, $rrange:ident;)* }
        $($(#[$fdoc:meta])* $field:ident: $ty:ty = $default:expr $(, $range:ident)?;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name {
            $($(#[$rdoc])* pub $rfield: $rty,)*
            $($(#[$fdoc])* pub $field: $ty,)*
        }

        impl $name {
            /// A configuration with these required settings; the other settings have their defaults.
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

            fn accepts() -> Vec<std::borrow::Cow<'static, str>> {
                use $crate::optim::rule::settings::accepts;
                vec![$(accepts!($rty, $rrange),)* $(accepts!($ty $(, $range)?),)*]
            }

            fn check_ranges(&self) -> $crate::Result<()> {
                $($crate::optim::rule::settings::settings!(@check $text, self.$rfield: $rty, $rrange);)*
                $($crate::optim::rule::settings::settings!(@check $text, self.$field: $ty $(, $range)?);)*
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
                    _ => Err(<Self as $crate::optim::rule::settings::Choice>::accepts()),
                }
            }
        }

        impl $crate::optim::rule::settings::Choice for $name {
            fn accepts() -> std::borrow::Cow<'static, str> {
                ["one of", $($word),*].join(" ").into()
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
