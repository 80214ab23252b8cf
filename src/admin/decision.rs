//! How a login would end: decided as the service does, by its own code on the same table and policies. No
//! nats-server is asked, nothing is minted, and nothing is remembered of who asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Admin;
use crate::authn::jwt::is_jwt;
use crate::authn::password::{PasswordAuthenticator, PasswordSettings};
use crate::authn::{
    Attempt, Authenticator, AuthnError, Claims, Denied, Found, Principal, Rejected,
};
use crate::authorize::{Decider, unplaced};
use crate::clock::UnixSeconds;
use crate::config::Config;
use crate::daemon::{DaemonError, logins};
use crate::deployment::isolation_of;
use crate::mint;
use crate::policy::ConnectionContext;
use crate::policy::explain::Explanation;
use crate::policy::rules::PolicySet;
use crate::protocol::claims::ClientInfo;
use crate::protocol::credentials::Credentials;
use crate::store::{CredentialStore, Isolation, LoginRecord};

/// How long one password hash may take here.
const PATIENCE: Duration = Duration::from_secs(30);

/// About what an answer takes beside its permissions.
const ANSWER_BYTES: usize = 1_700;

/// How a login would end.
#[derive(Debug)]
pub(crate) enum Decision {
    /// The client would be let in.
    Granted(Box<Granted>),
    /// It would be refused.
    Denied {
        /// Why.
        denied: Denied,
        /// The claims that a policy saw.
        claims: Claims,
    },
    /// It would get no answer.
    Fault(AuthnError),
}

/// What a client would be let in with.
#[derive(Debug)]
pub(crate) struct Granted {
    /// Who it is.
    pub(crate) principal: Principal,
    /// How its tenant is kept apart.
    pub(crate) isolation: Isolation,
    /// What it may do, and by which lines.
    pub(crate) explanation: Explanation,
}

/// A user who is taken to have proved who it is, and what else a policy looks at.
#[derive(Debug, Clone)]
pub(crate) struct Assumed {
    /// The user and its tenant.
    pub(crate) login: Arc<LoginRecord>,
    /// Its connection.
    pub(crate) client: ClientInfo,
    /// The claims of its JWT.
    pub(crate) claims: Claims,
    /// The time.
    pub(crate) at: UnixSeconds,
}

impl Admin {
    /// How a login with these credentials would end for this client. An error is what keeps a service
    /// with this configuration from starting.
    pub(crate) async fn decide(
        &self,
        credentials: &Credentials,
        client: &ClientInfo,
    ) -> Result<Decision, DaemonError> {
        let stop = CancellationToken::new();
        let _stop_on_return = stop.clone().drop_guard();
        let authenticators = self.authenticators(credentials, &stop)?;
        let policies = Arc::new(PolicySet::configured(self.config.policies.as_deref())?);
        let decider = Decider { authenticators, policy: policies.clone() };
        let (deadline, found) = (Instant::now() + PATIENCE, Found::default());
        let attempt = Attempt { credentials, client, deadline, found: &found };
        let decided = match decider.authenticate(attempt).await {
            Ok(principal) => {
                let claims = principal.claims().clone();
                match self.permit(&decider, &policies, principal, client, self.now()) {
                    Ok(granted) => Decision::Granted(Box::new(granted)),
                    Err(denied) => Decision::Denied { denied, claims },
                }
            }
            Err(Rejected::Denied(denied)) => Decision::Denied { denied, claims: Claims::new() },
            Err(Rejected::Fault(fault)) => Decision::Fault(fault),
        };
        Ok(decided)
    }

    /// How a login would end by these policies if the user had just proved who it is.
    pub(crate) fn explain(
        &self,
        policies: &Arc<PolicySet>,
        assumed: Assumed,
    ) -> Result<Granted, Denied> {
        let Assumed { login, client, claims, at } = assumed;
        let decider = Decider { authenticators: Vec::new(), policy: policies.clone() };
        let principal = Principal::new(login, "assumed", None, at)?.with_claims(claims);
        self.permit(&decider, policies, principal, &client, at)
    }

