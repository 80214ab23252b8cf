//! The one place where a user JWT is made, and the last line of defence: a server takes a JWT with
//! no expiry, with empty lists (which mean everything) or for its system account as readily as any
//! other.
//!
//! A [`UserJwt`] always expires, names an account that is allowed, denies what it does not allow
//! and, in an account that tenants share, what leads on to others' accounts, and holds legal
//! subjects alone.

use std::sync::Arc;
use std::time::Duration;

use crate::authn::Principal;
use crate::clock::UnixSeconds;
use crate::keys::{Signer, UserNkey};
use crate::placement::{NOTIFICATIONS, Placed, Target};
use crate::policy::Grant;
use crate::policy::subject::Pattern;
use crate::protocol::claims::{Permission, Permissions, ResponsePermission, UserBody};
use crate::protocol::jwt::{Claims, JwtError};
use crate::store::Isolation;

/// How much a grant's life is shortened at random, so that what came together does not end
/// together.
pub(crate) const JITTER: f64 = 0.2;

/// The longest life: servers take a time that is too far off for one that is over.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A signed user JWT for one connection.
#[derive(Clone)]
pub(crate) struct UserJwt {
    token: String,
    expires: UnixSeconds,
    is_renewable: bool,
}

impl UserJwt {
    /// When it ends.
    #[must_use]
    pub(crate) fn expires(&self) -> UnixSeconds {
        self.expires
    }

    /// Whether it ends for no other reason than that each grant does, so that another may follow it.
    #[must_use]
    pub(crate) fn is_renewable(&self) -> bool {
        self.is_renewable
    }

    pub(crate) fn into_string(self) -> String {
        self.token
    }
}

impl std::fmt::Debug for UserJwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserJwt").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Why nothing was minted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    /// A response permission in a shared account would let a user write to other tenants.
    #[error("a response permission must not be granted in a shared account")]
    SharedResponses,
    /// The principal has ended before the grant could begin.
    #[error("the principal has expired")]
    Expired,
    /// The policy's end of the grant has passed before it could begin.
    #[error("the time that the policy allows is over")]
    Closed,
    /// Signing failed.
    #[error(transparent)]
    Jwt(#[from] JwtError),
}

/// Makes user JWTs.
#[derive(Debug)]
pub struct Mint {
    signer: Arc<dyn Signer>,
    ttl: Duration,
}

impl Mint {
    /// A mint whose JWTs live at most `ttl`, and ten years.
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>, ttl: Duration) -> Self {
        Self { signer, ttl: ttl.min(LONGEST) }
    }

    /// How long a grant lives that nothing of its user's and no jitter shortens.
    pub(crate) fn life(&self, grant: &Grant) -> Duration {
        life(grant, self.ttl)
    }

    /// Makes the JWT of one connection, signed by `issuer` where the server expects that one.
    pub(crate) async fn mint(
        &self,
        issuer: Option<&dyn Signer>,
        connection: &UserNkey,
        principal: &Principal,
        grant: Grant,
        placed: &Placed,
        now: UnixSeconds,
    ) -> Result<UserJwt, MintError> {
        if placed.isolation == Isolation::Shared && grant.responses.is_some() {
            return Err(MintError::SharedResponses);
        }
        let (audience, issuer_account) = match placed.account.target() {
            Target::Id(id) => (None, Some(*id)),
            Target::Name(name) => (Some(name.clone()), None),
        };
        let (expires, is_bounded) = self.expiry(connection, principal, &grant, now)?;
        let is_renewable = !is_bounded && !grant.no_renewal;
        let mut permissions = permissions(grant);
        if placed.isolation == Isolation::Shared && issuer_account.is_some() {
            permissions.publish.deny.push(NOTIFICATIONS.to_owned());
        }
        let mut body = UserBody::new(permissions);
        body.issuer_account = issuer_account;
        let claims = Claims {
            audience,
            expires: Some(expires),
            issued_at: now,
            name: Some(principal.record().user.name.clone()),
            not_before: None,
            subject: connection.to_string(),
            body,
        };
        let signer = issuer.unwrap_or(&*self.signer);
        Ok(UserJwt { token: claims.encode(signer).await?, expires, is_renewable })
    }

    /// The configured life, shortened by the jitter that the connection's random key brings along,
    /// and by the end of the principal and of the grant; and whether one of these is what ends it.
    fn expiry(
        &self,
        connection: &UserNkey,
        principal: &Principal,
        grant: &Grant,
        now: UnixSeconds,
    ) -> Result<(UnixSeconds, bool), MintError> {
        let [a, b, ..] = *connection.raw();
        let share = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
        let life = self.life(grant).mul_f64(1.0 - JITTER * share);
        let ends = |at: Option<UnixSeconds>| at.is_some_and(|at| at <= now);
        if ends(principal.expires_at()) {
            return Err(MintError::Expired);
        }
        if ends(grant.until) {
            return Err(MintError::Closed);
        }
        Ok(end(life.max(Duration::from_secs(1)), principal.expires_at(), grant, now))
    }
}

