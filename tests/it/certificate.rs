//! Logins by certificate: a listener that asks clients for one, authorities of the test's own, and
//! every name that a certificate can have.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use async_nats::{ConnectError, ConnectOptions};
use nats_callout::clock::{Clock as _, SystemClock};
use nats_callout::internals::certificate;
use rcgen::{CertificateParams, DnType, DnValue, SanType, date_time_ymd};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::harness::choice::either_mode;
use crate::harness::client::{Connected, Login, connect_with};
use crate::harness::clients::{self, Language};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::tls::{Authority, Identity, nameless, subject};
use crate::harness::{PATIENCE, depth, eventually_async, eventually_within, servers};
use crate::login::{echo, inbox_prefix, scenario};
use crate::nkey::add_user;

const BOTH: [Mode; 2] = [Mode::Operator, Mode::Config];

/// A deployment whose listener asks for certificates of `authority`.
struct Verifying {
    deployment: Deployment,
    authority: Authority,
    _folder: TempDir,
}

impl Verifying {
    fn start(mode: Mode) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "authority");
        let service = authority.client("service", with_dns("nats-callout.internal"));
        let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
            init.add_to_server_conf(&authority.block(true));
            init.set("tls_ca", &format!("{:?}", authority.ca));
            init.set("tls_certificate", &format!("{:?}", service.certificate));
            init.set("tls_key", &format!("{:?}", service.key));
        });
        deployment.tenant_add("one", &[]);
        Self { deployment, authority, _folder: folder }
    }

    async fn connect(
        &self,
        options: ConnectOptions,
        by: &Identity,
    ) -> Result<Connected, ConnectError> {
        let prefix = inbox_prefix(self.deployment.mode, "one");
        let options = options
            .add_root_certificates(self.authority.ca.clone())
            .add_client_certificate(by.certificate.clone(), by.key.clone())
            .require_tls(true);
        let prefix = prefix.unwrap_or_else(|| "_INBOX".to_owned());
        connect_with(&self.deployment.url(), options, &prefix).await
    }

    async fn admitted(&self, by: &Identity) -> Connected {
        self.connect(ConnectOptions::new(), by)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.deployment.service.log()))
    }

    async fn refused(&self, by: &Identity, reason: &str) {
        let said = format!("refused reason=\"{reason}\"");
        let count = || self.deployment.service.log().matches(&said).count();
        let before = count();
        let error = self.connect(ConnectOptions::new(), by).await.expect_err("a refusal");
        assert_eq!(error.kind(), async_nats::ConnectErrorKind::AuthorizationViolation, "{error}");
        assert!(count() > before, "{reason}\n{}", self.deployment.service.log());
    }
}

fn with_names(names: &[SanType]) -> CertificateParams {
    let mut params = nameless();
    params.subject_alt_names = names.to_vec();
    params
}

fn with_dns(name: &str) -> CertificateParams {
    with_names(&[dns(name)])
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ascii"))
}

fn email(name: &str) -> SanType {
    SanType::Rfc822Name(name.try_into().expect("ascii"))
}

fn with_subject(parts: &[(DnType, &str)]) -> CertificateParams {
    let mut params = nameless();
    params.distinguished_name = subject(parts);
    params
}

/// Each kind of name with one library, one kind with every library.
async fn every_kind_of_name_is_a_login(verifying: &Verifying) {
    let Verifying { deployment, authority, .. } = verifying;
    let mode = deployment.mode;
    let uri = SanType::URI("spiffe://example.com/orders".try_into().expect("ascii"));
    let parts = [
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, "Shop, Ltd"),
        (DnType::CommonName, "alice"),
    ];
    let cases = [
        ("by-email", "alice@example.com", with_names(&[email("alice@example.com")])),
        ("by-host", "app.example.com", with_dns("app.example.com")),
        ("by-uri", "spiffe://example.com/orders", with_names(&[uri])),
        ("by-subject", "CN=alice,O=Shop\\, Ltd,C=DE", with_subject(&parts)),
    ];
    for (user, name, params) in cases {
        add_user(deployment, "one", user, &["--certificate", name]);
        let shown = deployment.cli(&["--json", "show", "one", user]).success().json();
        assert_eq!(shown["user"]["certificate"], name, "{shown}");
        let identity = authority.client(user, params);
        let connected = verifying.admitted(&identity).await;
        connected.round_trip(&echo(mode, "one")).await;
        let path = |path: &Path| path.to_str().expect("utf-8").to_owned();
        let (ca, certificate, key) =
            (path(&authority.ca), path(&identity.certificate), path(&identity.key));
        let options = ["--ca", &ca, "--cert", &certificate, "--key", &key];
        for language in [Language::Python, Language::Node, Language::Go] {
            if user != "by-email" && depth(true, language != Language::Python) {
                continue;
            }
            let seen =
                clients::login_by(language, &deployment.url(), &options, &scenario(mode, "one"));
            let Some(seen) = seen else { continue };
            assert_eq!((seen.connected, &seen.error), (true, &None), "{language:?}: {seen:?}");
            assert_eq!(seen.reply.as_deref(), Some("pong:ping"), "{language:?}");
        }
    }
}