    fn permit(
        &self,
        decider: &Decider,
        policies: &PolicySet,
        principal: Principal,
        client: &ClientInfo,
        now: UnixSeconds,
    ) -> Result<Granted, Denied> {
        let login = principal.login();
        let isolation = isolation_of(&self.config, &login.tenant).ok_or_else(|| unplaced(login))?;
        let context = ConnectionContext { isolation, client, now };
        decider.permit(&principal, &context)?;
        // The same once more, with its lines.
        let explanation = policies.explain(&principal, &context)?;
        Ok(Granted { principal, isolation, explanation })
    }

    /// Those of the service, with keys of issuers that are fetched until `stop` where they may be needed.
    fn authenticators(
        &self,
        credentials: &Credentials,
        stop: &CancellationToken,
    ) -> Result<Vec<Arc<dyn Authenticator>>, DaemonError> {
        let store = Arc::clone(&self.store) as Arc<dyn CredentialStore>;
        let issuers = logins::open_issuers(&self.config)?;
        if offers_jwt(credentials) {
            for issuer in &issuers {
                tokio::spawn(Arc::clone(issuer).keep(stop.clone()));
            }
        }
        let settings = PasswordSettings { threads: 1, queue: 1, ..PasswordSettings::default() };
        let password =
            PasswordAuthenticator::new(settings, store.clone(), Arc::clone(&self.clock))?;
        let max_in_flight = self.config.callout.max_in_flight;
        Ok(logins::chain(issuers, password, &store, &self.clock, max_in_flight))
    }
}

impl Granted {
    /// About how many bytes the answer to a server takes: its permissions are in a JWT within another, each in
    /// base64.
    pub(crate) fn answer_bytes(&self) -> usize {
        let permissions = mint::permissions(self.explanation.grant.clone());
        let permissions = serde_json::to_vec(&permissions).map_or(0, |it| it.len());
        permissions * 16 / 9 + ANSWER_BYTES
    }

    /// When it ends if it begins at `now` and those whom it is for end at `end`.
    pub(crate) fn ends(
        &self,
        config: &Config,
        end: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> GrantEnd {
        let grant = &self.explanation.grant;
        let life = mint::life(grant, config.callout.ttl);
        let (latest, is_bounded) = mint::end(life, end, grant, now);
        GrantEnd { latest, is_renewed: config.callout.renew && !grant.no_renewal && !is_bounded }
    }
}

/// The end of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GrantEnd {
    /// The latest that it may be.
    pub(crate) latest: UnixSeconds,
    /// Whether connections begin anew before: nothing but its life ends it.
    pub(crate) is_renewed: bool,
}

