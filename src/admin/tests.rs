use super::fakes::{ACME, ALICE, Deployment, Seen, acme};
use super::*;
use crate::keys::{KeyKind, SigningKey};
use crate::store::{Isolation, Status, UserKind};

const ACTIVE: Option<Status> = Some(Status::Active);
const SUSPENDED: Option<Status> = Some(Status::Suspended);
const GONE: Option<Status> = None;

fn tenant(seen: Seen) -> Option<Status> {
    seen.tenant
}

fn alice(seen: Seen) -> Option<Status> {
    seen.alice
}

fn request() -> NewTenantRequest {
    NewTenantRequest::new(acme(), "Acme Ltd".parse().unwrap())
}

fn service(publish: &[&str]) -> NewUserRequest {
    let publish = publish.iter().map(|subject| subject.parse().unwrap()).collect();
    let role = Role::Service { publish, subscribe: Vec::new() };
    NewUserRequest::new(acme(), ALICE.parse().unwrap(), role)
}

/// A tenant with a user, ready for an operation.
async fn inhabited(deployment: Deployment) -> Deployment {
    deployment.admin.add_tenant(request()).await.unwrap();
    deployment.admin.add_user(service(&["orders.*"])).await.unwrap();
    deployment.begin().await;
    deployment
}

async fn with_own_account() -> Deployment {
    inhabited(Deployment::in_operator_mode().await).await.with_account().await
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_everywhere_before_its_connections_are_closed() {
    let deployment = with_own_account().await;
    assert_eq!(deployment.admin.suspend_tenant(&acme()).await.unwrap(), Some(2));
    let steps =
        [("look", ACTIVE), ("settle", SUSPENDED), ("bring", SUSPENDED), ("close", SUSPENDED)];
    assert_eq!(deployment.steps(tenant), steps);
    assert_eq!(deployment.remarks(), [""; 0]);
    // Once more: servers know what its account is good for.
    deployment.begin().await;
    deployment.admin.suspend_tenant(&acme()).await.unwrap();
    let steps = [("look", SUSPENDED), ("settle", SUSPENDED), ("close", SUSPENDED)];
    assert_eq!(deployment.steps(tenant), steps);
    // And back.
    deployment.begin().await;
    deployment.admin.resume_tenant(&acme()).await.unwrap();
    let steps =
        [("look at nobody", SUSPENDED), ("settle", ACTIVE), ("bring", ACTIVE), ("close", ACTIVE)];
    assert_eq!(deployment.steps(tenant), steps);
}

#[tokio::test]
async fn a_removed_tenant_is_gone_everywhere_before_its_account_is() {
    let deployment = with_own_account().await;
    let removed = deployment.admin.remove_tenant(&acme(), false).await.unwrap();
    assert_eq!(removed, Removed { kicked: Some(2), streams_deleted: None });
    let steps = [("look", ACTIVE), ("settle", GONE), ("close", GONE), ("forget", GONE)];
    assert_eq!(deployment.steps(tenant), steps);
    let remarks = deployment.remarks();
    assert!(
        remarks.len() == 1 && remarks[0].contains("a purge would have deleted it"),
        "{remarks:?}"
    );
}

#[tokio::test]
async fn a_tenant_s_streams_are_deleted_once_nobody_can_write_and_before_its_row_is() {
    let deployment = with_own_account().await;
    let removed = deployment.admin.remove_tenant(&acme(), true).await.unwrap();
    assert_eq!(removed, Removed { kicked: Some(2), streams_deleted: Some(3) });
    let steps = [
        ("look", ACTIVE),
        ("settle", SUSPENDED),
        ("close", SUSPENDED),
        ("purge", SUSPENDED),
        ("settle", GONE),
        ("close", GONE),
        ("forget", GONE),
    ];
    assert_eq!(deployment.steps(tenant), steps);
    assert_eq!(deployment.remarks(), [""; 0]);
}

#[tokio::test]
async fn without_nats_no_data_is_deleted_and_no_tenant_with_data() {
    let deployment = with_own_account().await.failing("look");
    let error = deployment.admin.remove_tenant(&acme(), true).await.unwrap_err().0;
    assert!(matches!(error, AdminError::NothingRemoved(_)), "{error:?}");
    assert_eq!(deployment.admin.tenant(&acme()).await.unwrap().status, Status::Active);
    assert_eq!(deployment.steps(tenant), [("look", ACTIVE)]);

    let deployment = with_own_account().await.failing("purge");
    let error = deployment.admin.remove_tenant(&acme(), true).await.unwrap_err().0;
    assert!(matches!(error, AdminError::NotRemoved { .. }), "{error:?}");
    assert_eq!(deployment.admin.tenant(&acme()).await.unwrap().status, Status::Suspended);
    assert_eq!(deployment.steps(tenant).last(), Some(&("purge", SUSPENDED)));
}

#[tokio::test]
async fn without_nats_a_change_is_made_all_the_same() {
    let deployment = with_own_account().await.failing("look");
    deployment.admin.suspend_tenant(&acme()).await.unwrap();
    let steps =
        [("look", ACTIVE), ("settle", SUSPENDED), ("bring", SUSPENDED), ("close", SUSPENDED)];
    assert_eq!(deployment.steps(tenant), steps);
    let remarks = deployment.remarks();
    assert!(remarks.len() == 1 && remarks[0].contains("does not answer"), "{remarks:?}");

    let deployment = with_own_account().await.failing("close");
    assert_eq!(
        deployment.admin.change_user(&acme(), ALICE, UserChange::Suspend).await.unwrap(),
        None
    );
    assert_eq!(deployment.steps(alice).last(), Some(&("close", SUSPENDED)));
}

#[tokio::test]
async fn a_user_is_refused_everywhere_before_its_connections_are_closed() {
    let deployment = with_own_account().await;
    let admin = &deployment.admin;
    assert_eq!(admin.change_user(&acme(), ALICE, UserChange::Suspend).await.unwrap(), Some(2));
    let steps = [("look", ACTIVE), ("settle", SUSPENDED), ("close", SUSPENDED)];
    assert_eq!(deployment.steps(alice), steps);
    deployment.begin().await;
    admin.change_user(&acme(), ALICE, UserChange::Resume).await.unwrap();
    let steps = [("look at nobody", SUSPENDED), ("settle", ACTIVE), ("close", ACTIVE)];
    assert_eq!(deployment.steps(alice), steps);
    deployment.begin().await;
    admin.change_user(&acme(), ALICE, UserChange::Remove).await.unwrap();
    assert_eq!(deployment.steps(alice), [("look", ACTIVE), ("settle", GONE), ("close", GONE)]);
}

#[tokio::test]
async fn a_password_or_token_of_old_has_stopped_working_everywhere_in_the_end() {
    let deployment = with_own_account().await;
    let admin = &deployment.admin;
    admin.set_user_password(&acme(), ALICE, None).await.unwrap();
    assert_eq!(deployment.steps(|seen| seen.first_password), [("settle", false)]);

    let (user, label) = (ALICE.to_owned(), Some("ci".parse().unwrap()));
    let token = NewTokenRequest { tenant: acme(), user, label, expires: None };
    admin.add_token(token).await.unwrap();
    let [listed] = &admin.tokens(Some(&acme()), Some(ALICE)).await.unwrap()[..] else { panic!() };
    assert_eq!(listed.label.as_deref(), Some("ci"));
    deployment.begin().await;
    admin.remove_token(&listed.id).await.unwrap();
    assert_eq!(deployment.steps(|seen| seen.tokens), [("settle", 0)]);
}

#[tokio::test]
async fn what_is_not_there_is_named_and_nothing_is_done() {
    let deployment = with_own_account().await;
    let (admin, other) = (&deployment.admin, "other".parse().unwrap());
    let missing = [
        admin.suspend_tenant(&other).await.map(drop),
        admin.remove_tenant(&other, true).await.map(drop),
        admin.change_user(&acme(), "bob", UserChange::Suspend).await.map(drop),
        admin.change_user(&other, ALICE, UserChange::Remove).await.map(drop),
        admin.set_user_password(&acme(), "bob", None).await.map(drop),
        admin.tokens(Some(&acme()), Some("bob")).await.map(drop),
        admin.remove_token("none").await,
    ];
    for result in missing {
        let error = result.unwrap_err().0;
        assert!(matches!(error, AdminError::Store(StoreError::Missing { .. })), "{error:?}");
    }
    assert_eq!(deployment.steps(tenant), []);
}

#[tokio::test]
async fn a_tenant_has_an_admin_and_limits_of_its_own_account() {
    let deployment = Deployment::in_operator_mode().await;
    let added = deployment.admin.add_tenant(request()).await.unwrap();
    assert_eq!(added.isolation, Isolation::Account);
    let limits = deployment.admin.tenant(&acme()).await.unwrap().limits;
    assert_eq!((limits.memory, limits.storage), (64 << 20, 5 << 30));
    let admin = deployment.admin.user(&acme(), ACME).await.unwrap();
    assert_eq!((admin.kind, admin.policy.as_deref()), (UserKind::Bb, Some("admin")));
    let remarks = deployment.remarks();
    assert!(remarks.len() == 1 && remarks[0].contains("JetStream maxima"), "{remarks:?}");

    let shared = NewTenantRequest {
        id: "shared".parse().unwrap(),
        isolation: Some(Isolation::Shared),
        ..request()
    };
    let added = deployment.admin.add_tenant(shared).await.unwrap();
    assert!(!added.tenant.limits.jetstream());
}

#[tokio::test]
async fn a_tenant_that_cannot_be_is_refused() {
    let deployment = Deployment::in_config_mode().await;
    let add = async |request| deployment.admin.add_tenant(request).await.map_err(|error| error.0);
    let own = NewTenantRequest { isolation: Some(Isolation::Account), ..request() };
    assert!(matches!(add(own).await, Err(AdminError::NoOwnAccounts)));
    let answers = NewTenantRequest { answers: true, ..request() };
    assert!(matches!(add(answers).await, Err(AdminError::AnsweredAnyway)));
    let past = NewTenantRequest { expires: Some(When::At(1)), ..request() };
    assert!(matches!(add(past).await, Err(AdminError::Expiry(_))));
    assert_eq!(deployment.admin.tenants().await.unwrap(), []);
    add(request()).await.unwrap();
}

#[tokio::test]
async fn what_a_service_s_lists_come_to_is_said() {
    let deployment = Deployment::in_config_mode().await;
    let admin = &deployment.admin;
    admin.add_tenant(request()).await.unwrap();
    let added = admin.add_user(service(&["orders.*"])).await.unwrap();
    assert!(added.password.is_some());
    admin.change_user(&acme(), ALICE, UserChange::Remove).await.unwrap();
    let (key, _seed) = SigningKey::generate(KeyKind::User).unwrap();
    let by_nkey = NewUserRequest { nkey: key.public().ok(), ..service(&[]) };
    assert!(admin.add_user(by_nkey).await.unwrap().password.is_none());
    let remarks = deployment.remarks();
    assert!(remarks[0].contains("user.acme.orders.*"), "{remarks:?}");
    assert!(remarks.last().unwrap().contains("no subjects"), "{remarks:?}");
}

#[test]
fn names_are_printed_and_passwords_hold_out() {
    for name in ["", "a\n", " a", "nct_0123456789ABCDEFGHIJKLMNOPQRSTUV3YmFeT", &"x".repeat(129)] {
        assert!(name.parse::<Name>().is_err(), "{name:?}");
    }
    assert_eq!("Alice Ltd".parse::<Name>().unwrap().to_string(), "Alice Ltd");
    assert!("CN=alice,O=Shop".parse::<CertificateName>().is_ok());
    assert!("nct_0123456789ABCDEFGHIJKLMNOPQRSTUV3YmFeT".parse::<CertificateName>().is_err());
    assert_eq!(Password::new("").unwrap_err(), PasswordError::Empty);
    assert_eq!(Password::new(&"x".repeat(1_025)).unwrap_err(), PasswordError::TooLong);
    let token = crate::authn::token::Token::generate().unwrap();
    assert_eq!(Password::new(token.expose()).unwrap_err(), PasswordError::Token);
    let password = Password::new("hunter2").unwrap();
    assert!(!format!("{password:?}").contains("hunter2"));
}

/// Any thread of a server may work on a deployment.
#[tokio::test]
async fn operations_run_on_any_thread() {
    let deployment = with_own_account().await;
    let admin = deployment.admin.clone();
    let task = tokio::spawn(async move { admin.remove_tenant(&acme(), true).await });
    assert_eq!(task.await.unwrap().unwrap().streams_deleted, Some(3));
}
