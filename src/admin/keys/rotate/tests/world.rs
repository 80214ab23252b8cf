//! A deployment of one server and one instance: its files are there, and what reads them is made up.
//! What happens to it is noted, together with what its files say at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tempfile::TempDir;

use super::super::super::claims::{HeldAccount, operator_keys};
use super::super::super::fleet::{Fleet, Requests, ServerKeys};
use super::super::super::instances::Instances;
use super::super::super::journal::Journal;
use super::super::super::{Admin, KeysError, files};
use super::super::site::Site;
use super::super::{RotationRequest, Rotator, Wait};
use super::written::{AccountsByName, config_mode, operator_mode};
use crate::accounts::resolver::ResolverError;
use crate::causes;
use crate::clock::{Clock, UnixSeconds};
use crate::config::{Config, Files};
use crate::deployment::KeyRole;
use crate::deployment::key_role::{self, KeysOfInstance};
use crate::keys::{AccountId, XKey};
use crate::store::open::{self, StoreOptions};

/// How long grants live, in seconds.
const TTL: UnixSeconds = 3_600;

/// How often a rotation waits, at most.
const WAITS: usize = 20;

pub(super) struct World {
    folder: TempDir,
    /// The key that is rotated.
    key: KeyRole,
    admin: Admin,
    clock: Arc<SetClock>,
    state: Mutex<State>,
    /// How many questions are answered before one is not.
    answers: AtomicUsize,
}

struct State {
    /// The accounts that the server holds, by their names.
    accounts: AccountsByName,
    accounts_before: AccountsByName,
    operator: String,
    /// What the server has in config mode.
    served: ServerKeys,
    instance: KeysOfInstance,
    /// Generations in the order in which they were seen: A, B, C.
    generations: Vec<String>,
    events: Vec<String>,
}

#[derive(Debug)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> UnixSeconds {
        self.0.load(Relaxed)
    }
}

