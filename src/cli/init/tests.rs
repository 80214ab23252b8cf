use std::fs;

use super::*;
use crate::keys::{AccountId, OperatorId};
use crate::protocol::claims::{AccountBody, OperatorBody, Permissions, UserBody};
use crate::protocol::jwt::{Body, Claims, IssuerKey, Parsed};

const NOW: UnixSeconds = 1_790_000_000;

fn options(arguments: &[&str]) -> Result<InitOptions, clap::Error> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: InitOptions,
    }
    let words = ["init"].iter().chain(arguments);
    <Line as clap::Parser>::try_parse_from(words).map(|line| line.options)
}

fn decode<B: Body, K: IssuerKey>(token: &str) -> (Claims<B>, K) {
    Parsed::parse(token).unwrap().verify().unwrap()
}

/// The value of the conf's line that begins with `key`.
fn value<'a>(conf: &'a str, key: &str) -> &'a str {
    let line = conf.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    line.unwrap()
}

fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(tree(&path).iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn defaults_are_those_of_the_command_line() {
    let parsed = options(&[]).unwrap();
    let defaults = InitOptions::default();
    assert_eq!(format!("{parsed:?}"), format!("{defaults:?}"));
}

#[test]
fn operator_mode_is_signed_as_it_should_be() {
    let parent = tempfile::tempdir().unwrap();
    let folder = write(&parent.path().join("d"), &InitOptions::default(), NOW).unwrap();
    let conf = fs::read_to_string(folder.join("nats-server.conf")).unwrap();

    let (operator, identity): (Claims<OperatorBody>, OperatorId) = decode(value(&conf, "operator"));
    assert_eq!(operator.subject, identity.to_string());
    assert_eq!(operator.body.signing_keys.len(), 2);
    assert_eq!(operator.not_before, None);

    let crate::config::Mode::Operator(mode) = crate::config::Config::load_with(
        &folder.join("nats-callout.toml"),
        crate::config::Files::MustExist,
        [],
    )
    .unwrap()
    .config
    .mode
    else {
        panic!("operator mode")
    };
    let generations =
        |files: &[PathBuf]| crate::keyfile::generations::<AccountId>(files, "test").unwrap();
    let account = |id: &AccountId| {
        let (claims, issuer): (Claims<AccountBody>, OperatorId) =
            decode(value(&conf, &id.to_string()));
        assert_eq!(issuer, operator.body.signing_keys[0]);
        assert_eq!(claims.not_before, None);
        assert_eq!(claims.expires, None);
        claims.body
    };
    let auth = account(&mode.auth_account);
    assert_eq!(auth.signing_keys, generations(&mode.response_signing).listed);
    assert_eq!(auth.authorization.allowed_accounts, ["*"]);
    assert!(auth.authorization.xkey.is_some());
    assert_eq!(auth.authorization.auth_users.len(), 1);
    assert!(auth.limits.disk_storage > 0);
    let users = account(&mode.users_account);
    assert_eq!(users.signing_keys, generations(&mode.user_signing).listed);
    assert_eq!(users.limits.disk_storage, 0);
    let bb = account(&mode.bb_account);
    assert!(bb.signing_keys.is_empty());
    // The service makes BB's streams from AUTH, and no account may do more there.
    let api: Vec<&str> = bb
        .exports
        .iter()
        .map(|export| export.subject.as_str())
        .filter(|subject| subject.starts_with("$JS.API."))
        .collect();
    assert!(api.contains(&"$JS.API.STREAM.CREATE.ReceivedEvents"), "{api:?}");
    let reads_or_keeps = |subject: &&str| {
        let verb = subject.split('.').nth(3).unwrap_or_default();
        !subject.contains(['*', '>']) && matches!(verb, "INFO" | "CREATE" | "UPDATE")
    };
    assert!(api.iter().all(reads_or_keeps), "{api:?}");
    let answers = account(&mode.answers_account);
    assert_eq!(answers.imports, []);
    assert_eq!(answers.exports[0].subject, "user.*.Notifications");
    account(&operator.body.system_account.unwrap());

    let (sentinel, issuer): (Claims<UserBody>, AccountId) =
        decode(value(&conf, "default_sentinel"));
    assert_eq!(issuer, mode.auth_account);
    assert!(sentinel.body.bearer_token);
    assert_eq!(sentinel.body.permissions.publish.deny, [">"]);
    assert_eq!(sentinel.body.permissions.subscribe.deny, [">"]);

    let creds = fs::read_to_string(folder.join("keys/bb.creds")).unwrap();
    let (login, issuer): (Claims<UserBody>, AccountId) = decode(creds.lines().nth(1).unwrap());
    assert_eq!(issuer, mode.bb_account);
    assert!(login.body.permissions.subscribe.deny.contains(&"user.*.Events".to_owned()));
    let denied = &login.body.permissions.publish.deny;
    assert!(denied.contains(&"$JS.API.STREAM.DELETE.ReceivedEvents".to_owned()));
}

/// The accounts that a server begins with.
fn preloaded(folder: &Path) -> Vec<Claims<AccountBody>> {
    let conf = fs::read_to_string(folder.join("nats-server.conf")).unwrap();
    let (_, accounts) = conf.split_once("resolver_preload {").unwrap();
    let (accounts, _) = accounts.split_once("\n}").unwrap();
    let tokens = accounts.lines().filter_map(|line| line.trim().split_once(": "));
    tokens.map(|(_, token)| decode::<_, OperatorId>(token).0).collect()
}

fn account_named<'a>(accounts: &'a [Claims<AccountBody>], name: &str) -> &'a Claims<AccountBody> {
    accounts.iter().find(|account| account.name.as_deref() == Some(name)).unwrap()
}

