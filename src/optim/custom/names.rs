//! Names of rules, settings and members as `&'static str`. The process keeps each distinct name once, until it ends; a name has at most
//! [`MAX_NAME`] bytes, and a second construction of the same rule keeps nothing more.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The most bytes of a name.
pub(super) const MAX_NAME: usize = 64;

static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

/// The kept copy of a name, or the form that a name must have.
pub(super) fn intern(name: &str) -> Result<&'static str, String> {
    let starts = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let continues = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !starts || !continues || name.len() > MAX_NAME || name.starts_with("wo_") {
        let shown: String = name.chars().take(MAX_NAME).flat_map(char::escape_debug).collect();
        return Err(format!(
            "`{shown}` is not a name: a name needs 1 to {MAX_NAME} letters, digits, `_` and `-`, a letter first, and no `wo_` at the start"
        ));
    }
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = names.get(name) {
        return Ok(kept);
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    Ok(kept)
}
