//! Accounts made on the fly (operator mode): what a tenant's account JWT says ([`account`]), the
//! servers that have to know it ([`servers`]), its delivery before the first login is answered
//! ([`delivery`]), the answer to a server that asks for it ([`lookup`]), and the way by which BB's
//! requests reach those that answer ([`answers`]). In both modes, the streams of BB ([`streams`]).

pub mod account;
pub mod answers;
pub mod delivery;
pub mod lookup;
pub mod servers;
pub mod streams;
