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
        ("postgres://u:p@h/d?sslmode=require&sslmode=disable", "sslmode is written twice"),
        ("postgres://127.0.0.1:25432", "it names no user"),
        ("postgres://h/d", "it names no user"),
        ("sqlite://x.db?mode=ro", "takes no parameters"),
        ("sqlite:///tmp", "/tmp is a folder, and a database is a file in one"),
    ] {
        let found = load(&operator(), &[("NATS_CALLOUT_DATABASE_URL", url)]).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        assert!(found[0].starts_with("NATS_CALLOUT_DATABASE_URL: [database] url: "), "{found:?}");
    }
}

#[test]
fn an_address_that_names_its_user_is_whole() {
    for url in [
        "postgres:///d?host=/run/postgresql&user=me",
        "postgres://me@h?dbname=d",
        "postgres://me:p@h",
        "postgres://me:p@h/",
    ] {
        load(&operator(), &[("NATS_CALLOUT_DATABASE_URL", url)]).unwrap();
    }
}

/// The service's unit may have set it.
#[test]
fn what_is_missing_is_told_with_the_variables_that_may_have_it() {
    let text = CONFIG.replace("url = \"sqlite://tenants.db\"\n", "");
    let found = load(&text, &[]).unwrap_err();
    let told = ", or set NATS_CALLOUT_DATABASE_URL or NATS_CALLOUT_DATABASE_URL_FILE, as the service's unit \
                may";
    assert!(found.len() == 1 && found[0].ends_with(told), "{found:?}");
    let issuer = "[issuers.x]\nissuer = \"https://x.org\"\naudience = [\"nats\"]\n\
                  introspection_url = \"https://x.org/i\"\nclient_id = \"nats\"\n";
    let found = load(&(operator() + issuer), &[]).unwrap_err();
    let told = "there is no client_secret; write both of them, or set NATS_CALLOUT_ISSUERS_X_CLIENT_SECRET or \
                NATS_CALLOUT_ISSUERS_X_CLIENT_SECRET_FILE, as the service's unit may";
    assert!(found.len() == 1 && found[0].ends_with(told), "{found:?}");
    let found = load(&CONFIG.replace("issuer = [\"keys/issuer.nk\"]\n", ""), &[]).unwrap_err();
    let told = ", or set NATS_CALLOUT_CALLOUT_ISSUER, as the service's unit may";
    assert!(found.len() == 1 && found[0].ends_with(told), "{found:?}");
}

#[test]
fn a_file_of_a_value_is_not_empty() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "\n").unwrap();
    let path = file.path().to_str().unwrap();
    let found = load(&operator(), &[("NATS_CALLOUT_DATABASE_URL_FILE", path)]).unwrap_err();
    let told = format!("{path} is empty; write the value into it");
    assert!(found.len() == 1 && found[0].ends_with(&told), "{found:?}");
}

#[test]
fn an_address_of_a_server_ends_with_its_host_and_port() {
    let variable = "NATS_CALLOUT_NATS_URL";
    for (url, part) in [
        ("nats://127.0.0.1:4222/path", "`/path` behind the host"),
        ("nats://127.0.0.1:4222/?tok=secretpw1", "`?` behind `nats://127.0.0.1:4222/`"),
        ("tls://127.0.0.1:4222?token=secretpw1", "`?` behind `tls://127.0.0.1:4222`"),
        ("wss://127.0.0.1/nats#secretpw1", "`#` behind `wss://127.0.0.1/nats`"),
        ("127.0.0.1?token=secretpw1", "`?` behind `127.0.0.1`"),
        ("nats://u:secretpw1@127.0.0.1:4222", "credentials do not belong into the address"),
        ("nats://secretpw1@127.0.0.1:4222", "credentials do not belong into the address"),
        ("nats://u:secretpw1,x@127.0.0.1", "credentials do not belong into the address"),
        ("u:secretpw1@127.0.0.1:4222", "credentials do not belong into the address"),
        ("http://u:secretpw1@127.0.0.1", "credentials do not belong into the address"),
    ] {
        for variable in [variable, "NATS_CALLOUT_NATS_PUBLIC_URL"] {
            let found = load(&operator(), &[(variable, url)]).unwrap_err();
            let key = if variable.ends_with("PUBLIC_URL") { "public_url" } else { "url" };
            let told = format!("{variable}: [nats] {key}: {part}");
            assert!(found.len() == 1 && found[0].starts_with(&told), "{found:?}");
            assert!(!found[0].contains("secretpw1"), "{found:?}");
        }
    }
    for url in ["nats://127.0.0.1:4222/", "wss://127.0.0.1/nats", "nats://[::1]:4222"] {
        load(&operator(), &[(variable, url)]).unwrap();
    }
}

#[test]
fn a_range_is_written_as_the_documents_write_it() {
    let found = load(&operator(), &[("NATS_CALLOUT_CALLOUT_DEADLINE", "9h")]).unwrap_err();
    assert!(
        found.len() == 1 && found[0].contains("9h is out of range; choose one from "),
        "{found:?}"
    );
    assert!(!found[0].contains("0ns") && !found[0].contains("00s"), "{found:?}");
}
