//! The service's configuration: `nats-callout.toml`, every key of which an environment variable
//! `NATS_CALLOUT_<SECTION>_<KEY>` overrides.
//!
//! It holds parsed values and the paths of key files, never key material, which
//! `keyfile` reads on demand. All mistakes are reported together.

mod database;
mod issuers;
mod keys;
mod log;
mod mode;
mod problem;
mod reader;
#[cfg(test)]
mod reference;
mod sections;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
pub(crate) mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use self::database::{DATABASE_REMEDY, Database, DatabaseUrl};
pub(crate) use self::mode::{ConfigMode, Intake, Mode, Notifications, OperatorMode};
pub(crate) use self::problem::ConfigError;
pub use self::problem::Error;
use self::reader::Reader;
#[cfg(feature = "cli")]
pub(crate) use self::reader::{Unread, unknown_variables, value_in};
#[cfg(feature = "cli")]
pub(crate) use self::sections::bare_address;
use self::settings::Applies;
use crate::authn::guessing::GuessingLimits;
use crate::authn::jwt::{IssuerSettings, KeyLocation, Users};
use crate::exposure::{Exposure, POLICIES, Trust, holds_password};
use crate::keyfile::{self, Audit};
use crate::store::Isolation;
use crate::streams::{Limits, StreamLimits};

/// The file's name where none is given.
pub(crate) const DEFAULT_FILE: &str = "nats-callout.toml";

/// Where Kubernetes mounts a pod's own token.
const POD_SECRETS: &str = "/var/run/secrets/kubernetes.io";

/// A file that a value was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueFile {
    pub(crate) path: PathBuf,
    /// Whether it holds a password or a secret.
    pub(crate) is_secret: bool,
    /// The variable that names it.
    pub(crate) variable: String,
}

/// Whether the files that a configuration names are looked for as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// They have to be there: the service needs them.
    MustExist,
    /// They are not looked at: the tenant table alone is needed.
    Unchecked,
}

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, absolute.
    pub(crate) file: PathBuf,
    /// That file's folder, where relative paths start.
    pub(crate) folder: PathBuf,
    /// Further files that values were read from, which variables name.
    pub(crate) value_files: Vec<ValueFile>,
    /// `[nats]`
    pub(crate) nats: Nats,
    /// `[callout]`
    pub(crate) callout: Callout,
    /// What only one of the two modes has.
    pub(crate) mode: Mode,
    /// `[tenants] isolation`: where a tenant's row names none.
    pub(crate) isolation: Isolation,
    /// `[bb]` and `[events]`: what the streams of events may hold, and who reads the service's own.
    pub(crate) streams: Limits,
    /// `[events]`
    pub(crate) events: Events,
    /// `[database]`
    pub(crate) database: Database,
    /// `[cache]`
    pub(crate) cache: Cache,
    /// `[hashing]`
    pub(crate) hashing: Hashing,
    /// `[guessing]`
    pub(crate) guessing: GuessingLimits,
    /// `[issuers.NAME]`: whose JWTs are logins, by name.
    pub(crate) issuers: Vec<IssuerSettings>,
    /// `[policies] folder`; `None` is the shipped policies.
    pub(crate) policies: Option<PathBuf>,
    /// `[http] listen`: where health and metrics are served; `None` where they are not.
    pub(crate) http_listen: Option<SocketAddr>,
    /// `[log]`
    pub(crate) log: Log,
}

/// How the servers are reached.
#[derive(Debug, Clone)]
pub(crate) struct Nats {
    /// The servers.
    pub(crate) urls: Vec<String>,
    /// The address that apps are told.
    pub(crate) public_url: String,
    /// How many connections the service opens.
    pub(crate) connections: usize,
    /// How it speaks TLS, where the servers do.
    pub(crate) tls: NatsTls,
}

/// The service's side of TLS with the servers: PEM files.
#[derive(Debug, Clone, Default)]
pub(crate) struct NatsTls {
    /// Who vouches for the servers, beside the authorities that the operating system knows.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate to show to servers that ask for one, and its key. It opens no login, and
    /// lies where the machine's certificates do, whose group may read it: it is none of
    /// [`Config::key_files`].
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// The auth callout itself, in either mode.
#[derive(Debug, Clone)]
pub(crate) struct Callout {
    /// How long a decision may take: under the server's own timeout.
    pub(crate) deadline: Duration,
    /// How many decisions may be under way.
    pub(crate) max_in_flight: usize,
    /// The longest life of a grant.
    pub(crate) ttl: Duration,
    /// Whether connections are broken off before their grants end, to begin anew.
    pub(crate) renew: bool,
    /// Curve seeds: the one that is announced, then the other that is accepted.
    pub(crate) xkey: Vec<PathBuf>,
}

/// What is published about changes and decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Events {
    /// The `source` of all events: which deployment they come from.
    pub(crate) source: String,
    /// Whether decisions are published, and when.
    pub(crate) decisions: DecisionEvents,
    /// Decisions that may wait to be published; further ones are counted and dropped.
    pub(crate) queue: usize,
}

