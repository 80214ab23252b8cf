//! Accounts made on the fly (operator mode): what a tenant's account JWT says ([`account`]), the
//! servers that have to know it ([`servers`]), its delivery before the first login is answered
//! ([`delivery`]), and the answer to a server that asks for it ([`lookup`]).

pub mod account;
pub mod delivery;
pub mod lookup;
pub mod servers;
pub mod streams;