async fn who_is_not_certified_is_refused(verifying: &Verifying) {
    let Verifying { deployment, authority, .. } = verifying;
    add_user(deployment, "one", "alice", &["--certificate", "alice.example.com"]);
    add_user(deployment, "one", "bob", &["--certificate", "CN=bob"]);
    let alice = authority.client("alice", with_dns("alice.example.com"));
    verifying.admitted(&alice).await;

    // By the server: another authority's, none, one that has ended or not begun.
    let impostor = Authority::new(&deployment.dir(), "authority");
    let impostor = impostor.client("impostor", with_dns("alice.example.com"));
    let mut ended = with_dns("alice.example.com");
    ended.not_after = date_time_ymd(2020, 1, 1);
    let mut future = with_dns("alice.example.com");
    future.not_before = date_time_ymd(2200, 1, 1);
    let [ended, future] =
        [("ended", ended), ("future", future)].map(|(file, params)| authority.client(file, params));
    for identity in [&impostor, &ended, &future] {
        let refused = verifying.connect(ConnectOptions::new(), identity).await;
        let error = refused.expect_err("no handshake").to_string();
        assert!(!error.contains("authorization"), "{error}");
    }
    let without = ConnectOptions::new().add_root_certificates(authority.ca.clone());
    assert!(connect_with(&deployment.url(), without, "_INBOX").await.is_err());

    // By us: names that are nobody's, and names that are none.
    let stranger = authority.client("stranger", with_dns("stranger.example.com"));
    verifying.refused(&stranger, "unknown_certificate").await;
    let nobody = authority.client("nobody", nameless());
    verifying.refused(&nobody, "unknown_certificate").await;
    for (file, hostile) in [
        "*.example.com",
        "alice.example.com\n",
        "alice.example.com\0",
        " alice.example.com",
        "ALICE.example.com",
        "CN=bob",
    ]
    .into_iter()
    .enumerate()
    {
        let names = [dns(hostile), email(hostile)];
        for (kind, name) in names.into_iter().enumerate() {
            let file = format!("hostile-{file}-{kind}");
            let hostile = authority.client(&file, with_names(&[name]));
            let refused = verifying.connect(ConnectOptions::new(), &hostile).await;
            assert!(refused.is_err(), "{file} was admitted");
        }
    }
    let mut control = nameless();
    let name = DnValue::Utf8String("bob\n".to_owned());
    control.distinguished_name.push(DnType::CommonName, name);
    let control = authority.client("control", control);
    verifying.refused(&control, "unknown_certificate").await;
    let two_parts = [(DnType::CommonName, "bob"), (DnType::OrganizationName, "Evil")];
    let more = authority.client("more", with_subject(&two_parts));
    verifying.refused(&more, "unknown_certificate").await;

    // Names of two users are nobody's, whoever of them is suspended.
    let mut both = with_subject(&[(DnType::CommonName, "bob")]);
    both.subject_alt_names = vec![dns("alice.example.com")];
    let both = authority.client("both", both);
    verifying.refused(&both, "ambiguous_certificate").await;
    deployment.sql("UPDATE users SET status = 'suspended' WHERE name = 'alice';");
    eventually_async("the suspension", || async {
        verifying.connect(ConnectOptions::new(), &alice).await.is_err().then_some(())
    })
    .await;
    verifying.refused(&alice, "user_suspended").await;
    verifying.refused(&both, "ambiguous_certificate").await;
    deployment.sql("DELETE FROM users WHERE name = 'alice';");
    eventually_async("the end of the other", || async {
        verifying.connect(ConnectOptions::new(), &both).await.is_ok().then_some(())
    })
    .await;
}

/// How long a certificate lives that ends soon.
const LIFE: Duration = Duration::from_secs(20);

/// A connection by a certificate that ends soon, which does not outlive it.
async fn shortly(verifying: &Verifying) -> JoinHandle<()> {
    let Verifying { deployment, authority, .. } = verifying;
    add_user(deployment, "one", "short", &["--certificate", "short.example.com"]);
    let mut short = with_dns("short.example.com");
    let begun = Instant::now();
    let ends = SystemClock.now().unsigned_abs() + LIFE.as_secs();
    short.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(ends);
    let short = authority.client("short", short);
    let connected = verifying.admitted(&short).await;
    connected.round_trip(&echo(deployment.mode, "one")).await;
    tokio::spawn(async move {
        let expired = |error: &String| error.contains("Authentication Expired");
        let left = (LIFE + PATIENCE).saturating_sub(begun.elapsed());
        eventually_within(left, "the end of the grant with its certificate", || async {
            connected.errors().iter().any(expired).then_some(())
        })
        .await;
    })
}

