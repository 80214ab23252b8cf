//! What a server's system services answer.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// An answer, with what it is about.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer<T = IgnoredAny> {
    /// Who says so.
    pub(crate) server: Named,
    #[serde(default = "Option::default")]
    pub(crate) data: Option<T>,
    #[serde(default)]
    pub(crate) error: Option<Fault>,
}

/// A server's id and name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
}

/// Why a server did not do as it was told.
#[derive(Debug, Deserialize)]
pub(crate) struct Fault {
    #[serde(default)]
    pub(crate) description: String,
}

impl<T> Answer<T> {
    pub(crate) fn parse(payload: &[u8]) -> Option<Self>
    where
        T: for<'a> Deserialize<'a>,
    {
        serde_json::from_slice(payload).ok()
    }
}
