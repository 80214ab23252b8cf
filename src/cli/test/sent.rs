//! A login with a credential from stdin, sent as the user of the command would send it.

use super::super::{Context, secret};
use super::hints::hashed_with_end;
use super::owner::{flawed_row, of_this_tenant};
use super::{Attempt, Decided, Refusal, decide};
use crate::authn::DenyReason;
use crate::protocol::credentials::{Credentials, Secret};
use crate::store::TenantId;

/// A password, or what stands in the place of one.
pub(super) async fn by_password(
    context: &Context,
    id: &TenantId,
    user: &str,
) -> anyhow::Result<()> {
    let (password, end) = secret::credential_from_stdin()?;
    let sent =
        |text: String| Credentials::Password { user: user.to_owned(), password: Secret::new(text) };
    let credentials = sent(password.to_string());
    let decided = decide(context, &credentials).await?;
    of_this_tenant(context, id, Some(user), &decided, "--password-stdin").await?;
    let attempt = Attempt::of(context, id, Some(user), &decided);
    let is_wrong = decided.as_ref().is_err_and(|it| it.denied.reason == DenyReason::WrongPassword);
    if is_wrong && !end.is_empty() {
        let with_end = sent(format!("{}{end}", &*password));
        if decide(context, &with_end).await?.is_ok() {
            return attempt
                .refused_with(DenyReason::WrongPassword.code(), &hashed_with_end(id, user));
        }
    }
    attempt.conclude(&credentials, &decided).await
}

/// A token, beside the user's name where the command has one.
pub(super) async fn by_token(
    context: &Context,
    id: &TenantId,
    named: Option<&str>,
) -> anyhow::Result<()> {
    let (token, _) = secret::credential_from_stdin()?;
    let sent = Secret::new(token.to_string());
    let credentials = Credentials::token(named.map(str::to_owned), sent);
    let decided = decide(context, &credentials).await;
    if is_unknown(&decided)
        && let Some((user, what)) = flawed_row(context, &token).await?
    {
        let refused = Err(DenyReason::UnknownToken.into());
        of_this_tenant(context, id, Some(&user), &refused, "--token-stdin").await?;
        return Attempt::of(context, id, Some(&user), &refused)
            .refused_with(DenyReason::UnknownToken.code(), &what);
    }
    let decided = decided?;
    of_this_tenant(context, id, named, &decided, "--token-stdin").await?;
    let attempt = Attempt::of(context, id, named, &decided);
    attempt.conclude(&credentials, &decided).await
}

/// Whether nobody knows it, or nobody says.
fn is_unknown(decided: &anyhow::Result<Decided>) -> bool {
    match decided {
        Ok(Ok(_)) => false,
        Ok(Err(Refusal { denied, .. })) => {
            matches!(denied.reason, DenyReason::UnknownToken | DenyReason::UnknownIssuer)
        }
        Err(_) => true,
    }
}
