//! What an error says together with what caused it: the outermost text alone often says no more than
//! that something went wrong.

/// An error that nobody tells apart from others: it is said, and its causes with it.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
