//! The servers, as their system account shows them: which there are ([`KnownServers`] by what they announce,
//! [`Cluster`] by asking), one question to all of them or to one ([`Cluster`]), which connections they close, and which of them keep
//! accounts apart ([`versions`]).

mod answer;
mod cluster;
mod departures;
mod heard;
pub(crate) mod varz;
pub(crate) mod versions;

pub(crate) use self::answer::ServerAnswer;
pub(crate) use self::answer::ServerName;
pub(crate) use self::cluster::Answers;
pub(crate) use self::cluster::Cluster;
pub(crate) use self::cluster::ClusterError;
pub(crate) use self::cluster::Unanswered;
pub(crate) use self::departures::Departures;
pub(crate) use self::heard::KnownServers;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_answer(payload: &[u8]) {
    cluster::read_answer(payload);
    let _ = serde_json::from_slice::<ServerAnswer>(payload);
}
