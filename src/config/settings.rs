//! Every setting, once: its name, the mode that it belongs to, its default and its range, and the
//! words about it. What reads them, what writes a new deployment's file, the names of environment
//! variables and `docs/configuration.md` have it from this table.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::units::{days, format_duration, format_size, millis, seconds};
use crate::authn::guessing::GuessingLimits;
use crate::authn::lane::HashingLane;
use crate::streams::events::DUPLICATE_WINDOW;
use crate::streams::readers;

/// A key of the configuration.
#[derive(Debug)]
pub(crate) struct Setting {
    /// `section.key`, where `issuers.NAME` is a section too.
    pub(crate) name: &'static str,
    pub(crate) applies: Applies,
    pub(crate) kind: Kind,
    /// What it means, for the page; empty where the note says it.
    #[cfg_attr(not(test), allow(dead_code, reason = "the page has it, which a test writes"))]
    pub(super) meaning: &'static str,
    /// What stands above it in the file that `init` writes, line by line.
    pub(crate) note: &'static str,
    /// Whether its value is the path of a file or a folder, whatever kind of value that is.
    is_path: bool,
}

/// In which mode a key has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applies {
    Always,
    Operator,
    Config,
}

/// What is written there, with its default and its range.
#[derive(Debug)]
pub(crate) enum Kind {
    /// What holds without it, in words, and an example.
    #[cfg_attr(not(test), allow(dead_code, reason = "the page has it, which a test writes"))]
    Open(&'static str, &'static str),
    Text(&'static str),
    /// One of these, the first by default.
    Word(&'static [&'static str]),
    List(&'static [&'static str]),
    /// A file, which `init` makes.
    File(&'static str),
    /// One or two key files, which have to be named and which `init` makes.
    Keys(&'static [&'static str]),
    Switch(bool),
    Count(i64, RangeInclusive<i64>),
    Size(u64, RangeInclusive<u64>),
    Time(Duration, RangeInclusive<Duration>),
}

use Kind::{Count, File, Keys, List, Open, Size, Switch, Text, Time, Word};

const REQUIRED: Kind = Open("required", "");
const NONE: Kind = Open("none", "");
const STORAGE: RangeInclusive<u64> = 1 << 20..=1 << 60;
const EVENTS: RangeInclusive<i64> = 0..=1_000_000_000_000;
const EVENT_AGES: RangeInclusive<Duration> = DUPLICATE_WINDOW..=days(3_650);
const GUESSES: GuessingLimits = GuessingLimits::DEFAULT;