/// How long a grant lives that nothing else shortens than its policy, where none lives longer than `longest`.
pub(crate) fn life(grant: &Grant, longest: Duration) -> Duration {
    grant.ttl.map_or(longest, |ttl| ttl.min(longest))
}

/// When a grant ends that begins at `now` with this life; and whether that is before its life is over, since
/// whom it is for ends at `expires_at`, or the policy says until when. Such a one no other may follow.
pub(crate) fn end(
    life: Duration,
    expires_at: Option<UnixSeconds>,
    grant: &Grant,
    now: UnixSeconds,
) -> (UnixSeconds, bool) {
    let full = now.saturating_add_unsigned(life.as_secs());
    let bounds = [expires_at, grant.until].into_iter().flatten();
    let end = bounds.fold(full, UnixSeconds::min);
    (end, end < full)
}

/// What a grant allows, as a JWT has it.
pub(crate) fn permissions(grant: Grant) -> Permissions {
    Permissions {
        publish: permission(grant.publish, grant.deny_publish),
        subscribe: permission(grant.subscribe, grant.deny_subscribe),
        responses: grant.responses.map(|responses| ResponsePermission {
            max: i64::from(responses.max),
            ttl: i64::try_from(responses.expires.as_nanos()).unwrap_or(i64::MAX),
        }),
    }
}

