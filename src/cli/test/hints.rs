//! What can be said of a login that nobody decides: the reason lies before, or elsewhere.

use anyhow::anyhow;
use async_nats::{ConnectError, ConnectErrorKind};

use super::super::Context;
use super::session;
use crate::authn::AuthnError;
use crate::authn::jwt::is_jwt;
use crate::protocol::credentials::{CONTROL_LINE, Credentials, fitting};
use crate::store::TenantId;

/// The keys of an issuer are out of this machine's reach. The service's own may be at hand, and what it makes
/// of the JWT can be seen.
pub(super) async fn undecided(
    context: &Context,
    credentials: &Credentials,
    fault: &AuthnError,
) -> anyhow::Error {
    let prefix = "_INBOX".to_owned();
    let (connected, _) = session::login(context.admin.config(), credentials, prefix).await;
    let service = match connected {
        Ok(_) => "the service lets the JWT in",
        Err(error) if error.kind() == ConnectErrorKind::AuthorizationViolation => {
            "the JWT is not let in there, and the service's log says why"
        }
        Err(_) => "NATS cannot be reached from here either",
    };
    anyhow!(
        "what the JWT may do could not be worked out on this machine: {fault}. That says nothing of the \
         service, which has keys of its own: {service}. Run this command where the service runs"
    )
}

/// What may be wrong with a login that has come to nothing before anybody decided, if its credential is long.
pub(super) fn too_long(credentials: &Credentials, error: &ConnectError) -> Option<String> {
    let (Credentials::Token { token: sent, .. } | Credentials::Password { password: sent, .. }) =
        credentials
    else {
        return None;
    };
    let is_decided = matches!(error.kind(), ConnectErrorKind::AuthorizationViolation);
    let (length, longest) = (sent.expose().len(), fitting(CONTROL_LINE));
    (!is_decided && length > longest).then(|| {
        format!(
            "the credential has {length} bytes, and a server that reads {CONTROL_LINE} bytes of a CONNECT \
             takes one of about {longest}; raise max_control_line in nats-server.conf"
        )
    })
}

/// The hash in the row is that of the line with its end, which is the password then.
pub(super) fn hashed_with_end(tenant: &TenantId, user: &str) -> String {
    format!(
        "the hash in {user}'s row was made of this password and the line break behind it, so that it counts with \
         the line break alone; make a new one with `nats-callout user passwd {tenant} {user}`"
    )
}

/// Whether a text was meant as a JWT: what it begins with, behind quotes and a `Bearer`, is a JWT's first letters.
pub(super) fn is_broken_jwt(text: &str) -> bool {
    let begun = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let begun = begun.strip_prefix("Bearer ").unwrap_or(begun);
    begun.starts_with("eyJ") && !is_jwt(text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_as_a_jwt() {
        const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln";
        assert!(!is_broken_jwt(JWT) && !is_broken_jwt(&format!("{JWT}\n")));
        for broken in [" JWT", "\"JWT\"", "Bearer JWT", "JWT.more", "'Bearer JWT'"] {
            assert!(is_broken_jwt(&broken.replace("JWT", JWT)), "{broken}");
        }
        assert!(is_broken_jwt("eyJhbGciOiJIUzI1NiJ9") && !is_broken_jwt("hunter2"));
    }
}
