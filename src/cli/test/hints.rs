//! What can be said of a login that nobody decides: the reason lies before, or elsewhere.

use anyhow::anyhow;
use async_nats::{ConnectError, ConnectErrorKind};

use super::super::Context;
use super::super::init::shell_quote;
use super::super::output::name;
use super::session;
use crate::authn::AuthnError;
use crate::authn::jwt::KeyLocation;
use crate::protocol::credentials::{CONTROL_LINE, Credentials, fitting};
use crate::store::TenantId;

/// An issuer is out of this machine's reach, or the file of its keys is of no use. The service may reach it, or
/// have its keys, and what it makes of the token can be seen.
pub(super) async fn undecided(
    context: &Context,
    credentials: &Credentials,
    fault: &AuthnError,
) -> anyhow::Error {
    let prefix = "_INBOX".to_owned();
    let (connected, _) = session::login(context.admin.config(), credentials, prefix).await;
    let issuers = &context.admin.config().issuers;
    let is_file = matches!(fault, AuthnError::Keys { issuer, .. } if issuers
        .iter()
        .any(|it| it.name == *issuer && matches!(it.keys, KeyLocation::File(_))));
    let (who, remedy) = match is_file {
        true => ("the service, which has read the file for itself,", "; mend the file"),
        false => (
            "the service, which asks for itself,",
            ". Where the service runs on another machine, run this command there",
        ),
    };
    let service = match connected {
        Ok(_) => format!("{who} lets the token in"),
        Err(error) if error.kind() == ConnectErrorKind::AuthorizationViolation => {
            format!("{who} does not let it in either; its log says why")
        }
        Err(_) => {
            "what the service makes of it cannot be seen, as NATS cannot be reached from here"
                .to_owned()
        }
    };
    anyhow!(
        "what the token may do could not be worked out on this machine: {fault}; {service}{remedy}"
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
        "the hash in {}'s row was made of this password and the line break behind it, so that it counts with \
         the line break alone; make a new one with `nats-callout user passwd {tenant} {}`",
        name(user),
        shell_quote(user)
    )
}
