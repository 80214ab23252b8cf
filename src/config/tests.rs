mod files;
mod variables;

use super::settings::{Kind, SETTINGS};
use super::*;

const ACCOUNT: &str = "ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA";

fn operator() -> String {
    format!(
        "[nats]\nmode = \"operator\"\n\n[callout]\naccount = \"{ACCOUNT}\"\n\
         response_signing = [\"keys/r.nk\"]\n\n[operator]\noperator_signing = [\"keys/o.nk\"]\n\
         user_signing = [\"keys/u.nk\"]\nbb_account = \"{ACCOUNT}\"\nusers_account = \"{ACCOUNT}\"\n\
         answers_account = \"{ACCOUNT}\"\n\n\
         [database]\nurl = \"sqlite://tenants.db\"\n"
    )
}

pub(super) const CONFIG: &str = "[nats]\nmode = \"config\"\n[callout]\nissuer = [\"keys/issuer.nk\"]\n\
                      [database]\nurl = \"sqlite://tenants.db\"\n";

pub(super) fn load(text: &str, env: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(DEFAULT_FILE);
    std::fs::write(&file, text).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load_with(&file, Files::Unchecked, env).map_err(|error| match error.0 {
        ConfigError::Invalid { problems, .. } => problems
            .iter()
            .map(|it| it.to_string().replace(&format!("{}/", folder.path().display()), ""))
            .collect(),
        other => vec![other.to_string()],
    })
}

#[test]
fn defaults_in_operator_mode() {
    let config = load(&operator(), &[]).unwrap().config;
    assert_eq!(config.nats.urls, ["nats://127.0.0.1:4222"]);
    assert_eq!(config.nats.public_url, "nats://127.0.0.1:4222");
    assert_eq!(config.callout.deadline, Duration::from_millis(1_800));
    assert_eq!(config.callout.ttl, Duration::from_secs(3_600));
    assert_eq!(config.cache.password_idle, config.callout.ttl);
    assert_eq!(config.isolation, Isolation::Account);
    assert_eq!(config.cache.entries, 100_000);
    let consumers = config.streams.events.consumers();
    assert_eq!(consumers, [("AUTH_EVENTS", "events"), ("AUTH_DECISIONS", "decisions")]);
    assert_eq!((config.guessing.account_failures, config.guessing.source_failures), (10, 100));
    assert_eq!(config.http_listen.unwrap().to_string(), "127.0.0.1:9222");
    let Mode::Operator(mode) = config.mode else { panic!("operator mode") };
    assert_eq!(mode.credentials, config.folder.join("keys/auth.creds"));
    assert_eq!(
        config.database.url.expose(),
        format!("sqlite://{}/tenants.db", config.folder.display())
    );
}

#[test]
fn defaults_in_config_mode() {
    let config = load(CONFIG, &[]).unwrap().config;
    assert_eq!(config.isolation, Isolation::Shared);
    let Mode::Config(mode) = config.mode else { panic!("config mode") };
    assert_eq!(mode.auth_account, "AUTH");
    assert_eq!(mode.accounts, ["USERS"]);
}

#[test]
fn three_mistakes_are_reported_with_line_and_remedy() {
    let text = operator()
        .replace("[nats]\n", "[nats]\nconections = 2\n")
        .replace("[database]\n", "[database]\ntimeout = 500\n")
        + "[cache]\nttl = \"30 seconds\"\n";
    let problems = load(&text, &[]).unwrap_err();
    assert_eq!(
        problems,
        [
            "nats-callout.toml:2: [nats] conections: unknown key; did you mean `connections`?",
            "nats-callout.toml:17: [database] timeout: expected a string, found a whole number; \
             write it in double quotes",
            "nats-callout.toml:20: [cache] ttl: `30 seconds` is no duration: write a number and a \
             unit out of ms, s, m, h, d and w, such as `30s` or `15m`",
        ]
    );
}

#[test]
fn sections_and_places_are_suggested() {
    let text = operator() + "[htpp]\nlisten = \"x\"\n[log]\nttl = \"1s\"\nbanana = 1\n";
    let problems = load(&text, &[]).unwrap_err();
    assert!(problems[0].ends_with("[htpp]: unknown section; did you mean [http]?"), "{problems:?}");
    assert!(problems[1].ends_with("unknown key; did you mean [callout] ttl?"), "{problems:?}");
    assert!(problems[2].ends_with("the keys of [log] are level, format"), "{problems:?}");
    let problems = load(&format!("ttl = \"1s\"\n{}", operator()), &[]).unwrap_err();
    assert!(problems[0].contains(":1: ttl: a key outside of any section"), "{problems:?}");
}