/// All but those of issuers, by section.
#[rustfmt::skip]
pub(crate) const SETTINGS: &[Setting] = &[
    both("nats.mode", REQUIRED, "`operator` (accounts are JWTs) or `config` (accounts by name)."),
    both("nats.url", Text("nats://127.0.0.1:4222"), "The servers, separated by commas."),
    both("nats.public_url", Open("the first of `url`", "\"nats://nats.example.com:4222\""), "")
        .noted("The address that apps are told; by default the one above."),
    both("nats.connections", Count(2, 1..=64), "Connections that replies are spread over, with the one that requests come by."),
    both("nats.tls_ca", Text(""),
        "A PEM file: who vouches for the servers, beside the authorities of the system.").noted("\
        Where the servers' certificates are of a private authority, and where\n\
        they ask for one (`verify: true`): PEM files.").path(),
    both("nats.tls_certificate", Text(""), "A PEM file, to show to servers that ask for one.").path(),
    both("nats.tls_key", Text(""), "A PEM file: the key of `tls_certificate`.").path(),
    operator("nats.credentials", File("keys/auth.creds"), "The service's login in AUTH."),
    operator("nats.system_credentials", File("keys/sys.creds"), "Its login in the system account."),
    config("nats.nkey", File("keys/auth.nk"), "The seed of the service's login in AUTH."),
    config("nats.system_nkey", File("keys/sys.nk"), "That of its login in the system account."),

    both("callout.account", Open("required; `AUTH` in the mode `config`", ""),
        "The account AUTH: its public key; in the mode `config` its name."),
    both("callout.deadline", Time(millis(1_800), millis(50)..=seconds(60)), "")
        .noted("For a decision, from its turn on. It never has more than nine tenths of what its server waits."),
    both("callout.max_in_flight", Count(1_024, 1..=1_000_000), "Logins under way at once: in decision, or answered and not yet read by the server."),
    both("callout.ttl", Time(seconds(3_600), seconds(10)..=days(1)), "")
        .noted("How long a grant lives: four fifths of it at least, by chance, so that not all end together. Connections begin anew before (`renew`)."),
    both("callout.renew", Switch(true), "Whether connections begin anew before their grants end.")
        .noted("A policy may leave its users' alone (`renew = false`)."),
    both("callout.xkey", NONE, "One or two files of curve seeds; the first is announced.").path(),
    operator("callout.response_signing",
        Keys(&["keys/response-signing.nk", "keys/response-signing-next.pub"]),
        "Signing keys of AUTH, which sign responses.").noted("\
        Of every key that signs, the first file is in use and the second is listed beside it.\n\
        `nats-callout keys rotate` changes over from one to the next."),
    config("callout.issuer", Keys(&["keys/issuer.nk"]),
        "The `issuer` of the server's `auth_callout`, which signs users and responses."),

    operator("operator.operator_signing",
        Keys(&["keys/operator-signing.nk", "keys/operator-signing-next.pub"]),
        "Signing keys of the operator, which sign accounts."),
    operator("operator.user_signing",
        Keys(&["keys/user-signing.nk", "keys/user-signing-next.pub"]),
        "Signing keys that every tenant's account lists, which sign users."),
    operator("operator.bb_account", REQUIRED, "The account BB: its public key, as of those below."),
    operator("operator.users_account", REQUIRED, "USERS, which shared tenants are placed in."),
    operator("operator.events_account", NONE, "EVENTS, where the service's events are read."),
    operator("operator.answers_account", REQUIRED, "ANSWERS, which brings tenants BB's requests."),
    operator("operator.notifications", Word(&["short", "full"]), "").noted("\
        The name of notifications in a tenant's own account: short (Notifications) or full\n\
        (user.<tenant id>.Notifications)."),

    both("intake.account", Open("none: BB takes events in itself", ""),
        "The account INTAKE: its public key; in the mode `config` its name.")
        .noted("Where tenants' events are taken in, and the service's logins there and in USERS."),
    operator("intake.credentials", File("keys/intake.creds"), "The service's login in INTAKE."),
    operator("intake.users_credentials", File("keys/users.creds"), "The service's login in USERS."),
    config("intake.nkey", File("keys/intake.nk"), "The seed of the service's login in INTAKE."),
    config("intake.users_nkey", File("keys/users.nk"), "The seed of the service's login in USERS."),

    config("placement.accounts", List(&["USERS"]), "")
        .noted("Accounts of nats-server.conf that tenants share; the first is the default."),
    config("placement.dedicated", Open("none", "{ ALICE = \"42\" }"), "")
        .noted("Accounts that are given to one tenant each."),

    both("tenants.isolation", Open("`account`; `shared` in the mode `config`", "\"account\""), "")
        .noted("\
        account: an account for each tenant. shared: the account USERS, for very many tenants."),

    both("bb.messages_per_tenant", Count(10_000, 1..=1_000_000_000), "").noted("\
        What BB's stream ReceivedEvents may hold, of BB's own share of JetStream storage in\n\
        nats-server.conf. A tenant that floods loses its own oldest events alone, while\n\
        messages_per_tenant times message_size is well below max_bytes."),
    both("bb.message_size", Size(64 << 10, 1 << 10..=64 << 20), "A longer event is refused."),
    both("bb.max_bytes", Size(4 << 30, STORAGE), "What each of BB's two streams may hold."),
    both("bb.max_age", Time(days(7), seconds(1)..=days(3_650)), "How long an event is kept."),
    both("bb.replicas", Count(1, 1..=5), "").noted("Copies in a cluster."),

    both("events.source", Text("nats-callout"), "Of which deployment: a URI or a path.").noted("\
        CloudEvents of what changes in the tenant table (stream AUTH_EVENTS) and of logins and\n\
        closed connections (stream AUTH_DECISIONS), in AUTH, read with keys/events.*. Which\n\
        deployment they come from:"),
    both("events.decisions", Word(&["queue", "before-grant", "off"]), "").noted("\
        Logins: \"queue\" publishes them afterwards (what the queue cannot hold is counted and\n\
        dropped); \"before-grant\" admits nobody whose grant the stream has not taken; or \"off\"."),
    both("events.queue", Count(10_000, 1..=1_000_000), "Decisions that may wait to be published."),
    both("events.changes_consumers", List(&[readers::CHANGES]), "").noted("\
        The durable consumers of each stream, for one program each. Another one than these has\n\
        to be brought within reach of keys/events.*: see deploy/README.md."),
    both("events.decisions_consumers", List(&[readers::DECISIONS]), "Those of AUTH_DECISIONS."),
    both("events.changes_max_bytes", Size(1 << 30, STORAGE), "").noted("\
        What each stream may hold, of AUTH's share of JetStream storage in nats-server.conf.\n\
        0 messages is as many as fit."),
    both("events.changes_max_age", Time(days(90), EVENT_AGES), "How long a change is kept."),
    both("events.changes_max_messages", Count(0, EVENTS), "0 is as many as fit."),
    both("events.decisions_max_bytes", Size(1 << 30, STORAGE), "What AUTH_DECISIONS may hold."),
    both("events.decisions_max_age", Time(days(7), EVENT_AGES), "How long a decision is kept."),
    both("events.decisions_max_messages", Count(0, EVENTS), "0 is as many as fit."),
    both("events.replicas", Count(1, 1..=5), "Copies of each stream in a cluster."),

    both("database.url", REQUIRED, "`sqlite://PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`; several hosts are parted by commas."),
    both("database.timeout", Time(millis(1_500), millis(10)..=seconds(60)),
        "How long a statement may take, its wait for a connection or a lock included."),

    both("cache.ttl", Time(seconds(30), seconds(0)..=seconds(3_600)), "How long a record is kept."),
    both("cache.entries", Count(100_000, 0..=100_000_000), "Records that are kept."),
    both("cache.password_idle", Time(seconds(3_600), seconds(0)..=days(1)),
        "How long a verified password is remembered while unused; where it is not set, as long as a grant lives at least."),
    both("cache.stale_if_error", Time(seconds(0), seconds(0)..=seconds(3_600)),
        "How old a record may be that lets a user in while the database cannot be read; 0ms is never.").noted("\
        What was changed meanwhile is not known then: a user who was suspended gets in, too."),

    both("hashing.threads", Count(0, 0..=1_024), "").noted("0 is one thread per core."),
    both("hashing.queue", Count(HashingLane::DEFAULT_QUEUE as i64, 1..=1_000_000),
        "Passwords that may wait to be hashed."),
    both("hashing.rehash", Switch(true), "Whether outdated hashes are replaced at a login."),

    both("guessing.account_failures", Count(GUESSES.account_failures as i64, 0..=1_000_000), "")
        .noted("\
        Wrong passwords within a minute, on one account and from one source (an IPv4 address, a\n\
        /64 of IPv6), that slow down nobody; 0 counts none. Behind a proxy all come from one."),
    both("guessing.source_failures", Count(GUESSES.source_failures as i64, 0..=1_000_000),
        "Those from one source."),

    both("policies.folder", Text(""), "")
        .noted("A folder of your own policies, beside those that are built in.").path(),

    both("http.listen", Text("127.0.0.1:9222"), "").noted("\
        /healthz, /readyz and /metrics, for whoever reaches the port; \"\" serves nothing.\n\
        Several instances on one machine need a port each: NATS_CALLOUT_HTTP_LISTEN."),

    both("log.level", Text("info"), "A level, or directives such as `info,nats_callout=debug`."),
    both("log.format", Word(&["text", "json"]), "For people, or one JSON object a line; `nats-callout: ready` stays as it is."),
];

