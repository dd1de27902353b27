//! The path of the parameter at which a walk is.

/// Names joined with dots, in one string: a walk over a module allocates nothing for them.
#[derive(Debug, Default)]
pub(crate) struct Path {
    text: String,
    ends: Vec<usize>,
}

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.ends.push(self.text.len());
        if !self.text.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(name);
    }

    pub(crate) fn exit(&mut self) {
        self.text.truncate(self.ends.pop().unwrap_or(0));
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}
