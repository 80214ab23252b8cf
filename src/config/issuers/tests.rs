//! What a table of an issuer says, and what is wrong with one.

use std::path::PathBuf;

use super::super::tests::{CONFIG, load};
use super::*;
use crate::config::units::seconds;
use crate::config::{Config, Files};

fn with(table: &str) -> String {
    format!(
        "{CONFIG}[issuers.kc]\nissuer = \"https://id.example.com/realms/x\"\n\
             audience = [\"nats\"]\n{table}"
    )
}

fn mistakes(table: &str) -> Vec<String> {
    load(&with(table), &[]).unwrap_err()
}

fn one(text: &str, env: &[(&str, &str)]) -> IssuerSettings {
    let loaded = load(text, env).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    let mut issuers = loaded.config.issuers;
    assert_eq!(issuers.len(), 1);
    issuers.remove(0)
}

#[test]
fn discovery_is_the_default() {
    let issuer = one(&with(""), &[]);
    assert_eq!(
        issuer,
        IssuerSettings {
            name: "kc".to_owned(),
            issuer: "https://id.example.com/realms/x".to_owned(),
            keys: KeyLocation::Discovery(Way::default()),
            introspection: None,
            audience: vec!["nats".to_owned()],
            audience_claim: "aud".to_owned(),
            algorithms: OF_KEY_SETS.to_vec(),
            leeway: seconds(30),
            user_claim: "sub".to_owned(),
            any_name: false,
            claims: Vec::new(),
            split: Vec::new(),
            drops_unusable: false,
            tenant: None,
            users: Users::Table,
        }
    );
    assert!(load(CONFIG, &[]).unwrap().config.issuers.is_empty());
}

#[test]
fn other_places_of_the_keys() {
    let issuer = one(&with("jwks_url = \"https://x.org/keys\"\nca_file = \"ca.pem\"\n"), &[]);
    let KeyLocation::Url(url, way) = issuer.keys else { panic!("a URL") };
    assert_eq!(url, "https://x.org/keys");
    assert!(way.ca_file.unwrap().ends_with("ca.pem"));
    let cluster = "jwks_url = \"http://keycloak:8080/keys\"\ninsecure_http = true\n\
                   bearer_file = \"token\"\nproxy = \"http://me:pw@proxy:3128\"\n";
    let KeyLocation::Url(_, way) = one(&with(cluster), &[]).keys else { panic!("a URL") };
    assert!(way.insecure_http && way.bearer_file.as_ref().unwrap().ends_with("token"));
    assert_eq!(way.proxy, Some(Secret::new("http://me:pw@proxy:3128".to_owned())));
    assert!(!format!("{way:?}").contains(":pw"), "{way:?}");
    for proxy in ["socks9://127.0.0.1:1", "socks5://me:pw@h:1", "proxy:3128"] {
        let found = mistakes(&format!("proxy = \"{proxy}\"\n"));
        let told = "write http://HOST:PORT or https://HOST:PORT";
        assert!(found.len() == 1 && found[0].ends_with(told), "{found:?}");
        assert!(!found[0].contains(":pw"), "{found:?}");
    }
    let issuer = one(&with("jwks_file = \"keys.json\"\nalgorithms = [\"RS512\"]\n"), &[]);
    assert!(matches!(issuer.keys, KeyLocation::File(path) if path.ends_with("keys.json")));
    assert_eq!(issuer.algorithms, [Algorithm::RS512]);
    let loaded = load(&with("secret = [\"keys/a\", \"keys/b\"]\n"), &[]).unwrap().config;
    assert_eq!(loaded.issuers[0].algorithms, [Algorithm::HS256]);
    let files: Vec<_> = loaded.key_files().into_iter().map(PathBuf::from).collect();
    assert!(files.contains(&loaded.folder.join("keys/b")), "their modes are checked: {files:?}");
}

