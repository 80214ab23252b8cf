//! What a configuration names, opened: the service's own logins, its keys and their generations, where
//! tenants live and who signs their accounts; and which accounts there are from the start. The service
//! and those who work on a deployment have it from here.

mod accounts;
pub(crate) mod creds;
pub(crate) mod key_role;
mod login;
pub(crate) mod policies;
pub(crate) mod topology;

pub(crate) use self::accounts::{
    account_issuer, account_issuer_of, isolation_of, places, reserved, targets,
};
pub use self::key_role::KeyRole;
pub(crate) use self::login::LoginError;
pub(crate) use self::login::{Login, connect_failure, round_trip, was_only_asked, with_tls};
