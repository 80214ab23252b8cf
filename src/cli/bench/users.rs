//! Who logs in: users of a file, or temporary ones, which are removed again.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::super::database::explain;
use super::super::output::{note, time};
use super::super::{Context, Usage, init};
use super::args::Kind;
use super::credential::Credential;
use crate::admin::Password;
use crate::admin::temporary::{TENANT_ID, TENANT_NAME};
use crate::authn::token::Token;
use crate::clock::UnixSeconds;
use crate::intake::client_config;
use crate::keys::{KeyKind, SigningKey};
use crate::store::{Isolation, Limits, NewTenant, NewToken, NewUser, TenantId, UserKind};

/// By how much a temporary tenant outlives the longest that its run may take.
const LEFT_BEHIND: Duration = Duration::from_secs(3_600);

/// Reads `user:password` (or `user,password`), tokens, JWTs or seeds, one a line; `-` is stdin.
pub(super) fn read(
    file: &Path,
    kind: Kind,
    ca: Option<PathBuf>,
) -> anyhow::Result<Vec<Credential>> {
    let mut text = Zeroizing::new(String::new());
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read the users from stdin")?;
    } else {
        *text = std::fs::read_to_string(file).map_err(|error| {
            Usage(format!("cannot read the users from {}: {error}", file.display()))
        })?;
    }
    parse(&text, kind, ca.as_ref())
        .map_err(|what| Usage(format!("{}: {what}", file.display())).into())
}

fn parse(text: &str, kind: Kind, ca: Option<&PathBuf>) -> Result<Vec<Credential>, String> {
    let mut credentials = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end_matches('\r');
        if line.is_empty() || line.starts_with('#') || line == "user,password" {
            continue;
        }
        credentials.push(match kind {
            Kind::Token | Kind::Jwt => Credential::token("", line),
            Kind::Password => match line.split_once([':', ',']) {
                Some((user, password)) if !user.is_empty() => Credential::password(user, password),
                _ => return Err(format!("line {number} is not USER:PASSWORD")),
            },
            Kind::Nkey => {
                let key = SigningKey::from_seed(line, KeyKind::User);
                Credential::nkey(key.map_err(|error| format!("line {number}: {error}"))?)
            }
            Kind::Certificate => {
                let files = line.split_once(',').map(|(one, other)| (one.into(), other.into()));
                let files = files.ok_or(format!("line {number} is not CERTIFICATE.pem,KEY.pem"))?;
                let config = client_config(ca.cloned(), Some(files))
                    .map_err(|error| format!("line {number}: {error}"))?;
                Credential::certificate(TlsConnector::from(Arc::new(config)))
            }
        });
    }
    if credentials.is_empty() {
        return Err("no users; write one a line, as USER:PASSWORD or as a token".to_owned());
    }
    Ok(credentials)
}

/// What MQTT keeps of each client is in its tenant's JetStream.
pub(super) fn room_for_sessions() -> Limits {
    Limits { memory: 16 << 20, storage: 64 << 20, ..Limits::default() }
}

/// Tenants that are there for one run.
pub(super) struct Temporary {
    tenants: Vec<TenantId>,
    /// When they end by themselves, and their tokens with them.
    ends: UnixSeconds,
}

impl Temporary {
    /// None so far; those that come have to last for so long.
    pub(super) fn new(context: &Context, run: Duration) -> Self {
        let seconds = i64::try_from((run + LEFT_BEHIND).as_secs()).unwrap_or(i64::MAX);
        Self { tenants: Vec::new(), ends: context.admin.now().saturating_add(seconds) }
    }

    /// Makes tenants; nobody can log in yet.
    pub(super) async fn make(
        &mut self,
        context: &Context,
        tenants: u32,
        isolation: Option<Isolation>,
        limits: Limits,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        for _ in 0..tenants {
            if stop.is_cancelled() {
                break;
            }
            let id = format!("{TENANT_ID}{}", init::random_name()?);
            let new = NewTenant {
                id: id.parse()?,
                name: TENANT_NAME.to_owned(),
                isolation,
                policy: None,
                limits,
                answers: false,
                expires_at: Some(self.ends),
            };
            context.admin.insert_tenant(&new, &Password::generate()?).await.map_err(explain)?;
            self.tenants.push(new.id);
        }
        Ok(())
    }