/// An account with JetStream, or with leaf nodes, could send anything under the subjects that it takes
/// of AUTH.
#[test]
fn nothing_of_auth_is_taken_where_there_is_jetstream() {
    let parent = tempfile::tempdir().unwrap();
    let folder = write(&parent.path().join("d"), &InitOptions::default(), NOW).unwrap();
    let accounts = preloaded(&folder);
    let named = |name: &str| account_named(&accounts, name);
    let auth = named("AUTH");
    for export in &auth.body.exports {
        assert!(!export.subject.contains('*'), "{export:?}");
        let many = export.subject.starts_with("$JS.API.CONSUMER.MSG.NEXT.");
        assert_eq!(export.response_type.as_deref(), many.then_some("Stream"), "{export:?}");
    }
    for Claims { name, body, .. } in &accounts {
        let takes = body.imports.iter().any(|import| import.account.as_str() == auth.subject);
        assert_eq!(takes, name.as_deref() == Some("EVENTS"), "{name:?}");
    }
    let events = named("EVENTS");
    assert_eq!((events.body.limits.leaf, events.body.limits.disk_storage), (0, 0));
    assert_eq!(events.body.limits.mem_storage, 0);
    assert_eq!(events.body.exports, []);

    let creds = fs::read_to_string(folder.join("keys/events.creds")).unwrap();
    let (login, issuer): (Claims<UserBody>, AccountId) = decode(creds.lines().nth(1).unwrap());
    assert_eq!(issuer.as_str(), events.subject);
    assert_eq!(login.body.allowed_connection_types, ["STANDARD", "WEBSOCKET"]);
    let Permissions { publish, subscribe, responses } = login.body.permissions;
    let taken = events.body.imports.iter().map(|import| match &import.local_subject {
        Some(local) => local.clone(),
        None => import.subject.clone(),
    });
    assert_eq!(publish.allow, taken.collect::<Vec<_>>());
    assert_eq!((subscribe.allow, responses), (vec!["_INBOX_events.>".to_owned()], None));
}

/// Whose event it is would be the sender's to say, if it reached BB otherwise, or if INTAKE or USERS had
/// JetStream or leaf nodes.
#[test]
fn events_reach_bb_by_the_intake_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = write(&parent.path().join("d"), &InitOptions::default(), NOW).unwrap();
    let accounts = preloaded(&folder);
    let named = |name: &str| account_named(&accounts, name);
    let (intake, users, bb) = (named("INTAKE"), named("USERS"), named("BB"));
    for account in [intake, users] {
        let limits = &account.body.limits;
        assert_eq!((limits.leaf, limits.mem_storage, limits.disk_storage), (0, 0, 0));
    }
    let export = &intake.body.exports[0];
    assert_eq!((export.subject.as_str(), intake.body.exports.len()), ("own.*.Events", 1));
    assert_eq!(export.response_threshold, Some(5_000_000_000));
    for Claims { name, body, .. } in &accounts {
        let takes = body.imports.iter().any(|it| it.subject.ends_with(".Events"));
        assert_eq!(takes, name.as_deref() == Some("INTAKE"), "{name:?}");
    }
    assert!(users.body.exports.iter().all(|it| it.subject == "user.*.Notifications"));
    assert!(bb.body.exports.iter().any(|it| it.subject == "user.*.Events"));

    for (name, account, listens) in [
        ("intake", intake, &["own.*.Events", "_INBOX.>"][..]),
        ("users", users, &["user.*.Events"]),
    ] {
        let creds = fs::read_to_string(folder.join(format!("keys/{name}.creds"))).unwrap();
        let (login, issuer): (Claims<UserBody>, AccountId) = decode(creds.lines().nth(1).unwrap());
        assert_eq!(issuer.as_str(), account.subject);
        assert_eq!(login.body.permissions.subscribe.allow, listens);
    }
}

