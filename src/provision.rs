//! What servers are told, and what they are asked to stop. Accounts made on the fly (operator
//! mode): what a tenant's account JWT says ([`account`]), the servers that have to know it
//! ([`servers`]), its delivery before the first login is answered ([`delivery`]), the answer to a
//! server that asks for it ([`lookup`]), and its end ([`resolver`]). Changes (both modes): what
//! they mean for whom ([`revoke`]), and the connections that they close ([`connections`]).

pub mod account;
pub mod connections;
pub mod delivery;
pub mod lookup;
pub mod resolver;
pub mod revoke;
pub mod servers;