/// Those of each table `[issuers.NAME]`.
#[rustfmt::skip]
pub(super) const ISSUER_SETTINGS: &[Setting] = &[
    both("issuers.NAME.preset", NONE,
        "`kubernetes`: the keys below are those of a pod's ServiceAccount token, where they are not written."),
    both("issuers.NAME.issuer", REQUIRED, "The exact `iss` of its JWTs."),
    both("issuers.NAME.discovery", Open("`true`, unless one of the next four is written", ""),
        "Whether its keys are found by `/.well-known/openid-configuration` below `issuer`."),
    both("issuers.NAME.jwks_url", NONE, "The https URL of its keys, a JWK set."),
    both("issuers.NAME.jwks_file", NONE, "The file of its keys, a JWK set.").path(),
    both("issuers.NAME.secret", NONE, "One or two files of the secret shared with it.").path(),
    both("issuers.NAME.introspection_url", NONE,
        "The https URL where it is asked about tokens that are no JWTs; about all of its tokens where it has no keys."),
    both("issuers.NAME.client_id", NONE, "Who asks there, by HTTP basic authentication."),
    both("issuers.NAME.client_secret", NONE,
        "The secret of `client_id`, which is better kept in a file: `NATS_CALLOUT_ISSUERS_NAME_CLIENT_SECRET_FILE`."),
    both("issuers.NAME.token_prefix", NONE,
        "What the tokens begin with that it is asked about, of 4 to 64 characters: of several issuers, one alone has none."),
    both("issuers.NAME.ca_file", Open("those of the system", ""),
        "A PEM file: the authorities that its server is trusted by, where keys are fetched and tokens asked about.").path(),
    both("issuers.NAME.bearer_file", NONE,
        "A file whose text is shown where keys are fetched, and tokens asked about without `client_id` (`Authorization: Bearer`); read each time.").path(),
    both("issuers.NAME.proxy", NONE, "The URL of a proxy that its server is asked by."),
    both("issuers.NAME.insecure_http", Switch(false),
        "Whether its server may be asked by plain http, where anybody on the way can answer in its place, and read tokens and `client_secret`."),
    both("issuers.NAME.audience", REQUIRED, "A list: of these, `audience_claim` has to name one."),
    both("issuers.NAME.audience_claim", Text("aud"),
        "The claim that says whom a JWT is for, such as `client_id` or `azp` where there is no `aud`."),
    both("issuers.NAME.algorithms",
        Open("`RS256`, `PS256`, `ES256`, `ES384`, `EdDSA`; of secrets `HS256`", ""),
        "A list: what its JWTs may be signed with. `HS256`, `HS384`, `HS512` with `secret` alone."),
    both("issuers.NAME.leeway", Time(seconds(30), seconds(0)..=seconds(300)),
        "How far its clock may differ from ours."),
    both("issuers.NAME.user_claim", Text("sub"), "The claim that names the user."),
    both("issuers.NAME.user_name", Word(&["own", "any"]),
        "The user name that may stand beside a JWT: its user's own, or `any`, which says nothing then."),
    both("issuers.NAME.claims", List(&[]), "The claims that are handed to the policy."),
    both("issuers.NAME.split", List(&[]), "Of these claims, those that are words in one text: `scope`."),
    both("issuers.NAME.unusable_values", Word(&["refuse", "drop"]),
        "What becomes of a value of `claims` that is no subject token: it refuses the login where a \
         policy fills it in, or is left out."),
    both("issuers.NAME.users", Word(&["table", "policy"]),
        "`table` admits users that have a row; `policy` others too."),
    both("issuers.NAME.tenant", NONE, "The tenant that its users belong to."),
    both("issuers.NAME.tenant_claim", NONE, "The claim that names their tenant."),
    both("issuers.NAME.kind", Word(&["bb", "service"]), "The kind of users without a row."),
    both("issuers.NAME.policy", Open("the tenant's or kind's", ""), "That of users without a row."),
    both("issuers.NAME.policy_claim", NONE,
        "The claim whose values choose the policy of users without a row."),
    both("issuers.NAME.policies", List(&[]),
        "`VALUE=POLICY`, the first that fits; whoever has no such value gets `policy`, or is refused."),
];