impl World {
    /// A deployment as `init` writes it, whose server and instance know one generation alone.
    pub(super) async fn new(key: KeyRole) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        for folder in [&keys, &keys.join("offline")] {
            fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
        }
        let accounts = match key {
            KeyRole::Issuer => config_mode(&folder),
            _ => operator_mode(&folder),
        };
        let config = load(&folder);
        let database = format!("sqlite://{}/tenants.db", folder.path().display());
        let store = open::open(&database, &StoreOptions::default()).await.unwrap();
        let clock = Arc::new(SetClock(AtomicI64::new(1_000)));
        let mut admin = Admin::new(config.clone(), store);
        admin.clock = clock.clone();
        let listed = key.public(&config).unwrap();
        let mut keys = key_role::of(&config).unwrap();
        keys.values_mut().for_each(|generations| generations.truncate(1));
        let first = |key: KeyRole| {
            keys.get(key.name()).and_then(|it| it.first()).cloned().unwrap_or_default()
        };
        let served = ServerKeys { issuer: first(KeyRole::Issuer), xkey: first(KeyRole::Xkey) };
        let operator = files::tokens_in_confs(&config, "operator").pop().unwrap_or_default();
        let ttl = u64::try_from(TTL).unwrap();
        let instance = KeysOfInstance { instance: "one".to_owned(), ttl, keys };
        let state = State {
            accounts_before: accounts.clone(),
            accounts,
            operator,
            served,
            instance,
            generations: listed,
            events: Vec::new(),
        };
        let answers = AtomicUsize::new(usize::MAX);
        Arc::new(Self { folder, key, admin, clock, state: Mutex::new(state), answers })
    }

    pub(super) fn rotator(self: &Arc<Self>, now: bool) -> Rotator {
        let config = load(&self.folder);
        let site = Site::enter(&config, None).unwrap();
        let journal = Journal::read(&site.folder).unwrap();
        let request = RotationRequest { keys: vec![self.key], offline: None, now };
        Rotator::with(&self.admin, config, site, journal, Box::new(Shown(self.clone())), request)
    }

    /// Rotates to the end, and does what is asked for on the way.
    pub(super) async fn rotate(self: &Arc<Self>, now: bool) {
        let mut rotator = self.rotator(now);
        for _ in 0..WAITS {
            let Some(wait) = rotator.advance().await.unwrap().remove(0).wait else { return };
            self.obey(&wait);
        }
        panic!("no end of it: {:#?}", self.events());
    }

    /// [`Self::rotate`] that is stopped at every question, one after the other, and begun again.
    pub(super) async fn rotate_with_stops(self: &Arc<Self>) {
        for _ in 0..WAITS {
            let mut questions = 0;
            let progress = loop {
                let mut rotator = self.rotator(false);
                self.answers.store(questions, Relaxed);
                match rotator.advance().await {
                    Ok(mut progress) => break progress.remove(0),
                    Err(error) => assert!(causes::chain(&error).contains("no answer"), "{error}"),
                }
                questions += 1;
            };
            let Some(wait) = progress.wait else { return };
            self.obey(&wait);
        }
        panic!("no end of it: {:#?}", self.events());
    }

    /// The server goes by what it had before the rotation.
    pub(super) fn lose_changes(&self) {
        let mut state = self.state();
        state.accounts = state.accounts_before.clone();
        state.served.issuer = state.generations[0].clone();
    }

    pub(super) fn obey(&self, wait: &Wait) {
        match wait {
            Wait::Instances(_) => self.restart_instance(),
            Wait::Servers(_) => self.restart_server(),
            Wait::Until(until) => {
                assert_eq!(*until, self.clock.now() + TTL + 5);
                self.clock.0.store(*until, Relaxed);
                self.note("grants end");
            }
        }
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.state().events.clone()
    }

    /// What the configuration lists now, and the seeds that there are.
    pub(super) fn files(&self) -> String {
        let config = load(&self.folder);
        let keys = self.folder.path().join("keys");
        let mut seeds = files::seeds_in(self.key, &keys);
        seeds.extend(files::seeds_in(self.key, &keys.join("offline")));
        let seeds: BTreeSet<String> = seeds.into_iter().map(|(public, _)| public).collect();
        let listed = self.letters(&self.key.public(&config).unwrap());
        format!("lists {listed}, seeds {}", self.sorted(seeds))
    }

    fn restart_instance(&self) {
        self.state().instance.keys = key_role::of(&load(&self.folder)).unwrap();
        self.note("instance restarts");
    }

    fn restart_server(&self) {
        let conf = fs::read_to_string(self.folder.path().join("nats-server.conf")).unwrap();
        let value = |name: &str| {
            let line = conf.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        let mut state = self.state();
        state.operator = value("operator: ");
        state.served = ServerKeys { issuer: value("issuer: "), xkey: value("xkey: ") };
        drop(state);
        self.note("server restarts");
    }

    fn hold(&self, token: &str) {
        let held = HeldAccount::read(token).unwrap();
        let mut state = self.state();
        let mut accounts = state.accounts.iter_mut();
        let account = accounts.find(|(_, (id, _))| id.as_str() == held.claims.subject);
        let (&name, (_, kept)) = account.unwrap();
        *kept = token.to_owned();
        drop(state);
        let what = match self.key {
            KeyRole::OperatorSigning => {
                format!("{name} signed by {}", self.letters(&[held.issuer.to_string()]))
            }
            KeyRole::Xkey => {
                format!("{name} seals for {}", self.letters(&[held.xkey().unwrap().to_owned()]))
            }
            _ => format!("{name} knows {}", self.sorted(held.listed())),
        };
        self.note(&what);
    }

    /// Notes what has happened, with what the files say, and that no login fails now.
    fn note(&self, what: &str) {
        let journal = Journal::read(&self.folder.path().join("keys")).unwrap();
        let noted = journal.get(self.key).map(|it| {
            let all = [&it.old, &it.new].into_iter().chain(&it.next);
            self.letters(&all.cloned().collect::<Vec<_>>())
        });
        let event = format!("{what}; {}, noted {}", self.files(), noted.unwrap_or_default());
        self.state().events.push(event);
        self.check();
    }

    /// The instance's answers are taken, and it can open what it is asked.
    fn check(&self) {
        let state = self.state();
        let has = &state.instance.keys[self.key.name()];
        let held = |name: &str| HeldAccount::read(&state.accounts[name].1).unwrap();
        let is_known = match self.key {
            KeyRole::OperatorSigning => {
                let trusted = operator_keys(&state.operator);
                let mut signers = state.accounts.keys().map(|name| held(name).issuer.to_string());
                trusted.contains(&has[0]) && signers.all(|signer| trusted.contains(&signer))
            }
            KeyRole::UserSigning => held("USERS").listed().contains(&has[0]),
            KeyRole::ResponseSigning => held("AUTH").listed().contains(&has[0]),
            KeyRole::Xkey => {
                held("AUTH").xkey().is_some_and(|xkey| has.iter().any(|it| it == xkey))
            }
            KeyRole::Issuer => has.contains(&state.served.issuer),
        };
        assert!(is_known, "{:#?}", state.events);
    }

    fn letters(&self, publics: &[String]) -> String {
        let generations = &mut self.state().generations;
        let letter = |public: &String| {
            let found = generations.iter().position(|known| known == public);
            let index = found.unwrap_or_else(|| {
                generations.push(public.clone());
                generations.len() - 1
            });
            char::from(b'A' + u8::try_from(index).unwrap())
        };
        publics.iter().map(letter).collect()
    }

    fn sorted(&self, publics: BTreeSet<String>) -> String {
        let mut letters: Vec<char> = self.letters(&Vec::from_iter(publics)).chars().collect();
        letters.sort_unstable();
        String::from_iter(letters)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn asked(&self) -> Result<(), ResolverError> {
        let left = self.answers.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| ResolverError::Silent(vec!["one".to_owned()]))
    }
}