#[test]
fn broken_syntax_names_the_line_and_other_mistakes_too() {
    let text = operator().replace("[callout]", "[callout") + "[log]\nformat = \"xml\"\n";
    let problems = load(&text, &[]).unwrap_err();
    assert!(problems[0].starts_with("nats-callout.toml:4: not TOML"), "{problems:?}");
    assert!(problems.iter().any(|it| it.contains("`xml` is neither")), "{problems:?}");
    assert!(!problems.iter().any(|it| it.contains("missing")), "{problems:?}");
    let problems = load("[nats]\nmode = \"config\"\nmode = \"config\"\n", &[]).unwrap_err();
    assert!(problems[0].contains(":3: not TOML: duplicate key"), "{problems:?}");
    assert!(problems[0].ends_with("mode is written twice; remove one of the two"), "{problems:?}");
}

#[test]
fn a_level_that_would_leave_no_log_is_refused() {
    let load_with = |level: &str| load(&operator(), &[("NATS_CALLOUT_LOG_LEVEL", level)]);
    for (level, word) in [
        ("warning", "`warning` is no level"),
        ("inof", "`inof` is no level"),
        ("info,loud", "`loud` is no level"),
        ("nats_callout=debgu", "`debgu` is no level"),
        ("info,nats_callout::audit=loud", "`loud` is no level"),
        ("info,nats_callout:audit=debug", "no part `nats_callout:audit`; write nats_callout::PART"),
        ("nats_calout=debug", "nothing would be left"),
        ("nats_calout=debug", "did you mean nats_callout?"),
        ("warn,nats_callot=debug", "there is no part `nats_callot`; did you mean nats_callout?"),
        ("info,nats-callout::audit=trace", "there is no part `nats-callout`; did you mean"),
        (
            "info,nats_callout::adit=debug",
            "there is no part `nats_callout::adit`; did you mean nats_callout::audit?",
        ),
        (
            "info,nats_callout::nothing_of::the[kind]=debug",
            "there is no part `nats_callout::nothing_of`",
        ),
        ("", "nothing would be left"),
    ] {
        let problems = load_with(level).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(word), "{level}: {problems:?}");
        assert!(problems[0].contains("write error, warn, info"), "{problems:?}");
    }
    for level in [
        "INFO",
        "off",
        "warn,async_nats=debug",
        "nats_callout::audit=debug",
        "2",
        "info,",
        "info,nats_callout[decide{user=1}]",
    ] {
        assert_eq!(load_with(level).unwrap().config.log.level, level.trim_end_matches(','));
    }
    let spaced = load_with(" info , nats_callout::audit = debug").unwrap();
    assert_eq!(spaced.config.log.level, "info,nats_callout::audit=debug");
    for file in std::fs::read_dir("src").unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let Some(part) = file.strip_suffix(".rs") else { continue };
        if !["cli", "internals", "lib", "main", "testing"].contains(&part) {
            load_with(&format!("info,nats_callout::{part}=debug")).unwrap();
        }
    }
}

#[test]
fn keys_of_the_other_mode_are_refused() {
    let text = CONFIG.replace("[callout]", "credentials = \"keys/auth.creds\"\n[callout]");
    let problems = load(&text, &[]).unwrap_err();
    assert!(problems[0].contains("[nats] credentials: belongs to the mode `operator`"));
    let text = operator() + "[placement]\naccounts = [\"USERS\"]\n";
    let problems = load(&text, &[]).unwrap_err();
    assert!(problems[0].contains("[placement] accounts: belongs to the mode `config`"));
}

#[test]
fn a_database_url_that_cannot_be_read_is_a_mistake_of_its_line() {
    for url in ["postgres://u:s3cret#x@h/d", "postgres://u:s3cret@h/d?sslmode=bogus"] {
        let text = CONFIG.replace("sqlite://tenants.db", url);
        let problems = load(&text, &[]).unwrap_err();
        assert!(problems[0].contains("[database] url"), "{problems:?}");
        assert!(problems[0].contains("percent-encoded"), "{problems:?}");
        assert!(!problems[0].contains("s3cret"), "{problems:?}");
    }
}

