//! [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md)
//! in structured JSON.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::store::{OMITTED, OutboxEvent};

/// The content type of an event.
pub(crate) const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The version of what `data` holds: members are added to it, never changed.
const SCHEMA: &str = "1.0";

/// An event, but for its source.
#[derive(Debug)]
pub struct CloudEvent {
    /// Unique, by which consumers and the stream know a repetition.
    pub id: String,
    /// What happened, and the subject it is published to: `auth.user.created` say.
    pub kind: String,
    /// When (RFC 3339).
    pub time: String,
    /// What it is about: a tenant's id, a user's name.
    pub subject: Option<String>,
    /// The tenant's id, where it is known.
    pub tenant: Option<String>,
    /// A JSON object.
    pub data: Box<RawValue>,
}

/// The members in the order in which people read them.
#[derive(Serialize)]
struct Structured<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    // An extension's name is lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    organizationid: Option<&'a str>,
    schemaversion: &'static str,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

impl From<OutboxEvent> for CloudEvent {
    fn from(event: OutboxEvent) -> Self {
        let OutboxEvent { id, kind, tenant, subject, time, data } = event;
        Self { id, kind, time, subject: Some(subject), tenant: Some(tenant), data }
    }
}

impl CloudEvent {
    /// The event as JSON of at most `limit` bytes, without its data where these do not fit.
    pub fn encode(&self, source: &str, limit: usize) -> Result<Bytes, serde_json::Error> {
        let whole = self.encode_with(source, &self.data)?;
        if whole.len() <= limit {
            return Ok(whole.into());
        }
        let omitted: &RawValue = serde_json::from_str(OMITTED)?;
        Ok(self.encode_with(source, omitted)?.into())
    }

    fn encode_with(&self, source: &str, data: &RawValue) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Structured {
            specversion: "1.0",
            id: &self.id,
            source,
            r#type: &self.kind,
            time: &self.time,
            subject: self.subject.as_deref(),
            organizationid: self.tenant.as_deref(),
            schemaversion: SCHEMA,
            datacontenttype: "application/json",
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> CloudEvent {
        CloudEvent {
            id: "1".to_owned(),
            kind: "auth.user.created".to_owned(),
            time: "2027-01-01T00:00:00.000Z".to_owned(),
            subject: Some("Zoë \"Z\"".to_owned()),
            tenant: None,
            data: RawValue::from_string(data.to_owned()).unwrap(),
        }
    }

    #[test]
    fn structured_json() {
        let encoded = event(r#"{"name":"x"}"#).encode("/here", 1_000).unwrap();
        assert_eq!(
            std::str::from_utf8(&encoded).unwrap(),
            "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/here\",\
             \"type\":\"auth.user.created\",\"time\":\"2027-01-01T00:00:00.000Z\",\
             \"subject\":\"Zoë \\\"Z\\\"\",\"schemaversion\":\"1.0\",\
             \"datacontenttype\":\"application/json\",\"data\":{\"name\":\"x\"}}"
        );
    }

    #[test]
    fn data_that_do_not_fit_are_left_out() {
        let long = format!("{{\"publish\":[\"{}\"]}}", "x".repeat(1_000));
        let encoded = event(&long).encode("/here", 1_000).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&encoded).unwrap();
        assert_eq!(read["data"], serde_json::json!({ "omitted": true }));
        assert_eq!(read["id"], "1");
    }
}
