//! What to say of a refusal: the server tells a client one fixed text for all of them.

use crate::authn::{Denied, DenyReason};
use crate::store::TenantId;

/// What exactly is wrong, where the log says it too, and what to do about that. Else what the reason means.
pub(in crate::cli) fn said(denied: &Denied, tenant: &str, user: &str) -> String {
    let Some(detail) = &denied.detail else { return words(denied.reason, tenant, user) };
    let at = denied.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
    match remedy(denied, tenant, user) {
        Some(remedy) => format!("{at}{detail}; {remedy}"),
        None => format!("{at}{detail}"),
    }
}

/// What to do about a flaw that does not say so by itself.
fn remedy(denied: &Denied, tenant: &str, user: &str) -> Option<String> {
    let explain = |more| format!("see `nats-callout policy explain {user}{more}`");
    match denied.reason {
        DenyReason::UnusableHash => {
            Some(format!("make a new password with `nats-callout user passwd {tenant} {user}`"))
        }
        DenyReason::UnknownToken => {
            Some(format!("make one with `nats-callout token add {tenant} {user}`"))
        }
        DenyReason::UnknownUser => {
            Some("see `nats-callout list`, and `show` of a tenant".to_owned())
        }
        DenyReason::Address => Some(explain(" --address ADDRESS")),
        DenyReason::Time => Some(explain(" --at TIME")),
        DenyReason::ConnectionType => Some(explain("")),
        // Of a user without a row `explain` knows nothing.
        DenyReason::Policy if denied.at.is_some() && TenantId::of_login(user).is_none() => {
            Some(explain(""))
        }
        DenyReason::Placement => Some("name one that is, or leave the column empty".to_owned()),
        DenyReason::TooLarge => Some(
            "shorten the user's lists or its policy, or raise max_payload in nats-server.conf"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Why, and what to do about it.
pub(in crate::cli) fn words(reason: DenyReason, tenant: &str, user: &str) -> String {
    match reason {
        DenyReason::UnknownUser => {
            format!("there is no user {user}; see `nats-callout show {tenant}`")
        }
        DenyReason::WrongPassword => format!(
            "the password is not {user}'s; make a new one with `nats-callout user passwd {tenant} \
             {user}`"
        ),
        DenyReason::UnusableHash => format!(
            "no password can be verified against the hash in {user}'s row, which `nats-callout \
             doctor` says more about; make a new password with `nats-callout user passwd {tenant} \
             {user}`"
        ),
        DenyReason::UnknownToken => format!(
            "there is no such token, or it is another user's; make one with `nats-callout token add \
             {tenant} USER`, or get another where this one came from"
        ),
        DenyReason::TokenExpired => "the token has ended; make another".to_owned(),
        DenyReason::InvalidToken => "the token is refused by the rules of its issuer; compare it with \
             [issuers] in the configuration"
            .to_owned(),
        DenyReason::UnknownIssuer => "the JWT's `iss` is no `issuer` of [issuers] in the \
             configuration, letter by letter"
            .to_owned(),
        DenyReason::UserSuspended => {
            format!("{user} is suspended; end it with `nats-callout user resume {tenant} {user}`")
        }
        DenyReason::UserExpired => {
            format!("{user} has ended: users.expires_at lies in the past")
        }
        DenyReason::TenantSuspended => format!(
            "the tenant {tenant} is suspended; end it with `nats-callout tenant resume {tenant}`"
        ),
        DenyReason::TenantExpired => {
            format!("the licence of {tenant} has ended: tenants.expires_at lies in the past")
        }
        // Of a user without a row nobody else knows more.
        DenyReason::Policy if TenantId::of_login(user).is_some() => format!(
            "the policy of {user} refuses it: [issuers] or the tenant's column `policy` names one that \
             does not exist, or it cannot be filled in for this name and these claims"
        ),
        DenyReason::Policy => format!(
            "the policy of {user} refuses it: the column `policy` of the user or the tenant names \
             one that does not exist, or the policy cannot be filled in for this name; see \
             `nats-callout policy explain {user}`"
        ),
        DenyReason::ConnectionType => format!(
            "its policy lets {user} in by other types of connection alone; see `nats-callout policy \
             explain {user}`"
        ),
        DenyReason::Address => format!(
            "its policy lets {user} in from other addresses alone; see `nats-callout policy explain \
             {user} --address ADDRESS`"
        ),
        DenyReason::Time => format!(
            "its policy lets {user} in at other times alone; see `nats-callout policy explain {user} \
             --at TIME`"
        ),
        DenyReason::Placement => format!(
            "no account may be given to {tenant}: the column `account` names none of [placement] that is \
             shared, or dedicated to it"
        ),
        DenyReason::AmbiguousCertificate => "names of the certificate are those of several users, so \
             that it logs in as none; take the column `certificate` from all but one (the log names \
             two)"
            .to_owned(),
        DenyReason::TooLarge => format!(
            "what {user} would be granted is larger than a message to nats-server may be; shorten \
             its lists or its policy, or raise max_payload in nats-server.conf"
        ),
        DenyReason::Connections => {
            format!("{tenant} has as many connections as tenants.max_connections allows")
        }
        DenyReason::UnsupportedCredentials => {
            "it is neither a password nor a token of this service, nor a JWT".to_owned()
        }
        other => other.code().replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::problem::Origin;

    #[test]
    fn the_flaw_comes_with_the_one_remedy_that_belongs_to_it() {
        let denied = |reason: DenyReason, detail: &str| Denied::from(reason).with_detail(detail);
        for (denied, text) in [
            (
                denied(DenyReason::TokenExpired, "issuer kc: `exp` is in the past"),
                "issuer kc: `exp` is in the past",
            ),
            (
                denied(DenyReason::UnknownUser, "issuer kc: there is no tenant 42"),
                "issuer kc: there is no tenant 42; see `nats-callout list`, and `show` of a tenant",
            ),
            (
                denied(DenyReason::Policy, "the row names the policy \"x\"; add its file"),
                "the row names the policy \"x\"; add its file",
            ),
            (
                denied(DenyReason::Address, "it is elsewhere")
                    .with_origin(Origin::Line(PathBuf::from("a.toml"), 3)),
                "a.toml:3: it is elsewhere; see `nats-callout policy explain ann --address ADDRESS`",
            ),
            (DenyReason::TokenExpired.into(), "the token has ended; make another"),
        ] {
            assert_eq!(said(&denied, "shop", "ann"), text);
        }
    }
}
