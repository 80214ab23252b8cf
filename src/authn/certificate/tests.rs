//! Certificates made with rcgen, read as a server hands them on.

use std::sync::atomic::Ordering::SeqCst;

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair, SanType,
    date_time_ymd,
};

use super::super::fakes::{FakeStore, NOW, SetClock, accepted, attempt, far, record, refused};
use super::*;
use crate::store::{LoginRecord, Status, StoreError};

struct Case {
    store: Arc<FakeStore>,
    clock: Arc<SetClock>,
    authenticator: CertificateAuthenticator,
}

fn case() -> Case {
    let (store, clock) = (Arc::new(FakeStore::default()), Arc::new(SetClock::default()));
    let authenticator = CertificateAuthenticator::new(
        Arc::clone(&store) as Arc<dyn CredentialStore>,
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    Case { store, clock, authenticator }
}

fn user(name: &str, certificate: &str) -> LoginRecord {
    let mut record = record(name, None);
    record.user.certificate = Some(certificate.to_owned());
    record
}

/// A certificate with these names, valid around [`NOW`], without a subject.
fn params(names: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names.to_vec();
    params.not_before = date_time_ymd(2027, 1, 1);
    params.not_after = date_time_ymd(2027, 12, 31);
    params
}

fn with_subject(parts: &[(DnType, DnValue)]) -> CertificateParams {
    let mut params = params(&[]);
    for (kind, value) in parts {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params
}

fn pem(params: CertificateParams) -> String {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn email(text: &str) -> SanType {
    SanType::Rfc822Name(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn utf8(text: &str) -> DnValue {
    DnValue::Utf8String(text.to_owned())
}

fn verified(pem: &str) -> ClientTls {
    ClientTls { verified_chains: vec![vec![pem.to_owned()]], ..ClientTls::default() }
}

fn names(params: CertificateParams) -> Vec<String> {
    super::names(&pem(params)).unwrap()
}

impl Case {
    async fn send(&self, tls: ClientTls) -> Result<Authentication, AuthnError> {
        let credentials = Credentials::Certificate(tls);
        self.authenticator.authenticate(attempt(&credentials, far())).await
    }

    async fn login(&self, params: CertificateParams) -> Result<Authentication, AuthnError> {
        self.send(verified(&pem(params))).await
    }
}

#[test]
fn names_come_in_the_order_of_nats_server() {
    let mut params = params(&[
        uri("spiffe://example.com/a"),
        dns("b.example.com"),
        email("z@example.com"),
        dns("a.example.com"),
        SanType::IpAddress([127, 0, 0, 1].into()),
        email("a@example.com"),
    ]);
    params.distinguished_name.push(DnType::OrganizationName, "Shop");
    params.distinguished_name.push(DnType::CommonName, "alice");
    assert_eq!(
        names(params),
        [
            "z@example.com",
            "a@example.com",
            "b.example.com",
            "a.example.com",
            "spiffe://example.com/a",
            "CN=alice,O=Shop",
        ]
    );
}

#[test]
fn a_subject_is_written_as_rfc_4514_has_it() {
    let email_address = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    for (parts, text) in [
        (vec![(DnType::CommonName, utf8("a,b+c\"d\\e<f>g;h=i"))], r#"CN=a\,b\+c\"d\\e\<f\>g\;h=i"#),
        (vec![(DnType::CommonName, utf8(" #a "))], r"CN=\ #a\ "),
        (vec![(DnType::CommonName, utf8("#a"))], r"CN=\#a"),
        (vec![(DnType::CommonName, utf8("Müller"))], "CN=Müller"),
        (
            vec![(email_address, DnValue::Ia5String("a".try_into().unwrap()))],
            "1.2.840.113549.1.9.1=#160161",
        ),
        (vec![(DnType::CommonName, DnValue::BmpString("a".try_into().unwrap()))], "CN=#1e020061"),
        (
            vec![
                (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
                (DnType::OrganizationalUnitName, utf8("orders")),
                (DnType::CommonName, utf8("alice")),
            ],
            "CN=alice,OU=orders,C=DE",
        ),
    ] {
        let names = names(with_subject(&parts));
        assert_eq!(names, [text]);
        name::check(text).unwrap();
    }
}

#[test]
fn names_that_are_none_are_left_out() {
    let long = format!("{}@example.com", "a".repeat(250));
    let params = params(&[
        dns("*.example.com"),
        dns("alice@example.com"),
        dns("CN=alice"),
        dns("a b"),
        email("CN=alice"),
        email("a@b@c"),
        email("a\n@example.com"),
        email(&long),
        uri("CN=alice"),
        uri("a.example.com"),
        dns("kept"),
    ]);
    assert_eq!(names(params), ["kept"]);
    assert_eq!(names(with_subject(&[(DnType::CommonName, utf8("a\0b"))])), [""; 0]);
    assert_eq!(names(with_subject(&[(DnType::CommonName, utf8("a\nb"))])), [""; 0]);
}

#[tokio::test]
async fn a_name_in_a_row_is_its_user_until_the_certificate_ends() {
    let case = case();
    case.store.put(user("alice", "alice@example.com"));
    let principal = accepted(case.login(params(&[email("alice@example.com")])).await);
    assert_eq!(principal.record().user.name, "alice");
    let ends = date_time_ymd(2027, 12, 31).unix_timestamp();
    assert_eq!((principal.method(), principal.expires_at()), ("certificate", Some(ends)));
    assert_eq!(case.store.reads(), (1, 0));
}

#[tokio::test]
async fn a_certificate_is_one_users_by_whichever_of_its_names() {
    let case = case();
    case.store.put(user("by-subject", "CN=alice"));
    let mut both = params(&[email("nobody@example.com"), dns("app")]);
    both.distinguished_name.push(DnType::CommonName, "alice");
    let principal = accepted(case.login(both.clone()).await);
    assert_eq!(principal.record().user.name, "by-subject");

    // Whoever may write a row would else put himself in another's place, or in front of it.
    for name in ["nobody@example.com", "app"] {
        let case = self::case();
        case.store.put(user("by-subject", "CN=alice"));
        case.store.put(user("trap", name));
        assert_eq!(refused(case.login(both.clone()).await), DenyReason::AmbiguousCertificate);
        let mut suspended = user("trap", name);
        suspended.user.status = Status::Suspended;
        case.store.put(suspended);
        assert_eq!(refused(case.login(both.clone()).await), DenyReason::AmbiguousCertificate);
    }
}

/// One more than are looked up at most.
#[tokio::test]
async fn so_many_names_are_looked_up_and_no_more() {
    let case = case();
    case.store.put(user("last", "host-32"));
    let hosts: Vec<SanType> = (0..33).map(|n| dns(&format!("host-{n}"))).collect();
    assert_eq!(refused(case.login(params(&hosts)).await), DenyReason::UnknownCertificate);
    assert_eq!(case.store.reads(), (32, 32));
    accepted(case.login(params(&hosts[1..])).await);
}

#[tokio::test]
async fn a_certificate_is_good_within_its_time_alone() {
    let case = case();
    case.store.put(user("alice", "alice"));
    let alice = || params(&[dns("alice")]);
    let (begins, ends) = (alice().not_before.unix_timestamp(), alice().not_after.unix_timestamp());
    assert!(begins < NOW && NOW < ends);
    for (now, reason) in [
        (begins - CLOCK_LEEWAY - 1, Some(DenyReason::UnknownCertificate)),
        (begins - CLOCK_LEEWAY, None),
        (ends - 1, None),
        (ends, Some(DenyReason::TokenExpired)),
    ] {
        case.clock.0.store(now, SeqCst);
        match reason {
            None => drop(accepted(case.login(alice()).await)),
            Some(reason) => assert_eq!(refused(case.login(alice()).await), reason, "{now}"),
        }
    }
}

#[tokio::test]
async fn what_no_server_has_verified_is_not_looked_at() {
    let case = case();
    case.store.put(user("alice", "alice"));
    let pem = pem(params(&[dns("alice")]));
    let unverified = ClientTls { unverified_certs: vec![pem.clone()], ..ClientTls::default() };
    assert_eq!(refused(case.send(unverified).await), DenyReason::UnknownCertificate);

    // The client's own certificate is the first of its chain.
    let other = self::pem(params(&[dns("other")]));
    let tls = ClientTls { verified_chains: vec![vec![other, pem]], ..ClientTls::default() };
    assert_eq!(refused(case.send(tls).await), DenyReason::UnknownCertificate);
}

#[tokio::test]
async fn what_cannot_be_read_in_full_is_refused() {
    let case = case();
    case.store.put(user("alice", "alice"));
    let good = pem(params(&[dns("alice")]));
    accepted(case.send(verified(&good)).await);
    let twice = {
        let mut params = params(&[dns("alice")]);
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0])];
        pem(params)
    };
    let malformed = {
        let mut params = params(&[]);
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x04, 1, 0])];
        params.distinguished_name.push(DnType::CommonName, "alice");
        pem(params)
    };
    case.store.put(user("by-subject", "CN=alice"));
    for (what, text) in [
        ("nothing", String::new()),
        ("no PEM", "alice".to_owned()),
        ("no base64", good.replace('M', "*")),
        ("cut", good[..good.len() / 2].to_owned()),
        ("another label", good.replace("CERTIFICATE", "PUBLIC KEY")),
        ("alternative names twice", twice),
        ("alternative names that are none", malformed),
    ] {
        let answer = case.send(verified(&text)).await;
        assert_eq!(refused(answer), DenyReason::UnknownCertificate, "{what}");
    }
}

#[tokio::test]
async fn every_refusal_reads_the_database() {
    let case = case();
    let alice = || params(&[dns("alice")]);
    assert_eq!(refused(case.login(alice()).await), DenyReason::UnknownCertificate);
    assert_eq!(case.store.reads(), (1, 1));
    let mut suspended = user("alice", "alice");
    suspended.user.status = Status::Suspended;
    case.store.put(suspended);
    assert_eq!(refused(case.login(alice()).await), DenyReason::UserSuspended);
    case.store.put_database(user("alice", "alice"));
    accepted(case.login(alice()).await);

    case.store.outage.store(true, SeqCst);
    let answer = case.login(alice()).await;
    assert!(matches!(answer, Err(AuthnError::Store(StoreError::Unavailable(_)))));
    let none = Credentials::None;
    let answer = case.authenticator.authenticate(attempt(&none, far())).await;
    assert!(matches!(answer, Ok(Authentication::NotMine)));
}
