//! Every generation of every key, by its public half, where it lies, and how many instances and
//! servers know it.

use std::path::PathBuf;

use super::claims::operator_keys;
use super::fleet::{Fleet, held};
use super::journal::Journal;
use super::servers::RunningFleet;
use super::{Admin, Error, Result, files, folder};
use crate::config::{Config, Mode};
use crate::deployment::KeyRole;
use crate::keyfile;

/// What there is of keys.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listing {
    /// Every generation of every key.
    pub generations: Vec<Generation>,
    /// The keys whose rotation is under way.
    pub under_way: Vec<KeyRole>,
    /// Why it is not known who knows which generation.
    pub unasked: Option<Error>,
}

/// One generation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Generation {
    /// The key.
    pub key: KeyRole,
    /// Its public half.
    pub public: String,
    /// What is made of it.
    pub state: State,
    /// Where it lies.
    pub file: PathBuf,
    /// The instances that know it.
    pub instances: Option<Known>,
    /// The servers that know it.
    pub servers: Option<Known>,
}

/// What is made of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It signs, or requests are sealed for it.
    InUse,
    /// It is listed beside the one in use.
    Known,
    /// It is not listed, and lies beside those that are.
    OutOfUse,
    /// It lies with the offline keys.
    Offline,
}

/// How many know it, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// Those that know it.
    pub know: usize,
    /// All.
    pub of: usize,
}

/// Lists them: public keys alone.
pub async fn list(admin: &Admin) -> Result<Listing, Error> {
    let config = &*admin.config;
    let folder = folder(config)?;
    let journal = Journal::read(&folder)?;
    let mut generations = Vec::new();
    for key in KeyRole::of(config) {
        generations.extend(listed(config, key)?);
        for (state, folder) in
            [(State::OutOfUse, folder.clone()), (State::Offline, folder.join("offline"))]
        {
            for (public, file) in files::seeds_in(key, &folder) {
                let is_there = |it: &Generation| {
                    it.public == public && (it.file == file || state != State::Offline)
                };
                if !generations.iter().any(is_there) {
                    generations.push(Generation::new(key, public, state, file));
                }
            }
        }
    }
    let unasked = match RunningFleet::connect(config, &admin.store).await {
        Ok(servers) => {
            ask_instances(&servers, &mut generations).await?;
            ask_servers(config, &servers, &mut generations).await?;
            None
        }
        Err(error) => Some(error),
    };
    Ok(Listing {
        generations,
        under_way: journal.keys_under_way(config),
        unasked: unasked.map(Error::from),
    })
}

impl State {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Known => "known",
            Self::OutOfUse => "out of use",
            Self::Offline => "offline",
        }
    }
}

impl Generation {
    fn new(key: KeyRole, public: String, state: State, file: PathBuf) -> Self {
        Self { key, public, state, file, instances: None, servers: None }
    }
}

/// Those in the configuration.
fn listed(config: &Config, key: KeyRole) -> Result<impl Iterator<Item = Generation>> {
    let states = std::iter::once(State::InUse).chain(std::iter::repeat(State::Known));
    let found = key.public(config)?.into_iter().zip(key.files(config)).zip(states);
    Ok(found.map(move |((public, file), state)| Generation::new(key, public, state, file.clone())))
}

async fn ask_instances(fleet: &dyn Fleet, generations: &mut [Generation]) -> Result<()> {
    let instances = fleet.instances().await?;
    let of = instances.count();
    for one in generations {
        let unfit = instances.unfit(one.key, |known| known.contains(&one.public)).len();
        one.instances = Some(Known { know: of - unfit, of });
    }
    Ok(())
}

async fn ask_servers(
    config: &Config,
    fleet: &dyn Fleet,
    generations: &mut [Generation],
) -> Result<()> {
    match &config.mode {
        Mode::Operator(mode) => {
            let operators = fleet.operators().await?;
            let auth = held(fleet, &mode.auth_account).await?;
            let users = held(fleet, &mode.users_account).await?;
            let of = operators.len();
            for Generation { key, public, servers, .. } in generations {
                let know = match key {
                    KeyRole::OperatorSigning => {
                        let lists = |token: &String| operator_keys(token).contains(public);
                        operators.values().filter(|tokens| tokens.iter().any(lists)).count()
                    }
                    KeyRole::UserSigning => {
                        users.iter().filter(|it| it.listed().contains(public)).count()
                    }
                    KeyRole::ResponseSigning => {
                        auth.iter().filter(|it| it.listed().contains(public)).count()
                    }
                    KeyRole::Xkey | KeyRole::Issuer => {
                        auth.iter().filter(|it| it.xkey() == Some(public)).count()
                    }
                };
                *servers = Some(Known { know, of });
            }
        }
        Mode::Config(_) => {
            let found = fleet.requests(config, keyfile::xkeys(&config.callout.xkey)?).await?;
            let of = found.keys.len() + found.unseen.len();
            for Generation { key, public, servers, .. } in generations {
                let know = found.keys.values().filter(|it| it.has(*key, public)).count();
                *servers = Some(Known { know, of });
            }
        }
    }
    Ok(())
}