fn permission(allow: Vec<Pattern>, mut deny: Vec<Pattern>) -> Permission {
    if allow.is_empty() {
        deny = vec![Pattern::everything()];
    }
    let texts = |patterns: Vec<Pattern>| patterns.iter().map(ToString::to_string).collect();
    Permission { allow: texts(allow), deny: texts(deny) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{AccountId, KeyKind, SigningKey};
    use crate::placement::{SystemAccounts, TargetAccount};
    use crate::policy::Responses;
    use crate::protocol::jwt::Parsed;
    use crate::store::{Isolation, LoginRecord, TenantRecord, UserKind, UserRecord};

    const NOW: UnixSeconds = 1_800_000_000;
    const TTL: Duration = Duration::from_secs(900);

    fn account() -> AccountId {
        SigningKey::generate(KeyKind::Account).unwrap().0.public().unwrap()
    }

    fn connection() -> UserNkey {
        SigningKey::generate(KeyKind::User).unwrap().0.public().unwrap()
    }

    fn principal(expires_at: Option<UnixSeconds>) -> Principal {
        let record = LoginRecord {
            tenant: TenantRecord::new("42".parse().unwrap()),
            user: UserRecord { expires_at, ..UserRecord::new("alice", UserKind::Bb) },
        };
        Principal::new(Arc::new(record), "password", None, NOW).unwrap()
    }

    fn grant(publish: &[&str]) -> Grant {
        let publish = publish.iter().map(|subject| subject.parse().unwrap()).collect();
        Grant { publish, ..Grant::default() }
    }

    fn placed(id: AccountId, isolation: Isolation) -> Placed {
        let system = SystemAccounts::new(account(), account(), []);
        Placed { account: system.target(id).unwrap(), isolation, loads: false }
    }

    async fn mint(
        principal: &Principal,
        grant: Grant,
        placed: &Placed,
    ) -> Result<(Claims<UserBody>, UserJwt), MintError> {
        let signer = Arc::new(SigningKey::generate(KeyKind::Account).unwrap().0);
        let mint = Mint::new(signer, TTL);
        let jwt = mint.mint(None, &connection(), principal, grant, placed, NOW).await?;
        let parsed = Parsed::<UserBody>::parse(&jwt.token).unwrap();
        Ok((parsed.verify::<AccountId>().unwrap().0, jwt))
    }

    #[tokio::test]
    async fn always_expires_within_the_jittered_life() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let placed = placed(account(), Isolation::Account);
            let (claims, jwt) = mint(&principal(None), grant(&["a"]), &placed).await.unwrap();
            assert_eq!(claims.expires, Some(jwt.expires()));
            assert!((NOW + 719..=NOW + 900).contains(&jwt.expires()), "{}", jwt.expires());
            assert_eq!(claims.not_before, None);
            seen.insert(jwt.expires());
        }
        assert!(seen.len() > 10, "the life is jittered: {seen:?}");
    }

    #[tokio::test]
    async fn never_outlives_the_principal() {
        let placed = placed(account(), Isolation::Account);
        let ends = principal(Some(NOW + 60));
        let (claims, _) = mint(&ends, grant(&["a"]), &placed).await.unwrap();
        assert_eq!(claims.expires, Some(NOW + 60));
    }

    #[tokio::test]
    async fn never_outlives_the_grants_own_end() {
        let placed = placed(account(), Isolation::Account);
        for (until, ends, expected) in [
            (NOW + 30, None, NOW + 30),
            (NOW + 30, Some(NOW + 60), NOW + 30),
            (NOW + 30, Some(NOW + 20), NOW + 20),
        ] {
            let grant = Grant { until: Some(until), ..grant(&["a"]) };
            let (claims, _) = mint(&principal(ends), grant, &placed).await.unwrap();
            assert_eq!(claims.expires, Some(expected));
        }
        let over = Grant { until: Some(NOW), ..grant(&["a"]) };
        let minted = mint(&principal(None), over, &placed).await;
        assert!(matches!(minted, Err(MintError::Closed)));
    }

    #[tokio::test]
    async fn only_what_nothing_else_ends_is_renewable() {
        let placed = placed(account(), Isolation::Account);
        for (ends, until, no_renewal, expected) in [
            (None, None, false, true),
            (Some(NOW + 901), Some(NOW + 901), false, true),
            (Some(NOW + 60), None, false, false),
            (None, Some(NOW + 60), false, false),
            (None, None, true, false),
        ] {
            let grant = Grant { until, no_renewal, ..grant(&["a"]) };
            let (_, jwt) = mint(&principal(ends), grant, &placed).await.unwrap();
            assert_eq!(jwt.is_renewable(), expected, "{ends:?} {until:?} {no_renewal}");
        }
    }

    #[tokio::test]
    async fn an_empty_list_denies_everything() {
        let placed = placed(account(), Isolation::Account);
        let (claims, _) = mint(&principal(None), grant(&[]), &placed).await.unwrap();
        let permissions = claims.body.permissions;
        assert_eq!(permissions.publish.deny, [">"]);
        assert_eq!(permissions.subscribe.deny, [">"]);
        assert!(permissions.publish.allow.is_empty() && permissions.subscribe.allow.is_empty());
    }

    #[tokio::test]
    async fn no_response_permission_in_a_shared_account() {
        let responses = Some(Responses { max: 1, expires: Duration::from_secs(1) });
        let grant = Grant { responses, ..grant(&["a"]) };
        let shared = placed(account(), Isolation::Shared);
        let minted = mint(&principal(None), grant.clone(), &shared).await;
        assert!(matches!(minted, Err(MintError::SharedResponses)));
        let own = placed(account(), Isolation::Account);
        let (claims, _) = mint(&principal(None), grant, &own).await.unwrap();
        let expected = ResponsePermission { max: 1, ttl: 1_000_000_000 };
        assert_eq!(claims.body.permissions.responses, Some(expected));
    }

    #[tokio::test]
    async fn notifications_are_bbs_alone_to_publish_in_a_shared_account() {
        let shared = placed(account(), Isolation::Shared);
        let (claims, _) = mint(&principal(None), grant(&["a"]), &shared).await.unwrap();
        assert_eq!(claims.body.permissions.publish.deny, [NOTIFICATIONS]);
        let own = placed(account(), Isolation::Account);
        let (claims, _) = mint(&principal(None), grant(&["a"]), &own).await.unwrap();
        assert!(claims.body.permissions.publish.deny.is_empty());
    }

    #[tokio::test]
    async fn places_by_name_in_config_mode_and_by_issuer_account_in_operator_mode() {
        let named = Placed {
            account: TargetAccount::named("USERS", "AUTH").unwrap(),
            isolation: Isolation::Shared,
            loads: false,
        };
        let (claims, _) = mint(&principal(None), grant(&["a"]), &named).await.unwrap();
        assert_eq!((claims.audience.as_deref(), claims.body.issuer_account), (Some("USERS"), None));
        let id = account();
        let (claims, _) =
            mint(&principal(None), grant(&["a"]), &placed(id, Isolation::Account)).await.unwrap();
        assert_eq!((claims.audience, claims.body.issuer_account), (None, Some(id)));
        assert_eq!(claims.name.as_deref(), Some("alice"));
    }
}