#[test]
fn config_mode_is_read_back() {
    let parent = tempfile::tempdir().unwrap();
    let options = options(&["--mode", "config", "--database", "postgres://u:p@h/d"]).unwrap();
    let folder = write(&parent.path().join("it's \"a\" folder"), &options, NOW).unwrap();
    let loaded = crate::config::Config::load_with(
        &folder.join("nats-callout.toml"),
        crate::config::Files::MustExist,
        [],
    )
    .unwrap();
    assert_eq!(loaded.config.database.url.expose(), "postgres://u:p@h/d");
    assert_eq!(
        tree(&folder),
        [
            "keys/auth.nk",
            "keys/bb.nk",
            "keys/events.nk",
            "keys/intake.nk",
            "keys/issuer.nk",
            "keys/sys.nk",
            "keys/users.nk",
            "keys/xkey.nk",
            "nats-callout.toml",
            "nats-server.conf"
        ]
    );
}

#[test]
fn the_nodes_of_a_cluster_differ_in_their_names() {
    let parent = tempfile::tempdir().unwrap();
    let options = options(&["--listen", "0.0.0.0:4222", "--cluster", "n1,n2:7222,n3"]).unwrap();
    let folder = write(&parent.path().join("d"), &options, NOW).unwrap();
    assert!(!folder.join("nats-server.conf").exists());
    let read = |n: usize| fs::read_to_string(folder.join(format!("nats-server-{n}.conf"))).unwrap();
    let alike = |n: usize| {
        let own = [format!("nats-server-{n}.conf"), format!("\"nats-{n}\"")];
        own.iter().fold(read(n), |conf, own| conf.replace(own, "")).replace(":7222", ":6222")
    };
    assert_eq!(alike(1), alike(2));
    assert_eq!(alike(1), alike(3));
    assert!(read(2).contains("listen: \"0.0.0.0:7222\"") && read(3).contains("@n2:7222\""));
    let toml = fs::read_to_string(folder.join("nats-callout.toml")).unwrap();
    assert!(toml.contains("url = \"nats://n1:4222,nats://n2:4222,nats://n3:4222\""), "{toml}");
    assert!(toml.contains("\nreplicas = 3\n"), "{toml}");
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = write(&parent.path().join("d"), &InitOptions::default(), NOW).unwrap();
    let files = tree(&folder);
    assert_eq!(files.iter().filter(|name| name.starts_with("keys/offline/")).count(), 11);
    let folders = ["keys", "keys/offline"].map(str::to_owned);
    for name in files.iter().filter(|name| name.starts_with("keys")).chain(&folders) {
        let found = fs::metadata(folder.join(name)).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&found) & 0o777;
        assert_eq!(mode, if found.is_dir() { 0o700 } else { 0o600 }, "{name}");
    }
    let creds = folder.join("keys/auth.creds");
    let audit = crate::keyfile::audit([("[nats] credentials".to_owned(), creds.as_path())]);
    assert!(audit.faults.is_empty(), "{audit:?}");
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_behind() {
    let parent = tempfile::tempdir().unwrap();
    let folder = write(&parent.path().join("d"), &InitOptions::default(), NOW).unwrap();
    let before = fs::read(folder.join("nats-server.conf")).unwrap();
    let error = write(&folder, &InitOptions::default(), NOW).unwrap_err().to_string();
    assert!(error.contains("exists and is not empty"), "{error}");
    assert_eq!(fs::read(folder.join("nats-server.conf")).unwrap(), before);

    let orphan = write(&parent.path().join("no/such"), &InitOptions::default(), NOW);
    assert!(orphan.is_err());
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn wrong_options() {
    for arguments in [
        ["--listen", "127.0.0.1:0"],
        ["--listen", "127.0.0.1:-1"],
        ["--listen", "4222"],
        ["--monitor", "::1:8222"],
        ["--max-memory", "lots"],
        ["--max-payload", "1GB"],
        ["--max-connections", "0"],
    ] {
        assert!(options(&arguments).is_err(), "{arguments:?}");
    }
    let parent = tempfile::tempdir().unwrap();
    for arguments in [
        ["--listen", "127.0.0.1:8222"],
        ["--database", "mysql://h/d"],
        ["--database", "sqlite::memory:"],
    ] {
        let options = options(&arguments).unwrap();
        let error = write(&parent.path().join("d"), &options, NOW).unwrap_err();
        assert!(error.is::<Usage>(), "{error:#}");
    }
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}