#[test]
fn who_is_asked_about_tokens() {
    let asked = "introspection_url = \"https://id.example.com/introspect\"\n";
    let client = "client_id = \"nats\"\nclient_secret = \"s3cret\"\n";
    let issuer = one(&with(&format!("{asked}{client}ca_file = \"ca.pem\"\n")), &[]);
    assert_eq!(issuer.keys, KeyLocation::None, "it is asked about JWTs, too");
    assert!(!format!("{issuer:?}").contains("s3cret"), "{issuer:?}");
    let introspection = issuer.introspection.unwrap();
    assert_eq!(introspection.url, "https://id.example.com/introspect");
    assert_eq!(introspection.prefix, "");
    let secret = Secret::new("s3cret".to_owned());
    assert_eq!(introspection.client, Some(("nats".to_owned(), secret)));
    assert!(introspection.way.ca_file.is_some());
    let both = format!("{asked}bearer_file = \"t\"\ndiscovery = true\ntoken_prefix = \"ory_\"\n");
    let issuer = one(&with(&both), &[]);
    assert!(matches!(issuer.keys, KeyLocation::Discovery(_)));
    assert_eq!(issuer.introspection.unwrap().prefix, "ory_");
    let of_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(of_file.path(), "s3cret\n").unwrap();
    let path = of_file.path().to_str().unwrap();
    let variable = ("NATS_CALLOUT_ISSUERS_KC_CLIENT_SECRET_FILE", path);
    let issuer = one(&with(&format!("{asked}client_id = \"nats\"\n")), &[variable]);
    assert_eq!(issuer.introspection.unwrap().client, introspection.client);
    let other = "[issuers.other]\nissuer = \"https://x.org\"\naudience = [\"x\"]\n";
    for (table, words) in [
        (asked.to_owned(), "nothing is shown to it that says who asks"),
        (
            format!("{asked}client_id = \"a\"\n"),
            "[issuers.kc] client_id: there is no client_secret",
        ),
        (format!("{asked}client_secret = \"a\"\n"), "there is no client_id"),
        (client.to_owned(), "the issuer is asked about no token"),
        (format!("{asked}{client}token_prefix = \"abc\"\n"), "no beginning of tokens"),
        (format!("{asked}{client}token_prefix = \"a b c d\"\n"), "no beginning of tokens"),
        (format!("{asked}{client}token_prefix = \"nct_a\"\n"), "are this service's"),
        (format!("{asked}{client}token_prefix = \"eyJh\"\n"), "JWTs begin with eyJ"),
        (asked.replace("https", "http") + client, "not https"),
        (
            format!("{asked}{client}{other}{asked}{client}"),
            "[issuers.other] introspection_url: [issuers.kc] is asked about tokens with any beginning too",
        ),
        (
            format!(
                "{asked}{client}token_prefix = \"tok_\"\n{other}{asked}{client}token_prefix = \"tok_\"\n"
            ),
            "tokens that begin with `tok_` too",
        ),
    ] {
        let found = mistakes(&table);
        assert!(found.iter().any(|it| it.contains(words)), "{table}: {found:?}");
    }
    let apart = format!("{asked}{client}{other}{asked}{client}token_prefix = \"tok_\"\n");
    assert_eq!(load(&with(&apart), &[]).unwrap().config.issuers.len(), 2);
}

#[test]
fn users_without_a_row_need_a_tenant() {
    let issuer = one(&with("users = \"policy\"\ntenant_claim = \"org\"\npolicy = \"x\"\n"), &[]);
    assert_eq!(issuer.tenant, Some(TenantOf::Claim("org".to_owned())));
    let policy = Some("x".to_owned());
    assert_eq!(issuer.users, Users::Policy { kind: UserKind::Bb, policy, by_claim: None });
    for (table, words) in [
        ("users = \"policy\"\n", "[issuers.kc] users: nothing says which tenant"),
        ("users = \"all\"\n", "`all` is neither"),
        ("kind = \"service\"\n", "[issuers.kc] kind: a user's row says it"),
        (
            "policy_claim = \"roles\"\npolicies = [\"a=b\"]\n",
            "[issuers.kc] policy_claim: a user's row says it",
        ),
        (
            "users = \"policy\"\ntenant = \"a\"\npolicy_claim = \"roles\"\n",
            "no value of it has a policy",
        ),
        (
            "users = \"policy\"\ntenant = \"a\"\npolicies = [\"a=b\"]\n",
            "nothing says which claim chooses",
        ),
        (
            "users = \"policy\"\ntenant = \"a\"\npolicy_claim = \"r\"\npolicies = [\"a=b\", \"c\"]\n",
            "`c` is no VALUE=POLICY",
        ),
        ("tenant = \"a.b\"\n", "`a.b` is none"),
        ("tenant = \"a\"\ntenant_claim = \"b\"\n", "the tenant is written too"),
    ] {
        let found = mistakes(table);
        assert!(found.len() == 1 && found[0].contains(words), "{table}: {found:?}");
    }
}

/// Each by itself, and all together.
#[test]
fn tables_of_readme_are_read() {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme.split_once("## Logging in with a JWT").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let tables: Vec<&str> = section
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split_once("```").unwrap().0)
        .collect();
    assert!(tables.len() >= 3, "{section}");
    for text in tables.iter().copied().chain([tables.concat().as_str()]) {
        let loaded = load(&format!("{CONFIG}{text}"), &[]).unwrap();
        assert_eq!(loaded.warnings, [""; 0], "{text}");
    }
}