/// When decisions are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecisionEvents {
    /// Afterwards, from a bounded queue: no login waits for it.
    Queue,
    /// Grants before they are given: without an event in the stream there is no grant.
    BeforeGrant,
    /// Never.
    Off,
}

/// The caches of records and of verified passwords.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    /// How long a record is kept.
    pub(crate) ttl: Duration,
    /// How many are kept.
    pub(crate) entries: usize,
    /// How long a verified password is remembered while unused.
    pub(crate) password_idle: Duration,
    /// How old a record may be that answers while changes cannot be read.
    pub(crate) stale_if_error: Duration,
}

/// The pool that hashes passwords.
#[derive(Debug, Clone)]
pub(crate) struct Hashing {
    /// Threads; 0 is one per core.
    pub(crate) threads: usize,
    /// How many passwords may wait.
    pub(crate) queue: usize,
    /// Whether outdated hashes are replaced at a login.
    pub(crate) rehash: bool,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// A level, or directives such as `info,nats_callout=debug`.
    pub(crate) level: String,
    /// The format.
    pub(crate) format: LogFormat,
}

/// The log's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A configuration, and what is odd about it without being wrong.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line each, for stderr.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the file, with the variables of the process's environment on top.
    pub fn load(file: &Path, files: Files) -> Result<Loaded, Error> {
        let env = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::load_with(file, files, env)
    }

    /// Reads the file, with these variables on top.
    pub fn load_with(
        file: &Path,
        files: Files,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, Error> {
        let unreadable = |source| ConfigError::Unreadable { path: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        let absolute = std::path::absolute(file).map_err(unreadable)?;
        Self::read(&text, file, absolute, files, env)
    }

    /// Reads the text of `file`, with these variables on top.
    pub(crate) fn read(
        text: &str,
        file: &Path,
        absolute: PathBuf,
        files: Files,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, Error> {
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let mut reader = Reader::new(file, &folder, text, env, files == Files::MustExist);
        let operator = sections::operator_mode(&mut reader);
        let mode = match operator {
            Some(true) => {
                reader.refuse_other_mode(Applies::Operator, "operator", "config");
                sections::operator(&mut reader).map(Mode::Operator)
            }
            Some(false) => {
                reader.refuse_other_mode(Applies::Config, "config", "operator");
                Some(Mode::Config(sections::config(&mut reader)))
            }
            None => None,
        };
        let nats = sections::nats(&mut reader);
        let callout = sections::callout(&mut reader);
        let isolation = sections::isolation(&mut reader, operator != Some(false));
        let bb = sections::bb(&mut reader);
        let (events, event_limits) = sections::events(&mut reader);
        let database = sections::database(&mut reader, &folder);
        let cache = sections::cache(&mut reader, callout.ttl);
        let hashing = sections::hashing(&mut reader);
        let guessing = sections::guessing(&mut reader);
        let issuers = issuers::issuers(&mut reader);
        let policies = sections::policies(&mut reader, &folder);
        let http_listen = sections::http_listen(&mut reader);
        let log = log::log(&mut reader);

        let value_files = reader.value_files();
        let (warnings, problems) = reader.finish();
        let Some(mode) = mode.filter(|_| problems.is_empty()) else {
            return Err(ConfigError::Invalid { problems, warnings }.into());
        };
        let bb = StreamLimits { pooled: mode.intake().is_none(), ..bb };
        let config = Self {
            file: absolute,
            folder,
            value_files,
            nats,
            callout,
            mode,
            isolation,
            streams: Limits { bb, events: event_limits },
            events,
            database,
            cache,
            hashing,
            guessing,
            issuers,
            policies,
            http_listen,
            log,
        };
        Ok(Loaded { config, warnings })
    }

    /// The files that hold secrets.
    pub(crate) fn key_files(&self) -> Vec<&Path> {
        self.named_key_files().into_iter().map(|(_, file)| file).collect()
    }

    /// [`Self::key_files`], each with the key that names it.
    fn named_key_files(&self) -> Vec<(String, &Path)> {
        let (logins, lists, login) = match &self.mode {
            Mode::Operator(mode) => (
                [
                    ("[nats] credentials", &mode.credentials),
                    ("[nats] system_credentials", &mode.system_credentials),
                ],
                vec![
                    ("[callout] response_signing", &mode.response_signing),
                    ("[operator] operator_signing", &mode.operator_signing),
                    ("[operator] user_signing", &mode.user_signing),
                ],
                ["[intake] credentials", "[intake] users_credentials"],
            ),
            Mode::Config(mode) => (
                [("[nats] nkey", &mode.nkey), ("[nats] system_nkey", &mode.system_nkey)],
                vec![("[callout] issuer", &mode.issuer)],
                ["[intake] nkey", "[intake] users_nkey"],
            ),
        };
        let logins = logins.into_iter().map(|(key, file)| (key.to_owned(), file.as_path()));
        let lists = lists.into_iter().chain([("[callout] xkey", &self.callout.xkey)]);
        let lists = lists.map(|(key, files)| (key.to_owned(), files));
        let secrets = self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            KeyLocation::Secret(files) => {
                Some((format!("[issuers.{}] secret", issuer.name), files))
            }
            _ => None,
        });
        let listed = lists
            .chain(secrets)
            .flat_map(|(key, files)| files.iter().map(move |file| (key.clone(), file.as_path())));
        let intake = self.mode.intake().into_iter().flat_map(|files| login.into_iter().zip(files));
        let intake = intake.map(|(key, file)| (key.to_owned(), file));
        logins.chain(listed).chain(intake).collect()
    }

    /// Every file of secrets that others than the service can get at.
    pub(crate) fn audit(&self) -> Audit {
        let mut audit = keyfile::audit(self.named_key_files());
        let certificates = self.nats.tls.identity.iter();
        audit.faults.extend(certificates.filter_map(|(_, key)| keyfile::audit_shared(key).err()));
        audit
    }

    /// Who may change what this configuration names.
    pub(crate) fn trust(&self) -> Trust {
        Trust::new(self.key_files().into_iter().next())
    }

    /// What others than the service can change, and the configuration itself, or a file that a variable
    /// names, where others can read a password in it.
    pub(crate) fn exposures(&self) -> Vec<Exposure> {
        let trust = self.trust();
        let own = std::fs::read_to_string(&self.file).is_ok_and(|text| holds_password(&text));
        let others = self.value_files.iter().map(|it| (&it.path, it.is_secret));
        let mut faults = Vec::new();
        for (file, is_secret) in [(&self.file, own)].into_iter().chain(others) {
            faults.extend(trust.writers(file, "what the service does"));
            if is_secret {
                faults.extend(trust.readers(file, "read a password or a secret in it"));
            }
        }
        if let Some(folder) = &self.policies {
            faults.extend(trust.writers_in(folder, POLICIES));
        }
        for issuer in &self.issuers {
            let (file, way) = match &issuer.keys {
                KeyLocation::File(file) => (Some(file), None),
                KeyLocation::Discovery(way) | KeyLocation::Url(_, way) => (None, Some(way)),
                KeyLocation::Secret(_) | KeyLocation::None => (None, None),
            };
            let asked = issuer.introspection.as_ref().map(|it| &it.way);
            let ways: Vec<_> = way.into_iter().chain(asked).collect();
            let files = file.into_iter().chain(ways.iter().filter_map(|it| it.ca_file.as_ref()));
            faults.extend(files.flat_map(|it| trust.writers(it, "whose JWTs are taken")));
            for bearer in ways.iter().filter_map(|it| it.bearer_file.as_ref()) {
                faults.extend(trust.writers(bearer, "what is shown to an issuer"));
                // Its platform mounts it so that all of a pod can read it.
                if !bearer.starts_with(POD_SECRETS) {
                    faults
                        .extend(trust.readers(bearer, "show it to the issuer as the service does"));
                }
            }
        }
        let ca = self.nats.tls.ca.iter();
        faults.extend(ca.flat_map(|it| trust.writers(it, "which servers are trusted")));
        if let Some(file) = self.database.url.expose().strip_prefix("sqlite://") {
            faults.extend(Trust::anybody_writes(Path::new(file), "who logs in"));
        }
        faults.dedup();
        faults
    }

    /// The policies that issuers give to users without a row: the issuer, the key that names each, and its name.
    pub(crate) fn policies_of_issuers(
        &self,
    ) -> impl Iterator<Item = (&IssuerSettings, &'static str, &str)> {
        self.issuers.iter().flat_map(|issuer| {
            let (policy, by_claim) = match &issuer.users {
                Users::Policy { policy, by_claim, .. } => (policy.as_deref(), by_claim.as_ref()),
                Users::Table => (None, None),
            };
            let chosen = by_claim.into_iter().flat_map(|it| &it.policies);
            let chosen = chosen.map(move |(_, policy)| (issuer, "policies", policy.as_str()));
            policy.map(|policy| (issuer, "policy", policy)).into_iter().chain(chosen)
        })
    }

    /// Whether an issuer's JWT may admit users that have no row.
    pub(crate) fn admits_without_row(&self) -> bool {
        self.issuers.iter().any(|issuer| matches!(issuer.users, Users::Policy { .. }))
    }
}
