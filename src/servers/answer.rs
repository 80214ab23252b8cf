//! What a server's system services answer.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// An answer, with what it is about.
#[derive(Debug, Deserialize)]
pub(crate) struct ServerAnswer<T = IgnoredAny> {
    /// Who says so.
    pub(crate) server: ServerName,
    #[serde(default = "Option::default")]
    pub(crate) data: Option<T>,
    #[serde(default)]
    pub(crate) error: Option<ServerFault>,
}

/// A server's id and name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServerName {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
}

/// Why a server did not do as it was told.
#[derive(Debug, Deserialize)]
pub(crate) struct ServerFault {
    #[serde(default)]
    pub(crate) description: String,
}

impl<T> ServerAnswer<T> {
    pub(crate) fn parse(payload: &[u8]) -> Option<Self>
    where
        T: for<'a> Deserialize<'a>,
    {
        serde_json::from_slice(payload).ok()
    }
}
