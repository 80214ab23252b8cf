//! A deployment whose servers and instances are not there: it records which steps an operation takes,
//! and what the tenant table, a real one, says by then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::running::Steps;
use super::{Admin, AdminError, Error};
use crate::config::{Config, DEFAULT_FILE, Files};
use crate::connections::Selection;
use crate::deployment::creds::creds;
use crate::keys::{AccountId, KeyKind, SigningKey, random_account_id};
use crate::protocol::claims::{Permissions, UserBody};
use crate::store::open::{self, StoreOptions};
use crate::store::{Status, TenantId, TenantRecord};

/// The tenant that operations are about, and the user.
pub(super) const ACME: &str = "acme";
pub(super) const ALICE: &str = "alice";

const OPERATOR: &str = "mode = \"operator\"\n[callout]\naccount = \"ACCOUNT\"\n\
    response_signing = [\"keys/r.nk\"]\n[operator]\noperator_signing = [\"keys/o.nk\"]\n\
    user_signing = [\"keys/u.nk\"]\nbb_account = \"ACCOUNT\"\nusers_account = \"ACCOUNT\"\n\
    answers_account = \"ACCOUNT\"\n";
const CONFIG: &str = "mode = \"config\"\n[callout]\nissuer = [\"keys/issuer.nk\"]\n";

/// What the table says when a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) tenant: Option<Status>,
    pub(super) alice: Option<Status>,
    pub(super) tokens: usize,
    /// Whether Alice has the password that she was given first.
    pub(super) first_password: bool,
}

/// What has happened so far.
#[derive(Default)]
struct Record {
    steps: Vec<(&'static str, Seen)>,
    remarks: Vec<String>,
    /// The step that fails.
    fails: Option<&'static str>,
    first_hash: Option<String>,
}

pub(super) struct Deployment {
    pub(super) admin: Admin,
    record: Arc<Mutex<Record>>,
    _folder: tempfile::TempDir,
}

impl Deployment {
    pub(super) async fn in_operator_mode() -> Self {
        Self::new(OPERATOR).await
    }

    pub(super) async fn in_config_mode() -> Self {
        Self::new(CONFIG).await
    }

    async fn new(mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_keys(folder.path());
        // A port on which no server listens.
        let text = format!("[nats]\nurl = \"nats://127.0.0.1:1\"\n{mode}")
            + "[database]\nurl = \"sqlite://tenants.db\"\n";
        let text = text.replace("ACCOUNT", random_account_id().unwrap().as_str());
        let file = folder.path().join(DEFAULT_FILE);
        fs::write(&file, text).unwrap();
        let config = Config::load_with(&file, Files::Unchecked, []).unwrap().config;
        let store = open::open(config.database.url.expose(), &StoreOptions::default()).await;
        let record = Arc::new(Mutex::new(Record::default()));
        let heard = Arc::clone(&record);
        let remark = move |text: &str| heard.lock().unwrap().remarks.push(text.to_owned());
        let mut admin = Admin::new(config, store.unwrap()).with_remarks(remark);
        let steps = Arc::clone(&record);
        admin.running = Arc::new(move |admin: &Admin| {
            Box::new(Recording { admin: admin.clone(), record: Arc::clone(&steps) })
        });
        Self { admin, record, _folder: folder }
    }

    /// Gives the tenant the account that its first login would have given it.
    pub(super) async fn with_account(self) -> Self {
        let tenant = self.admin.tenant(&acme()).await.unwrap();
        let account = random_account_id().unwrap();
        self.admin.store.account_of(&tenant, account).await.unwrap().unwrap();
        self
    }

    /// Lets a step fail from now on.
    pub(super) fn failing(self, step: &'static str) -> Self {
        self.record.lock().unwrap().fails = Some(step);
        self
    }

    /// Forgets what has happened, and takes Alice's password for the first.
    pub(super) async fn begin(&self) {
        let users = self.admin.users(&acme()).await.unwrap();
        let alice = users.into_iter().find(|user| user.name == ALICE);
        let mut record = self.record.lock().unwrap();
        record.steps.clear();
        record.remarks.clear();
        record.first_hash = alice.and_then(|user| Some(user.password_hash?.expose().to_owned()));
    }

    /// The steps that were taken, each with what of the table is asked for.
    pub(super) fn steps<T: Clone>(&self, of: impl Fn(Seen) -> T) -> Vec<(&'static str, T)> {
        let record = self.record.lock().unwrap();
        record.steps.iter().map(|(step, seen)| (*step, of(*seen))).collect()
    }

    pub(super) fn remarks(&self) -> Vec<String> {
        self.record.lock().unwrap().remarks.clone()
    }
}

pub(super) fn acme() -> TenantId {
    ACME.parse().unwrap()
}

/// The system account's login, whose file says which account that is.
fn write_keys(folder: &Path) {
    let keys = folder.join("keys");
    fs::create_dir(&keys).unwrap();
    fs::set_permissions(&keys, PermissionsExt::from_mode(0o700)).unwrap();
    let (account, _) = SigningKey::generate(KeyKind::Account).unwrap();
    let (user, seed) = SigningKey::generate(KeyKind::User).unwrap();
    let body = UserBody::new(Permissions::default());
    let creds = creds("sys", (&user, &seed), &account, body, 0).unwrap();
    let file = keys.join("sys.creds");
    fs::write(&file, creds).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
}

struct Recording {
    admin: Admin,
    record: Arc<Mutex<Record>>,
}

impl Recording {
    async fn step(&self, step: &'static str) -> Result<(), Error> {
        let tenant = self.admin.store.tenant(&acme()).await.unwrap();
        let users = self.admin.users(&acme()).await.unwrap();
        let alice = users.iter().find(|user| user.name == ALICE);
        let tokens = self.admin.store.tokens().await.unwrap().len();
        let hash = alice.and_then(|user| user.password_hash.as_ref()).map(|hash| hash.expose());
        let mut record = self.record.lock().unwrap();
        let seen = Seen {
            tenant: tenant.map(|tenant| tenant.status),
            alice: alice.map(|user| user.status),
            tokens,
            first_password: hash == record.first_hash.as_deref(),
        };
        record.steps.push((step, seen));
        if record.fails == Some(step) { Err(AdminError::silent().into()) } else { Ok(()) }
    }
}

#[async_trait]
impl Steps for Recording {
    async fn look(&mut self, selection: Selection) -> Result<usize, Error> {
        let step = if selection.is_empty() { "look at nobody" } else { "look" };
        self.step(step).await.map(|()| 2)
    }

    async fn settle(&mut self) {
        self.step("settle").await.unwrap()
    }

    async fn bring(&mut self, _: &TenantId) -> Result<(), Error> {
        self.step("bring").await
    }

    async fn close(&mut self) -> Option<usize> {
        self.step("close").await.ok().map(|()| 2)
    }

    async fn purge(&mut self, tenant: &TenantRecord, _: AccountId) -> Result<usize, Error> {
        // The account is made by this row: one from before would let its users go on.
        assert_eq!(tenant.status, Status::Suspended);
        self.step("purge").await.map(|()| 3)
    }

    async fn forget(&mut self, _: AccountId) -> Result<(), Error> {
        self.step("forget").await
    }
}
