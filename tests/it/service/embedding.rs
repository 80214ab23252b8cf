//! The library in an application of somebody else's: a custom authenticator on a real server, and
//! the configured service beside the application's own work.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nats_callout::callout::{Observer, Outcome, Running, Settings, Verdict};
use nats_callout::config::{Config, Files};
use nats_callout::daemon;
use nats_callout::internals::{
    Attempt, AuthCallout, Authentication, Authenticator, AuthnError, Authorizer, ConfigTargets,
    Credentials, DenyReason, Envelope, Mint, Placement, Responder,
};
use nats_callout::keys::{KeyKind, SigningKey, XKey};
use nats_callout::policy::{PolicySet, Principal};
use nats_callout::store::{LoginRecord, TenantRecord, UserKind, UserRecord};
use tokio_util::sync::CancellationToken;

use crate::harness::choice::lacks;
use crate::harness::client::{self, Login};
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::servers::{self, NatsServer};

/// Everybody whose token is the tenant's id spelt backwards.
#[derive(Debug)]
struct Backwards;

#[async_trait]
impl Authenticator for Backwards {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        let answer = match attempt.credentials {
            Credentials::Token { token, .. } => {
                let id: String = token.expose().chars().rev().collect();
                match id.parse() {
                    Ok(id) if token.expose() != "fail" => {
                        let tenant = TenantRecord::new(id);
                        let user = UserRecord::new("someone", UserKind::Bb);
                        let record = Arc::new(LoginRecord { tenant, user });
                        Principal::new(record, "backwards", None, 0)
                            .map_or_else(Authentication::Refused, Authentication::Accepted)
                    }
                    _ => Authentication::Refused(DenyReason::Refused.into()),
                }
            }
            _ => Authentication::NotMine,
        };
        Ok(answer)
    }
}

/// Why somebody was refused, in their order.
#[derive(Debug, Default)]
struct Reasons(Mutex<Vec<&'static str>>);

impl Observer for Reasons {
    fn observe(&self, outcome: &Outcome, _took: Duration) {
        let Outcome::Reply(reply) = outcome else { return };
        if let Verdict::Denied { denied, .. } = &reply.verdict {
            self.0.lock().unwrap().push(denied.code());
        }
    }
}

/// A server, and the service with one authenticator inside the test.
pub(crate) struct Embedded {
    pub(crate) server: NatsServer,
    pub(crate) running: Running,
    pub(crate) init: Initialised,
}

impl Embedded {
    pub(crate) async fn start(
        authenticator: Arc<dyn Authenticator>,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        let init = Initialised::new(Mode::Config);
        Self::start_on(init, Settings::default(), authenticator, observer).await
    }

    pub(crate) async fn start_on(
        init: Initialised,
        settings: Settings,
        authenticator: Arc<dyn Authenticator>,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        let server = NatsServer::start(servers::version(), &init.server_conf(), init.port, None)
            .unwrap_or_else(|log| panic!("{log}"));
        let key = |name: &str| std::fs::read_to_string(init.dir().join("keys").join(name)).unwrap();
        let issuer =
            Arc::new(SigningKey::from_seed(&key("issuer.nk"), KeyKind::Account).expect("a seed"));
        let authorizer = Authorizer::new(
            Envelope::new(vec![XKey::from_seed(&key("xkey.nk")).expect("a curve seed")]),
            Placement::Config(
                ConfigTargets::new("AUTH", vec!["USERS".to_owned()], Default::default()).unwrap(),
            ),
            Arc::new(PolicySet::shipped().unwrap()),
            Mint::new(issuer.clone(), Duration::from_secs(900)),
            Responder { signer: issuer, issuer_account: None },
        )
        .with_authenticator(authenticator);
        let auth = async_nats::ConnectOptions::with_nkey(key("auth.nk").trim().to_owned())
            .connect(server.url())
            .await
            .expect("connects");
        let callout = AuthCallout::new(Arc::new(authorizer)).with_settings(settings);
        let callout = observer.into_iter().fold(callout, AuthCallout::with_observer);
        let running = callout.start(auth).await.expect("starts");
        Self { server, running, init }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_authenticator_decides_on_a_real_server() {
    let reasons = Arc::new(Reasons::default());
    let Embedded { server, running, init: _init } =
        Embedded::start(Arc::new(Backwards), Some(reasons.clone())).await;
    let app = client::connect(&server.url(), &Login::Token("24".into()), "_INBOX_42").await;
    let app = app.expect("token 24 is tenant 42");
    app.round_trip("user.42.echo").await;
    app.client.publish("user.24.echo", "x".into()).await.expect("is sent");
    app.violation(&["publish", "user.24.echo"]).await;
    client::refused(&server.url(), &Login::Token("fail".into())).await;
    client::refused(&server.url(), &Login::Token("no token".into())).await;
    client::refused(&server.url(), &Login::password("alice", "x")).await;
    running.stop().await;
    let reasons = reasons.0.lock().unwrap();
    assert_eq!(*reasons, ["refused", "refused", "unsupported_credentials"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configured_service_runs_inside_an_application() {
    if lacks(Mode::Operator) {
        return;
    }
    let init = Initialised::new(Mode::Operator);
    let server = NatsServer::start(servers::version(), &init.server_conf(), init.port, None)
        .unwrap_or_else(|log| panic!("{log}"));
    let login = init.tenant_add("one", &[]);
    let no_http = [("NATS_CALLOUT_HTTP_LISTEN".to_owned(), String::new())];
    let loaded = Config::load_with(&init.config(), Files::MustExist, no_http);
    let config = loaded.expect("what init wrote").config;
    let store = config.open_store().await.expect("opens");

    let shutdown = CancellationToken::new();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let stop = shutdown.clone();
    let service = tokio::spawn(async move {
        daemon::run(&config, store, stop, || ready.send(()).expect("the test waits")).await
    });
    is_ready.await.expect("it gets ready");
    let app = client::connect(&server.url(), &login, "_INBOX").await.expect("logs in");
    app.round_trip("anything").await;
    shutdown.cancel();
    service.await.expect("no panic").expect("stops in good order");
}
