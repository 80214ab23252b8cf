//! Rows of a table that may be many: how many there are, and some of them by their names.

/// Of so many the name is said.
const EXAMPLES: usize = 3;

/// Some rows, of which a few are named.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) count: usize,
    examples: Vec<String>,
}

impl Named {
    pub(super) fn add(&mut self, said: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(said());
        }
    }

    /// The names, and that there are more.
    pub(super) fn names(&self) -> String {
        let more = if self.count > self.examples.len() { ", ..." } else { "" };
        format!("{}{more}", self.examples.join(", "))
    }
}
