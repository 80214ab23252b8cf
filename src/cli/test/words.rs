//! What to say of a refusal: the server tells a client one fixed text for all of them.

use super::super::init::shell_quote;
use super::super::output::name;
use crate::authn::jwt::NEARLY_JWT;
use crate::authn::token::OF_ANOTHER;
use crate::authn::{Claims, Denied, DenyReason};
use crate::store::TenantId;

/// Which command says it: one leads to another, and none back or to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Teller<'a> {
    /// `test`, of a login with these claims.
    Test(&'a Claims),
    /// `policy explain`.
    Explain,
}

impl Teller<'_> {
    /// What looks closer at a policy's line about the client, told with this option.
    fn closer(self, user: &str, option: &str) -> Option<String> {
        match self {
            Self::Explain if option.is_empty() => None,
            Self::Explain => Some(format!("assume another with {option}")),
            // Of a user without a row `explain` knows nothing.
            Self::Test(_) if TenantId::of_login(user).is_some() => None,
            Self::Test(claims) => {
                let option = if option.is_empty() { String::new() } else { format!(" {option}") };
                let all = claims
                    .iter()
                    .flat_map(|(name, values)| values.iter().map(move |it| (name, it)));
                let claims: String = all
                    .map(|(name, value)| {
                        format!(" --claim {}", shell_quote(&format!("{name}={value}")))
                    })
                    .collect();
                let user = shell_quote(user);
                Some(format!("see `nats-callout policy explain {user}{option}{claims}`"))
            }
        }
    }
}

/// What exactly is wrong, as the log says it, and what to do about that. Else what the reason means.
pub(in crate::cli) fn said(
    denied: &Denied,
    tenant: &str,
    user: &str,
    teller: Teller<'_>,
) -> String {
    let at = denied.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
    let meaning = || words(denied.reason, tenant, user);
    let what = denied.detail.clone().unwrap_or_else(meaning);
    match remedy(denied, tenant, user, teller) {
        Some(remedy) => format!("{at}{what}; {remedy}"),
        None => format!("{at}{what}"),
    }
}

/// What to do about a flaw that does not say so by itself.
fn remedy(denied: &Denied, tenant: &str, user: &str, teller: Teller<'_>) -> Option<String> {
    match denied.reason {
        DenyReason::Address => teller.closer(user, "--address ADDRESS"),
        DenyReason::Time => teller.closer(user, "--at TIME"),
        DenyReason::ConnectionType => teller.closer(user, "--connection-type TYPE"),
        DenyReason::Policy if denied.at.is_some() => teller.closer(user, ""),
        // What the reason means says it, or the detail.
        _ if denied.detail.is_none() || denied.detail.as_deref() == Some(NEARLY_JWT) => None,
        DenyReason::UnusableHash | DenyReason::WrongPassword => {
            let user = shell_quote(user);
            Some(format!("make a new password with `nats-callout user passwd {tenant} {user}`"))
        }
        DenyReason::UnknownToken if denied.detail.as_deref()?.starts_with(OF_ANOTHER) => {
            Some("leave the user out, or name that one".to_owned())
        }
        DenyReason::UnknownUser => {
            Some("see `nats-callout list`, and `show` of a tenant".to_owned())
        }
        DenyReason::Placement => Some("name one that is, or leave the column empty".to_owned()),
        _ => None,
    }
}

/// Why, and what to do about it.
fn words(reason: DenyReason, tenant: &str, user: &str) -> String {
    let (user, word) = (&*name(user), &*shell_quote(user));
    match reason {
        DenyReason::UnknownUser => {
            format!("there is no user {user}; see `nats-callout show {tenant}`")
        }
        DenyReason::WrongPassword => format!(
            "the password is not {user}'s; make a new one with `nats-callout user passwd {tenant} \
             {word}`"
        ),
        DenyReason::UnusableHash => format!(
            "no password can be verified against the hash in {user}'s row, which `nats-callout \
             doctor` says more about; make a new password with `nats-callout user passwd {tenant} \
             {word}`"
        ),
        DenyReason::UnknownToken => format!(
            "there is no such token, or it is another user's, or token_hash holds its text in place of its \
             SHA-256; make one with `nats-callout token add \
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
            format!("{user} is suspended; end it with `nats-callout user resume {tenant} {word}`")
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
        DenyReason::Policy => format!(
            "the policy of {user} refuses it: the one that its row, its tenant or its issuer names does not \
             exist, or cannot be filled in for this name and these claims"
        ),
        DenyReason::ConnectionType => {
            format!("its policy lets {user} in by other types of connection alone")
        }
        DenyReason::Address => format!("its policy lets {user} in from other addresses alone"),
        DenyReason::Time => format!("its policy lets {user} in at other times alone"),
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

    use strum::IntoEnumIterator as _;

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
            (
                denied(DenyReason::WrongPassword, "the user's row has no password"),
                "the user's row has no password; make a new password with `nats-callout user passwd \
                 shop ann`",
            ),
            (DenyReason::TokenExpired.into(), "the token has ended; make another"),
        ] {
            assert_eq!(said(&denied, "shop", "ann", Teller::Test(&Claims::new())), text);
        }
    }

    /// `test` may lead to `policy explain`, of users that this knows; it leads to neither.
    #[test]
    fn one_command_leads_to_the_other_and_none_back() {
        let line = || Origin::Line(PathBuf::from("a.toml"), 3);
        let mut led = 0;
        for reason in DenyReason::iter() {
            let bare = Denied::from(reason);
            let detailed = bare.clone().with_detail("it is so");
            for denied in [&bare, &detailed, &detailed.clone().with_origin(line())] {
                let text = said(denied, "shop", "ann", Teller::Explain);
                let leads = |to: &str| text.contains(&format!("`nats-callout {to}"));
                assert!(!leads("policy explain") && !leads("test"), "{reason:?}: {text}");
                let guest = said(denied, "shop", "shop/ann", Teller::Test(&Claims::new()));
                assert!(!guest.contains("policy explain"), "{reason:?}: {guest}");
                let text = said(denied, "shop", "ann", Teller::Test(&Claims::new()));
                led += usize::from(text.contains("`nats-callout policy explain ann"));
                assert!(!text.contains("`nats-callout test"), "{reason:?}: {text}");
            }
        }
        assert_eq!(
            led, 10,
            "of the address, the time and the type of connection, and of a policy's line"
        );
    }
}
