//! A value as it was written, with its place.

use std::str::FromStr;

use toml::de::DeValue;

use crate::problem::Origin;

#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) value: DeValue<'a>,
    pub(super) origin: Origin,
}

impl Entry<'_> {
    /// The texts that it is or lists.
    pub(super) fn texts(&self) -> Vec<&str> {
        match &self.value {
            DeValue::String(text) => vec![text.trim()],
            DeValue::Array(values) => {
                values.iter().filter_map(|it| it.get_ref().as_str()).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn is_of_env(&self) -> bool {
        matches!(self.origin, Origin::Env(_))
    }

    /// What the environment has as text, and the file as it is.
    pub(super) fn typed<T: FromStr>(
        &self,
        typed: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Result<T, &'static str> {
        let value = match &self.value {
            DeValue::String(text) if self.is_of_env() => text.trim().parse().ok(),
            value => typed(value),
        };
        value.ok_or_else(|| kind(&self.value))
    }
}

pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) if whole(value).is_none() => "a number out of range",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn string(value: &DeValue<'_>) -> Result<String, &'static str> {
    value.as_str().map(str::to_owned).ok_or_else(|| kind(value))
}

pub(super) fn whole(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