#[test]
fn what_kubernetes_has() {
    let table = |more: &str| {
        format!("{CONFIG}[issuers.k8s]\npreset = \"kubernetes\"\naudience = [\"nats\"]\n{more}")
    };
    let issuer = one(&table(""), &[]);
    assert_eq!(issuer.issuer, "https://kubernetes.default.svc.cluster.local");
    let KeyLocation::Url(url, way) = issuer.keys else { panic!("a URL") };
    assert_eq!(url, "https://kubernetes.default.svc/openid/v1/jwks");
    assert!(way.ca_file.is_some() && way.bearer_file.is_some());
    assert_eq!(issuer.user_claim, "kubernetes.io.serviceaccount.name");
    assert_eq!(issuer.tenant, Some(TenantOf::Claim("kubernetes.io.namespace".to_owned())));
    assert!(matches!(issuer.users, Users::Policy { .. }));
    let other = "issuer = \"https://oidc.example.com/id/1\"\ntenant = \"shop\"\n\
                 jwks_file = \"keys.json\"\nusers = \"table\"\n";
    let issuer = one(&table(other), &[]);
    assert_eq!(issuer.issuer, "https://oidc.example.com/id/1");
    assert!(matches!(issuer.keys, KeyLocation::File(_)));
    assert_eq!(issuer.tenant, Some(TenantOf::Fixed("shop".parse().unwrap())));
    assert_eq!(issuer.users, Users::Table);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nats-callout.toml");
    std::fs::write(&file, table("")).unwrap();
    let said = Config::load_with(&file, Files::MustExist, []).unwrap_err().to_string();
    let told = "ca.crt: No such file or directory (os error 2); it is the file of the preset: run where \
                that is, or write [issuers.k8s] ca_file of your own";
    assert!(said.contains(told), "{said}");
    let found = mistakes("preset = \"nomad\"\n");
    assert!(found.iter().any(|it| it.contains("there is no preset `nomad`")), "{found:?}");
}

#[test]
fn mistakes_are_all_told_with_line_and_remedy() {
    let found = mistakes("leway = \"1s\"\nalgorithms = [\"HS256\"]\nuser_claim = \"\"\n");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].ends_with(":10: [issuers.kc] leway: unknown key; did you mean `leeway`?"));
    assert!(found[1].contains("`HS256` is no algorithm for public keys; choose out of RS256"));
    for (table, words) in [
        ("leeway = \"6m\"\n", "out of range"),
        ("discovery = false\n", "no place of the keys is left"),
        ("discovery = true\njwks_file = \"x\"\n", "another place of the keys"),
        ("secret = [\"a\"]\njwks_url = \"https://x.org\"\n", "another place of the keys"),
        ("secret = []\n", "an empty list"),
        ("secret = [\"a\"]\nalgorithms = [\"RS256\"]\n", "no algorithm for a shared secret"),
        ("secret = [\"a\"]\nca_file = \"x\"\n", "fetched from no server"),
        ("jwks_file = \"a\"\nbearer_file = \"x\"\n", "fetched from no server"),
        ("proxy = \"http://\"\n", "[issuers.kc] proxy"),
        ("algorithms = [\"none\"]\n", "`none` is no algorithm"),
        ("algorithms = []\n", "an empty list"),
        ("jwks_url = \"http://x.org/keys\"\n", "not https"),
        ("jwks_url = \"https://me:pw@x.org/keys\"\n", "credentials"),
        (
            "[issuers.other]\nissuer = \"https://id.example.com/realms/x\"\naudience = [\"x\"]\n",
            "is the issuer of [issuers.kc] too",
        ),
        ("[issuers.\"a-b\"]\nissuer = \"https://x\"\naudience = [\"x\"]\n", "a-z, 0-9 and _"),
    ] {
        let found = mistakes(table);
        assert!(found.iter().any(|it| it.contains(words)), "{table}: {found:?}");
    }
    let found = load(&format!("{CONFIG}[issuers.kc]\naudience = []\n"), &[]).unwrap_err();
    assert!(found.iter().any(|it| it.contains("[issuers.kc] issuer: missing")), "{found:?}");
    assert!(found.iter().any(|it| it.contains("[issuers.kc] audience: an empty list")));
    let found = load(&format!("{CONFIG}[issuers]\nissuer = \"x\"\n"), &[]).unwrap_err();
    assert!(found[0].contains("write it as [issuers.NAME]"), "{found:?}");
    let insecure = with("").replace("https:", "http:");
    assert!(load(&insecure, &[]).unwrap_err()[0].contains("not https"));
}

#[test]
fn the_environment_overrides_and_adds() {
    let issuer = one(
        &with(""),
        &[
            ("NATS_CALLOUT_ISSUERS_KC_AUDIENCE", "a, b"),
            ("NATS_CALLOUT_ISSUERS_KC_USER_CLAIM", "preferred_username"),
        ],
    );
    assert_eq!(issuer.audience, ["a", "b"]);
    assert_eq!(issuer.user_claim, "preferred_username");
    let issuer = one(
        CONFIG,
        &[
            ("NATS_CALLOUT_ISSUERS_MY_ID_ISSUER", "https://x.org"),
            ("NATS_CALLOUT_ISSUERS_MY_ID_AUDIENCE", "nats"),
        ],
    );
    assert_eq!((issuer.name.as_str(), issuer.issuer.as_str()), ("my_id", "https://x.org"));
    let loaded = load(&with(""), &[("NATS_CALLOUT_ISSUERS_KC_AUDIENZ", "x")]).unwrap();
    assert!(loaded.warnings[0].contains("NATS_CALLOUT_ISSUERS_KC_AUDIENCE"), "{loaded:?}");
}
