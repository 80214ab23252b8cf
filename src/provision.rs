//! What servers are told, and what they are asked to stop. Accounts made on the fly (operator
//! mode): what a tenant's account JWT says ([`account`]), the servers that have to know it
//! ([`servers`]), its delivery before the first login is answered ([`delivery`]), the answer to a
//! server that asks for it ([`lookup`]), its end ([`resolver`]), and the way by which BB's requests
//! reach those that answer ([`answers`]). In both modes: what changes mean to those who are
//! connected ([`revoke`]), the connections that they close ([`connections`]), who else is in an
//! account ([`occupants`]), the streams of BB ([`streams`]), and which servers keep accounts apart
//! ([`versions`]).

pub mod account;
pub mod answers;
pub mod connections;
pub mod delivery;
pub mod lookup;
pub mod occupants;
pub mod resolver;
pub mod revoke;
pub mod servers;
pub mod streams;
pub mod versions;

/// Reads what a server or another holder of the system account may have answered, as every reader
/// of answers would.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_answer(payload: &[u8]) {
    connections::read_answer(payload);
    answers::read_answer(payload);
    let _ = servers::SystemReply::parse(payload);
}