#[test]
fn required_keys_are_named() {
    let problems = load("[nats]\nmode = \"operator\"\n", &[]).unwrap_err();
    for key in ["[callout] account", "[operator] user_signing", "[database] url"] {
        assert!(problems.iter().any(|it| it.contains(&format!("{key}: missing"))), "{key}");
    }
    let problems = load("", &[]).unwrap_err();
    assert!(problems[0].contains("[nats] mode: missing"), "{problems:?}");
}

#[test]
fn the_environment_overrides_with_types() {
    let config = load(
        &operator(),
        &[
            ("NATS_CALLOUT_HTTP_LISTEN", "0.0.0.0:80"),
            ("NATS_CALLOUT_DATABASE_URL", "postgres://me:secret@db/tenants"),
            ("NATS_CALLOUT_NATS_CONNECTIONS", "4"),
            ("NATS_CALLOUT_HASHING_REHASH", "false"),
            ("NATS_CALLOUT_GUESSING_SOURCE_FAILURES", "0"),
            ("NATS_CALLOUT_CALLOUT_XKEY", "/a.nk, b.nk"),
            ("NATS_CALLOUT_CONFIG", "/elsewhere.toml"),
        ],
    )
    .unwrap();
    assert!(config.warnings.is_empty());
    let config = config.config;
    assert_eq!(config.http_listen.unwrap().to_string(), "0.0.0.0:80");
    assert_eq!(config.database.url.expose(), "postgres://me:secret@db/tenants");
    assert!(!format!("{config:?}").contains("secret"));
    assert_eq!(config.nats.connections, 4);
    assert!(!config.hashing.rehash);
    assert_eq!(config.guessing.source_failures, 0);
    assert_eq!(config.callout.xkey, [PathBuf::from("/a.nk"), config.folder.join("b.nk")]);
}

#[test]
fn targets_are_never_reserved_accounts() {
    for name in ["AUTH", "SYS", "$SYS", "$G", "BB", "EVENTS", "sys", "", "a b"] {
        let text = format!("{CONFIG}[placement]\naccounts = [\"{name}\"]\n");
        assert!(load(&text, &[]).is_err(), "{name}");
        let text = format!("{CONFIG}[placement]\ndedicated = {{ \"{name}\" = \"42\" }}\n");
        assert!(load(&text, &[]).is_err(), "{name}");
    }
    let text = format!("{CONFIG}[placement]\ndedicated = {{ ALICE = \"42\", USERS = \"43\" }}\n");
    assert!(load(&text, &[]).unwrap_err()[0].contains("`USERS` is a shared account too"));
    let text = format!("{CONFIG}[placement]\ndedicated = {{ ALICE = \"4.2\" }}\n");
    assert!(load(&text, &[]).unwrap_err()[0].contains("`4.2` is no tenant id"));
}

#[test]
fn values_out_of_range() {
    for (key, value) in [
        ("CALLOUT_DEADLINE", "61s"),
        ("CALLOUT_TTL", "1s"),
        ("NATS_CONNECTIONS", "0"),
        ("GUESSING_ACCOUNT_FAILURES", "-1"),
        ("NATS_URL", "nats://me:pw@host"),
        ("NATS_URL", "http://host:4222"),
        ("NATS_URL", "nats://host:99999"),
        ("HTTP_LISTEN", "9222"),
        ("LOG_LEVEL", "a=b=c"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", "mysql://x"),
        ("POLICIES_FOLDER", "nowhere"),
        ("TENANTS_ISOLATION", "none"),
    ] {
        let name = format!("NATS_CALLOUT_{key}");
        assert!(load(&operator(), &[(&name, value)]).is_err(), "{key}={value}");
    }
}

#[test]
fn ranges_end_where_the_table_says() {
    for setting in SETTINGS {
        let beyond = match &setting.kind {
            Kind::Count(_, range) => (range.end() + 1).to_string(),
            Kind::Size(_, range) => (range.end() + 1).to_string(),
            Kind::Time(_, range) => format!("{}ms", range.end().as_millis() + 1),
            _ => continue,
        };
        let problems = load(CONFIG, &[(&keys::env_name(setting.name), &beyond)]).unwrap_err();
        let words = [keys::display(setting.name), "out of range".to_owned()];
        assert!(words.iter().all(|it| problems[0].contains(it)), "{beyond}: {problems:?}");
    }
}

#[test]
fn what_is_not_written_is_the_default_of_the_table() {
    let written = SETTINGS.iter().filter(|it| it.is_of(Applies::Config)).filter_map(|it| {
        let default = match &it.kind {
            Kind::Open(..) | Kind::Keys(_) => return None,
            Kind::List(list) => list.join(","),
            kind => kind.written().trim_matches('"').to_owned(),
        };
        Some((keys::env_name(it.name), default))
    });
    let written: Vec<_> = written.collect();
    let written: Vec<_> = written.iter().map(|(name, it)| (name.as_str(), it.as_str())).collect();
    let shown = |env| {
        let config = load(CONFIG, env).unwrap().config;
        format!("{config:?}").replace(config.folder.to_str().unwrap(), "")
    };
    assert!(written.len() > 30);
    assert_eq!(shown(&written), shown(&[]));
}

#[test]
fn missing_files_are_mistakes_where_files_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(DEFAULT_FILE);
    std::fs::write(&file, CONFIG).unwrap();
    let loaded = Config::load_with(&file, Files::MustExist, []);
    let Err(Error(ConfigError::Invalid { problems, .. })) = loaded else { panic!("no such files") };
    assert_eq!(problems.len(), 3, "{problems:?}");
    let missing = Config::load_with(&folder.path().join("none.toml"), Files::Unchecked, [])
        .map_err(|error| error.0);
    assert!(matches!(missing, Err(ConfigError::Unreadable { .. })));
}

