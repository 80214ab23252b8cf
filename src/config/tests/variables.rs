//! Variables that override keys, or were meant to.

use super::*;

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let problems = load(&operator(), &[("NATS_CALLOUT_NATS_CONNECTIONS", "many")]).unwrap_err();
    assert_eq!(
        problems,
        ["NATS_CALLOUT_NATS_CONNECTIONS: [nats] connections: expected a whole number, found a \
          string; write one such as 2"]
    );
}

#[test]
fn a_misspelt_variable_is_told_with_the_one_that_was_meant() {
    let issuer = "[issuers.kc]\nissuer = \"https://x.org\"\naudience = [\"nats\"]\n";
    for (text, name, near) in [
        (operator(), "CACHE_TLL", "CACHE_TTL"),
        (operator(), "HTTP_LISTN", "HTTP_LISTEN"),
        (operator(), "DATABSE_URL", "DATABASE_URL"),
        (operator(), "DATABSE_URL_FILE", "DATABASE_URL_FILE"),
        (operator(), "NATS_CREDENTALS_FILE", "NATS_CREDENTIALS_FILE"),
        (operator() + issuer, "ISSUERS_KC_AUDIENCES", "ISSUERS_KC_AUDIENCE"),
        (operator() + issuer, "ISSUER_KC_AUDIENCE", "ISSUERS_KC_AUDIENCE"),
        (operator(), "ISSUERS_CLUSTER_AUDIENCES", "ISSUERS_CLUSTER_AUDIENCE"),
        (operator(), "ISSUERS_MY_ID_USR_CLAIM", "ISSUERS_MY_ID_USER_CLAIM"),
        (operator(), "ISSUERS_KC_CLIENT_SECRT_FILE", "ISSUERS_KC_CLIENT_SECRET_FILE"),
    ] {
        let name = format!("NATS_CALLOUT_{name}");
        let warnings = load(&text, &[(&name, "x")]).unwrap().warnings;
        let said =
            format!("{name} overrides no key and is ignored; did you mean NATS_CALLOUT_{near}?");
        assert_eq!(warnings, [said]);
    }
    let far = [
        "NATS_CALLOUT_ISSUERS_KC_ZEBRAS",
        "NATS_CALLOUT_ISSUERS_",
        "NATS_CALLOUT_",
        "NATS_CALLOUT_PORT",
    ];
    for name in far {
        let warnings = load(&operator(), &[(name, "x")]).unwrap().warnings;
        assert_eq!(warnings, [format!("{name} overrides no key and is ignored")]);
    }
}

/// A Service whose name begins with nats-callout is nobody's mistake.
#[test]
fn variables_of_kubernetes_are_no_misspelt_ones() {
    let of_kubernetes = [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "9222"),
        ("SERVICE_PORT_HTTP", "9222"),
        ("PORT", "tcp://10.0.0.1:9222"),
        ("PORT_9222_TCP", "tcp://10.0.0.1:9222"),
        ("PORT_9222_TCP_PROTO", "tcp"),
        ("PORT_9222_TCP_PORT", "9222"),
        ("PORT_9222_TCP_ADDR", "10.0.0.1"),
        ("METRICS_SERVICE_HOST", "10.0.0.1"),
        ("METRICS_PORT_9222_UDP_ADDR", "10.0.0.1"),
    ];
    for (name, value) in of_kubernetes {
        let loaded = load(&operator(), &[(&format!("NATS_CALLOUT_{name}"), value)]).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
    }
}

/// What is missing may be written under a wrong name.
#[test]
fn a_configuration_with_mistakes_tells_of_misspelt_variables_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(DEFAULT_FILE);
    std::fs::write(&file, CONFIG.replace("url = \"sqlite://tenants.db\"\n", "")).unwrap();
    let env = [("NATS_CALLOUT_DATABSE_URL".to_owned(), "sqlite://x.db".to_owned())];
    let said = Config::load_with(&file, Files::Unchecked, env).unwrap_err().to_string();
    for words in ["1 mistake", "[database] url: missing", "\n  warning: NATS_CALLOUT_DATABSE_URL "]
    {
        assert!(said.contains(words), "{said}");
    }
}

/// Whoever looks for the mistake looks where the address is written.
#[test]
fn the_database_is_named_by_where_its_address_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "postgres://me:pw@h/db\n").unwrap();
    let path = file.to_str().unwrap();
    let origin = |env: &[(&str, &str)]| {
        let config = load(&operator(), env).unwrap().config;
        config.database_origin().replace(config.folder.to_str().unwrap(), "")
    };
    assert_eq!(origin(&[]), "[database] url of /nats-callout.toml");
    let variable = "NATS_CALLOUT_DATABASE_URL";
    assert_eq!(origin(&[(variable, "postgres://me@h/db")]), variable);
    let by_file = "NATS_CALLOUT_DATABASE_URL_FILE";
    assert_eq!(origin(&[(by_file, path)]), format!("{path} of {by_file}"));
}

#[test]
fn a_file_that_cannot_be_read_is_the_only_mistake_of_its_key() {
    let text = CONFIG.replace("url = \"sqlite://tenants.db\"\n", "");
    let found = load(&text, &[("NATS_CALLOUT_DATABASE_URL_FILE", "/no/such")]).unwrap_err();
    assert!(found.len() == 1 && found[0].contains("cannot read /no/such"), "{found:?}");
    let issuer = "[issuers.x]\nissuer = \"https://x.org\"\n";
    let by_file = ("NATS_CALLOUT_ISSUERS_X_AUDIENCE_FILE", "/no/such");
    let found = load(&(operator() + issuer), &[by_file]).unwrap_err();
    assert!(found.len() == 1 && found[0].contains("cannot read /no/such"), "{found:?}");
    let issuer =
        "audience = [\"nats\"]\nintrospection_url = \"https://x.org/i\"\nclient_id = \"nats\"\n";
    let issuer = "[issuers.x]\nissuer = \"https://x.org\"\n".to_owned() + issuer;
    let by_file = ("NATS_CALLOUT_ISSUERS_X_CLIENT_SECRET_FILE", "/no/such");
    let found = load(&(operator() + &issuer), &[by_file]).unwrap_err();
    assert!(found.len() == 1 && found[0].contains("cannot read /no/such"), "{found:?}");
}

#[test]
fn a_database_has_no_parameters_that_nobody_reads() {
    for (url, words) in [
        ("postgres://u:p@h/d?sslmod=verify-full", "did you mean sslmode?"),
        ("postgres://u:p@h/d?foo=bar", "the parameter foo is not known"),
        ("sqlite://x.db?mode=ro", "takes no parameters"),
    ] {
        let found = load(&operator(), &[("NATS_CALLOUT_DATABASE_URL", url)]).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        assert!(found[0].starts_with("NATS_CALLOUT_DATABASE_URL: [database] url: "), "{found:?}");
    }
}