    /// Spreads users over the tenants, each with a credential of its own name.
    pub(super) async fn fill(
        &self,
        context: &Context,
        kind: Kind,
        users: u32,
    ) -> anyhow::Result<Vec<Credential>> {
        let password = Password::generate()?;
        // One hash for all: the service keeps what it has verified by user and hash.
        let hash = password.hash().await?;
        let mut credentials = Vec::with_capacity(users as usize);
        for (number, tenant) in (0..users).zip(self.tenants.iter().cycle()) {
            let key = match kind {
                Kind::Nkey => Some(SigningKey::generate(KeyKind::User)?.0),
                _ => None,
            };
            let user = NewUser {
                tenant: tenant.clone(),
                name: format!("{tenant}-{number}"),
                kind: UserKind::Bb,
                password_hash: (kind == Kind::Password).then(|| hash.clone()),
                nkey: key.as_ref().map(|key| key.public_key().to_owned()),
                certificate: None,
                publish: Vec::new(),
                subscribe: Vec::new(),
                policy: None,
            };
            context.admin.store().add_user(&user).await.map_err(explain)?;
            credentials.push(match (kind, key) {
                (_, Some(key)) => Credential::nkey(key),
                (Kind::Password, None) => Credential::password(&user.name, password.expose()),
                (_, None) => self.token(context, tenant, user.name).await?,
            });
        }
        Ok(credentials)
    }

    async fn token(
        &self,
        context: &Context,
        tenant: &TenantId,
        user_name: String,
    ) -> anyhow::Result<Credential> {
        let token = Token::generate()?;
        let credential = Credential::token(&user_name, token.expose());
        let new = NewToken {
            user_name,
            hash: token.hash(),
            label: Some("nats-callout bench".to_owned()),
            expires_at: Some(self.ends),
        };
        context.admin.store().add_token(tenant, &new).await.map_err(explain)?;
        Ok(credential)
    }

    /// Removes the tenants with their users.
    pub(super) async fn remove(self, context: &Context) {
        let ends = time(self.ends);
        for id in self.tenants {
            if let Err(error) = context.admin.store().remove_tenant(&id).await {
                note(&format!(
                    "warning: the temporary tenant {id} could not be removed ({error}), and ends \
                     by itself at {ends}; remove it with `nats-callout tenant remove {id}`"
                ));
            }
        }
        context.admin.settle().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_users() {
        let text = "user,password\n# a note\nalice:a:b,c\r\n\nbob@example.com,x\n";
        let requests = parse(text, Kind::Password, None).unwrap();
        let [alice, bob] = &requests[..] else { panic!("{}", requests.len()) };
        let text = |it: &Credential| String::from_utf8(it.answer(b"").into_owned()).unwrap();
        assert!(text(alice).contains(r#""pass":"a:b,c","#), "{}", text(alice));
        assert!(text(bob).contains(r#""user":"bob@example.com""#));
        let tokens = parse("nct_a:b\nnct_c\n", Kind::Token, None).unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(text(&tokens[0]).contains(r#""auth_token":"nct_a:b""#));
        let (key, seed) = SigningKey::generate(KeyKind::User).unwrap();
        let keys = parse(&seed, Kind::Nkey, None).unwrap();
        assert!(text(&keys[0]).contains(key.public_key()));
        for wrong in ["", "alice\n", ":x\n"] {
            assert!(parse(wrong, Kind::Password, None).is_err(), "{wrong:?}");
        }
        assert!(parse("SUA", Kind::Nkey, None).is_err());
        assert!(parse("no.pem,no.key", Kind::Certificate, None).is_err());
    }
}