const fn both(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting { name, applies: Applies::Always, kind, meaning, note: "", is_path: false }
}

const fn operator(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting { applies: Applies::Operator, ..both(name, kind, meaning) }
}

const fn config(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting { applies: Applies::Config, ..both(name, kind, meaning) }
}

impl Setting {
    const fn noted(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    const fn path(self) -> Self {
        Self { is_path: true, ..self }
    }

    /// What is written at `section.key`, or at `issuers.kc.key` for an issuer `kc`.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        let key = name.rsplit_once('.').map(|(_, key)| key);
        let known = SETTINGS.iter().find(|it| it.name == name);
        known.or_else(|| ISSUER_SETTINGS.iter().find(|it| Some(it.key()) == key))
    }

    /// Whether its value is the path of a file or a folder, or several of them.
    pub(super) fn names_files(&self) -> bool {
        self.is_path || matches!(self.kind, File(_) | Keys(_))
    }

    pub(crate) fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }

    pub(crate) fn key(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, key)| key)
    }

    /// Whether it has a meaning in this mode.
    pub(crate) fn is_of(&self, mode: Applies) -> bool {
        [Applies::Always, mode].contains(&self.applies)
    }
}

impl Kind {
    /// What is written at `section.key`, or at `issuers.kc.key` for an issuer `kc`.
    pub(super) fn of(name: &str) -> &'static Self {
        Setting::of(name).map_or(&NONE, |setting| &setting.kind)
    }

    /// The default of a text.
    pub(super) fn text(&self) -> Option<&'static str> {
        match self {
            Text(text) | File(text) => Some(text),
            Word(words) => words.first().copied(),
            _ => None,
        }
    }

    /// The default, or else what it may look like, as the file has it.
    pub(crate) fn written(&self) -> String {
        match self {
            Open(_, example) => (*example).to_owned(),
            Text(_) | File(_) | Word(_) => format!("{:?}", self.text().unwrap_or_default()),
            List(list) | Keys(list) => format!("{list:?}"),
            Switch(is_on) => is_on.to_string(),
            Count(count, _) => count.to_string(),
            Size(size, _) => format!("{:?}", format_size(*size)),
            Time(time, _) => format!("{:?}", format_duration(*time)),
        }
    }
}
