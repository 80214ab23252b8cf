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

    /// The names, and how many more there are.
    pub(super) fn names(&self) -> String {
        let left = self.count - self.examples.len();
        let more = if left > 0 { format!(", and {left} more") } else { String::new() };
        format!("{}{more}", self.examples.join(", "))
    }
}
