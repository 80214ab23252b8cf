//! Accounts made on the fly (operator mode): what a tenant's account JWT says ([`account`]), its delivery
//! before the first login is answered ([`delivery`]), the answer to a server that asks for it ([`lookup`]),
//! its end ([`resolver`]), and the way by which BB's requests reach those that answer ([`answers`]).

pub(crate) mod account;
pub(crate) mod answers;
pub(crate) mod delivery;
pub(crate) mod lookup;
pub(crate) mod resolver;
