//! A login as a creds file holds it: the user's JWT and its seed.

use crate::clock::UnixSeconds;
use crate::keys::SigningKey;
use crate::protocol::claims::UserBody;
use crate::protocol::jwt::{Claims, JwtError};

/// The text of a creds file.
pub(crate) fn creds(
    name: &str,
    (user, seed): (&SigningKey, &str),
    account: &SigningKey,
    body: UserBody,
    now: UnixSeconds,
) -> Result<String, JwtError> {
    let claims = user_claims(&format!("nats-callout-{name}"), user, body, now);
    let token = claims.encode_now(account)?;
    Ok(format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         The seed below proves the identity of the user: keep it secret.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
         *************************************************************\n"
    ))
}

/// What the JWT of a user says.
pub(crate) fn user_claims(
    name: &str,
    user: &SigningKey,
    body: UserBody,
    now: UnixSeconds,
) -> Claims<UserBody> {
    Claims::new(user.public_key(), name, now, body)
}