#[test]
fn events_and_their_streams() {
    let config = load(CONFIG, &[]).unwrap().config;
    assert_eq!(config.events.source, "nats-callout");
    assert_eq!(config.events.decisions, DecisionEvents::Queue);
    assert_eq!(config.streams.events.changes.messages, None);
    assert_eq!(config.streams.events.decisions.age, Duration::from_secs(7 * 86_400));
    let text = CONFIG.to_owned()
        + "[events]\ndecisions = \"before-grant\"\nchanges_max_messages = 5\nreplicas = 3\n";
    let config = load(&text, &[("NATS_CALLOUT_EVENTS_SOURCE", "/eu")]).unwrap().config;
    assert_eq!(config.events.source, "/eu");
    assert_eq!(config.events.decisions, DecisionEvents::BeforeGrant);
    assert_eq!(config.streams.events.changes.messages, Some(5));
    assert_eq!(config.streams.events.replicas, 3);
    let text = CONFIG.to_owned()
        + "[events]\nchanges_consumers = [\"events\", \"crm\"]\ndecisions_consumers = []\n";
    let consumers = load(&text, &[]).unwrap().config.streams.events;
    assert_eq!(consumers.consumers(), [("AUTH_EVENTS", "events"), ("AUTH_EVENTS", "crm")]);
    for names in ["a.b", "*", ">", "", "a b", "$JS", &"x".repeat(33)] {
        let text = format!("{CONFIG}[events]\nchanges_consumers = [{names:?}]\n");
        let problems = load(&text, &[]).unwrap_err();
        assert!(problems[0].contains("is no name of a consumer"), "{problems:#?}");
    }
    let text = CONFIG.to_owned() + "[events]\ndecisions_consumers = [\"a\", \"a\"]\n";
    assert!(load(&text, &[]).unwrap_err()[0].contains("`a` is there twice"));
    // Younger events than the stream's duplicate window must not go.
    let text = CONFIG.to_owned()
        + "[events]\nsource = \"a b\"\ndecisions = \"later\"\ndecisions_max_age = \"5m\"\n";
    let problems = load(&text, &[]).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems[1].contains("`later` is none of them"), "{problems:#?}");
    assert!(problems[2].contains("out of range"), "{problems:#?}");
}

#[test]
fn a_certificate_for_the_servers_comes_with_its_key() {
    let with =
        |lines: &str| load(&CONFIG.replacen("[nats]\n", &format!("[nats]\n{lines}"), 1), &[]);
    let tls = with("").unwrap().config.nats.tls;
    assert!(tls.ca.is_none() && tls.identity.is_none());
    let config = with("tls_ca = \"ca.pem\"\ntls_certificate = \"c.pem\"\ntls_key = \"k.pem\"\n");
    let config = config.unwrap().config;
    let path = |name: &str| config.folder.join(name);
    assert_eq!(config.nats.tls.ca, Some(path("ca.pem")));
    assert_eq!(config.nats.tls.identity, Some((path("c.pem"), path("k.pem"))));
    for (line, words) in [
        ("tls_certificate = \"c.pem\"\n", "there is no tls_key"),
        ("tls_key = \"k.pem\"\n", "there is no tls_certificate"),
    ] {
        let problems = with(line).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(words), "{problems:?}");
    }
}