/// The certificate says who may speak to the server; a password, where there is one, who it is.
async fn a_password_decides_before_a_certificate(verifying: &Verifying) {
    let Verifying { deployment, authority, .. } = verifying;
    let mode = deployment.mode;
    add_user(deployment, "one", "carol", &["--certificate", "carol.example.com"]);
    let carol = authority.client("carol", with_dns("carol.example.com"));
    let stranger = authority.client("stranger", with_dns("stranger.example.com"));
    let Login::Password(user, password) = deployment.tenant_add("two", &[]) else {
        unreachable!("a password")
    };
    let token = deployment.token_add("two", &user);
    let by_password =
        |password: &str| ConnectOptions::with_user_and_password(user.clone(), password.to_owned());
    for identity in [&carol, &stranger] {
        let two = verifying.connect(by_password(&password), identity).await.expect("a login");
        two.client.publish("user.one.echo", "forged".into()).await.expect("is sent");
        if mode == Mode::Config {
            two.violation(&["publish", "user.one.echo"]).await;
        }
        assert!(verifying.connect(by_password("wrong"), identity).await.is_err());
        let token = ConnectOptions::with_token(token.clone());
        verifying.connect(token, identity).await.expect("a login");
    }
}

async fn certified(mode: Mode) {
    let verifying = Verifying::start(mode);
    let short = shortly(&verifying).await;
    every_kind_of_name_is_a_login(&verifying).await;
    a_password_decides_before_a_certificate(&verifying).await;
    who_is_not_certified_is_refused(&verifying).await;
    short.await.expect("it has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_certified_gets_in_until_that_ends_and_nobody_else() {
    for mode in either_mode() {
        certified(mode).await;
    }
}

/// TLS without certificates of clients: passwords and tokens as ever, and what a client shows
/// unasked counts for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_server_does_not_verify_is_no_login() {
    for mode in BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "authority");
        let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
            init.add_to_server_conf(&authority.block(false));
            init.set("tls_ca", &format!("{:?}", authority.ca));
        });
        let admin = deployment.tenant_add("one", &[]);
        add_user(&deployment, "one", "alice", &["--certificate", "alice.example.com"]);
        let Login::Password(user, password) = &admin else { unreachable!("a password") };
        let prefix = inbox_prefix(mode, "one").unwrap_or_else(|| "_INBOX".to_owned());
        let options = ConnectOptions::with_user_and_password(user.clone(), password.clone())
            .add_root_certificates(authority.ca.clone())
            .require_tls(true);
        let connected = connect_with(&deployment.url(), options, &prefix).await.expect("a login");
        connected.round_trip("user.one.echo").await;

        let alice = authority.client("alice", with_dns("alice.example.com"));
        let options = ConnectOptions::new()
            .add_root_certificates(authority.ca.clone())
            .add_client_certificate(alice.certificate, alice.key)
            .require_tls(true);
        let refused = connect_with(&deployment.url(), options, &prefix).await;
        let error = refused.expect_err("a refusal");
        assert_eq!(error.kind(), async_nats::ConnectErrorKind::AuthorizationViolation, "{error}");
        // The commands speak TLS as the service does.
        deployment.cli(&["test", "one"]).success();
    }
}

/// A name that `openssl` prints is the name that we look for.
#[test]
fn subjects_are_written_as_openssl_writes_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "authority");
    let parts = [
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, "Shop, \"Ltd\" + <Söhne>; a=b\\c"),
        (DnType::OrganizationalUnitName, "# orders "),
        (DnType::CommonName, " alice"),
    ];
    let identity = authority.client("alice", with_subject(&parts));
    let printed = Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb", "-in"])
        .arg(&identity.certificate)
        .output();
    let Ok(printed) = printed else {
        return crate::harness::loudly("SKIPPED: `openssl` is not on this machine");
    };
    let printed = String::from_utf8(printed.stdout).expect("utf-8");
    let printed = printed.trim_end_matches('\n').trim_start_matches("subject=");
    certificate::check(printed).expect("a name");
    let pem = std::fs::read_to_string(&identity.certificate).expect("a file");
    assert_eq!(certificate::names(&pem), Some(vec![printed.to_owned()]));
}

#[test]
fn a_name_that_no_certificate_has_is_refused_at_the_command_line() {
    let deployment = crate::harness::deployment::Initialised::new(Mode::Config);
    deployment.tenant_add("one", &[]);
    let add = |user: &str, name: &str| {
        deployment.cli(&["--json", "user", "add", "one", user, "--certificate", name])
    };
    for name in ["*.example.com", "a b", "CN=alice, O=Shop", "emailAddress=a@b.c", ""] {
        let output = add("alice", name);
        assert_eq!(output.status, 2, "{name}: {output:?}");
        assert!(output.stderr.contains("write an e-mail address"), "{}", output.stderr);
    }
    let made = add("alice", "CN=alice,O=Shop").success().json();
    assert_eq!(made["user"]["certificate"], "CN=alice,O=Shop");
    assert_eq!(made["password"], json!(null));
    let taken = add("bob", "CN=alice,O=Shop");
    assert_eq!(taken.status, 1, "{taken:?}");
    assert!(taken.stderr.contains("another user has it"), "{}", taken.stderr);
}
