//! Who logs in: users of a file, or temporary ones, which are removed again.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::database::explain;
use super::super::output::note;
use super::super::{Context, Usage, init};
use super::Kind;
use super::login;
use crate::admin::Password;
use crate::admin::temporary::{TENANT_ID, TENANT_NAME};
use crate::authn::token::Token;
use crate::clock::UnixSeconds;
use crate::store::{Isolation, Limits, NewTenant, NewToken, NewUser, TenantId, UserKind};

/// The ready-made requests of all users.
pub(super) type Requests = Vec<Box<[u8]>>;

/// Temporary users whose tenant outlives a bench that was killed by this much at most.
const LEFT_BEHIND: Duration = Duration::from_secs(3_600);

/// Reads `user:password` (or `user,password`) or tokens, one a line; `-` is stdin.
pub(super) fn read(file: &Path, kind: Kind) -> anyhow::Result<Requests> {
    let mut text = Zeroizing::new(String::new());
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read the users from stdin")?;
    } else {
        *text = std::fs::read_to_string(file).map_err(|error| {
            Usage(format!("cannot read the users from {}: {error}", file.display()))
        })?;
    }
    parse(&text, kind).map_err(|what| Usage(format!("{}: {what}", file.display())).into())
}

fn parse(text: &str, kind: Kind) -> Result<Requests, String> {
    let mut requests = Requests::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end_matches('\r');
        if line.is_empty() || line.starts_with('#') || line == "user,password" {
            continue;
        }
        let credentials = match kind {
            Kind::Token => json!({ "auth_token": line }),
            Kind::Password => match line.split_once([':', ',']) {
                Some((user, password)) if !user.is_empty() => {
                    json!({ "user": user, "pass": password })
                }
                _ => return Err(format!("line {number} is not USER:PASSWORD")),
            },
        };
        requests.push(login::request(&credentials));
    }
    if requests.is_empty() {
        return Err("no users; write one a line, as USER:PASSWORD or as a token".to_owned());
    }
    Ok(requests)
}

/// A tenant that is there for one run.
pub(super) struct Temporary {
    tenant: TenantId,
    /// When it ends by itself, and its tokens with it.
    ends: Option<UnixSeconds>,
}

impl Temporary {
    /// Makes the tenant; nobody can log in yet.
    pub(super) async fn make(
        context: &Context,
        isolation: Option<Isolation>,
        run: Duration,
    ) -> anyhow::Result<Self> {
        let id = format!("{TENANT_ID}{}", init::random_name()?);
        let seconds = i64::try_from((run + LEFT_BEHIND).as_secs()).unwrap_or(i64::MAX);
        let new = NewTenant {
            id: id.parse()?,
            name: TENANT_NAME.to_owned(),
            isolation,
            policy: None,
            limits: Limits::default(),
            answers: false,
            expires_at: Some(context.admin.now().saturating_add(seconds)),
        };
        context.admin.insert_tenant(&new, &Password::generate()?).await.map_err(explain)?;
        Ok(Self { ends: new.expires_at, tenant: new.id })
    }

    /// Adds so many users, each with a credential of its own name.
    pub(super) async fn fill(
        &self,
        context: &Context,
        kind: Kind,
        count: usize,
    ) -> anyhow::Result<Requests> {
        let store = context.admin.store();
        let password = Password::generate()?;
        // One hash for all: the service keeps what it has verified by user and hash.
        let password_hash = match kind {
            Kind::Password => Some(password.hash().await?),
            Kind::Token => None,
        };
        let mut requests = Requests::with_capacity(count);
        for number in 0..count {
            let user = NewUser {
                tenant: self.tenant.clone(),
                name: format!("{}-{number}", self.tenant),
                kind: UserKind::Bb,
                password_hash: password_hash.clone(),
                nkey: None,
                certificate: None,
                publish: Vec::new(),
                subscribe: Vec::new(),
                policy: None,
            };
            store.add_user(&user).await.map_err(explain)?;
            let credentials = match kind {
                Kind::Password => json!({ "user": user.name, "pass": password.expose() }),
                Kind::Token => {
                    let token = Token::generate()?;
                    let new = NewToken {
                        user_name: user.name,
                        hash: token.hash(),
                        label: Some("nats-callout bench".to_owned()),
                        expires_at: self.ends,
                    };
                    store.add_token(&self.tenant, &new).await.map_err(explain)?;
                    json!({ "auth_token": token.expose() })
                }
            };
            requests.push(login::request(&credentials));
        }
        Ok(requests)
    }

    /// Removes the tenant with its users.
    pub(super) async fn remove(self, context: &Context) {
        match context.admin.store().remove_tenant(&self.tenant).await {
            Ok(()) => context.admin.settle().await,
            Err(error) => note(&format!(
                "warning: the temporary tenant {id} could not be removed ({error}), and ends by \
                 itself within the hour; remove it with `nats-callout tenant remove {id}`",
                id = self.tenant
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_users() {
        let text = "user,password\n# a note\nalice:a:b,c\r\n\nbob@example.com,x\n";
        let requests = parse(text, Kind::Password).unwrap();
        let [alice, bob] = &requests[..] else { panic!("{}", requests.len()) };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text(alice).contains(r#""pass":"a:b,c","#), "{}", text(alice));
        assert!(text(bob).contains(r#""user":"bob@example.com""#));
        let tokens = parse("nct_a:b\nnct_c\n", Kind::Token).unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(text(&tokens[0]).contains(r#""auth_token":"nct_a:b""#));
        for wrong in ["", "alice\n", ":x\n"] {
            assert!(parse(wrong, Kind::Password).is_err(), "{wrong:?}");
        }
    }
}
