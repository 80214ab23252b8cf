//! The nearest of the names there are to one that was misspelt.

/// The candidate that `name` was most likely meant to be, if any is near.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_key_or_none() {
        let keys = ["url", "connections", "credentials"];
        assert_eq!(nearest("conections", keys), Some("connections"));
        assert_eq!(nearest("urll", keys), Some("url"));
        assert_eq!(nearest("banana", keys), None);
    }
}