/// The server and the instance, as a rotation sees them.
struct Shown(Arc<World>);

impl Shown {
    fn answer<T>(&self, of: impl FnOnce(&World) -> T) -> Result<T, KeysError> {
        let answer = self.0.asked().map(|()| of(&self.0));
        answer.map_err(KeysError::from)
    }
}

#[async_trait]
impl Fleet for Shown {
    async fn instances(&self) -> Result<Instances, KeysError> {
        self.answer(|world| Instances::of([world.state().instance.clone()]))
    }

    async fn operators(&self) -> Result<BTreeMap<String, Vec<String>>, KeysError> {
        self.answer(|world| {
            BTreeMap::from([("one".to_owned(), vec![world.state().operator.clone()])])
        })
    }

    async fn accounts(&self) -> Result<Vec<AccountId>, KeysError> {
        self.answer(|world| world.state().accounts.values().map(|(id, _)| *id).collect())
    }

    async fn held_by(
        &self,
        account: &AccountId,
        _servers: usize,
    ) -> Result<Vec<HeldAccount>, KeysError> {
        self.answer(|world| {
            let state = world.state();
            let held = state.accounts.values().filter(|(id, _)| id == account);
            held.map(|(_, token)| HeldAccount::read(token).unwrap()).collect()
        })
    }

    async fn hold(&self, token: &str) -> Result<(), ResolverError> {
        let asked = self.0.asked();
        if asked.is_ok() {
            self.0.hold(token);
        }
        asked
    }

    async fn requests(&self, _config: &Config, _xkeys: Vec<XKey>) -> Result<Requests, KeysError> {
        self.answer(|world| {
            let ServerKeys { issuer, xkey } = &world.state().served;
            let keys = ServerKeys { issuer: issuer.clone(), xkey: xkey.clone() };
            Requests { keys: BTreeMap::from([("one".to_owned(), keys)]), ..Requests::default() }
        })
    }
}

fn load(folder: &TempDir) -> Config {
    let file = folder.path().join("nats-callout.toml");
    Config::load_with(&file, Files::MustExist, []).unwrap().config
}