fn offers_jwt(credentials: &Credentials) -> bool {
    match credentials {
        Credentials::Token { token: sent, .. } | Credentials::Password { password: sent, .. } => {
            is_jwt(sent.expose().trim_end())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::DenyReason;
    use crate::config::{Config, Files};
    use crate::policy::ConnectionType;
    use crate::protocol::credentials::Secret;
    use crate::store::open::{StoreOptions, open};
    use crate::store::{TenantRecord, UserKind, UserRecord};

    const CONFIG: &str = "[nats]\nmode = \"config\"\n[callout]\nissuer = [\"issuer.nk\"]\n\
                          ttl = \"60s\"\n[database]\nurl = \"sqlite://t.db\"\n";

    async fn admin(folder: &tempfile::TempDir) -> Admin {
        let file = folder.path().join("nats-callout.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let config = Config::load_with(&file, Files::Unchecked, std::iter::empty()).unwrap().config;
        let store = open(config.database.url.expose(), &StoreOptions::default()).await.unwrap();
        Admin::new(config, store)
    }

    fn assumed(tenant: TenantRecord, by: ConnectionType) -> Assumed {
        let user = UserRecord::new("alice", UserKind::Bb);
        let login = Arc::new(LoginRecord { tenant, user });
        Assumed { login, client: by.client(), claims: Claims::new(), at: 1_000 }
    }

    #[tokio::test]
    async fn what_is_assumed_is_decided_as_a_login() {
        let folder = tempfile::tempdir().unwrap();
        let admin = admin(&folder).await;
        let policies = Arc::new(PolicySet::shipped().unwrap());
        let tenant = || TenantRecord::new("42".parse().unwrap());
        let explain = |tenant, by| admin.explain(&policies, assumed(tenant, by));
        let granted = explain(tenant(), ConnectionType::Nats).unwrap();
        assert_eq!(granted.isolation, Isolation::Shared);
        let leaf = explain(tenant(), ConnectionType::Leafnode).unwrap_err();
        assert_eq!(leaf.reason, DenyReason::ConnectionType);
        let elsewhere = TenantRecord { placement: Some("AUTH".to_owned()), ..tenant() };
        let elsewhere = explain(elsewhere, ConnectionType::Nats).unwrap_err();
        assert_eq!(elsewhere.reason, DenyReason::Placement);
        let over = TenantRecord { expires_at: Some(1_000), ..tenant() };
        let over = explain(over, ConnectionType::Nats).unwrap_err();
        assert_eq!(over.reason, DenyReason::TenantExpired);
    }

    #[tokio::test]
    async fn what_ends_for_another_reason_than_its_life_is_not_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let admin = admin(&folder).await;
        let mut config = (*admin.config).clone();
        let policies = Arc::new(PolicySet::shipped().unwrap());
        let assumed = assumed(TenantRecord::new("42".parse().unwrap()), ConnectionType::Nats);
        let mut granted = admin.explain(&policies, assumed).unwrap();
        let ends = |granted: &Granted, config: &Config, end| {
            let GrantEnd { latest, is_renewed } = granted.ends(config, end, 1_000);
            (latest, is_renewed)
        };
        assert_eq!(ends(&granted, &config, None), (1_060, true));
        assert_eq!(ends(&granted, &config, Some(1_060)), (1_060, true));
        assert_eq!(ends(&granted, &config, Some(1_059)), (1_059, false));
        granted.explanation.grant.until = Some(1_050);
        assert_eq!(ends(&granted, &config, None), (1_050, false));
        assert_eq!(ends(&granted, &config, Some(1_040)), (1_040, false));
        granted.explanation.grant.until = None;
        granted.explanation.grant.no_renewal = true;
        assert_eq!(ends(&granted, &config, None), (1_060, false));
        granted.explanation.grant.no_renewal = false;
        config.callout.renew = false;
        assert_eq!(ends(&granted, &config, None), (1_060, false));
    }

    /// Keys are fetched for it, or it would wait for them for ever.
    #[test]
    fn a_jwt_may_have_white_space_at_its_end() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln";
        for (text, is_one) in [(jwt, true), ("hunter2", false)] {
            for end in ["", " ", "\n"] {
                let sent = || Secret::new(format!("{text}{end}"));
                let user = "alice".to_owned();
                let by_password = Credentials::Password { user, password: sent() };
                assert_eq!(offers_jwt(&Credentials::token(None, sent())), is_one);
                assert_eq!(offers_jwt(&by_password), is_one);
            }
        }
    }

    #[tokio::test]
    async fn credentials_of_nobody_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let admin = admin(&folder).await;
        let client = ConnectionType::Nats.client();
        let password = Secret::new("x".to_owned());
        let alice = Credentials::Password { user: "alice".to_owned(), password };
        for (credentials, reason) in
            [(alice, DenyReason::UnknownUser), (Credentials::None, DenyReason::NoCredentials)]
        {
            match admin.decide(&credentials, &client).await.unwrap() {
                Decision::Denied { denied, .. } => assert_eq!(denied.reason, reason),
                decided => panic!("{decided:?}"),
            }
        }
    }
}
