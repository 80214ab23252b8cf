//! A tenant whose JetStream the server would not admit is refused before it is added.

use crate::harness::deployment::{Deployment, Initialised, Mode};

#[test]
fn a_tenant_beyond_the_server_s_maxima_is_refused_with_the_remedy() {
    let deployment = Deployment::start(Mode::Operator);
    let add = |args: &[&str]| {
        let mut all = vec!["tenant", "add"];
        all.extend(args);
        deployment.cli(&all)
    };
    // The maxima of the tests are 1GB and 100GB for the tenants.
    add(&["one", "--memory", "600MB", "--storage", "1GB"]).success();
    for (args, word) in [
        (["two", "--memory", "600MB", "--storage", "1GB"], "memory"),
        (["two", "--memory", "1MB", "--storage", "100GB"], "storage"),
    ] {
        let output = add(&args);
        assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
        for word in ["tenant two", word, "nats-server.conf", "insufficient resources", "503"] {
            assert!(output.stderr.contains(word), "no {word}: {}", output.stderr);
        }
    }
    assert_eq!(deployment.sql("SELECT id FROM tenants;"), "one");
    // A row that can never fit hurts its owner alone.
    deployment.sql(
        "INSERT INTO tenants (id, name, js_storage, created_at)
           VALUES ('t10', 'x', 1125899906842624, '2020-01-01 00:00:00+00:00');",
    );
    add(&["small", "--memory", "0", "--storage", "1GB"]).success();
    deployment.sql("DELETE FROM tenants WHERE id IN ('t10', 'small');");
    // What takes nothing away is added, and so is what just fits.
    add(&["shared", "--isolation", "shared", "--storage", "100GB"]).success();
    add(&["none", "--memory", "0", "--storage", "0"]).success();
    add(&["two", "--memory", "424MB", "--storage", "99GB"]).success();
    // An id that is taken is the nearer mistake.
    let output = add(&["one", "--storage", "500GB"]);
    assert!(output.status == 1 && output.stderr.contains("exists already"), "{output:?}");
}

#[test]
fn without_a_server_the_tenant_is_added_with_a_note() {
    let init = Initialised::new(Mode::Operator);
    let output = init.cli(&["tenant", "add", "big", "--storage", "500GB"]).success();
    assert!(output.stderr.contains("is not known"), "{}", output.stderr);
    assert_eq!(init.sql("SELECT id FROM tenants;"), "big");

    let config = Initialised::new(Mode::Config);
    let output = config.cli(&["tenant", "add", "big", "--storage", "500GB"]).success();
    assert!(output.stderr.contains("no effect in a shared account"), "{}", output.stderr);
    assert!(!output.stderr.contains("is not known"), "the server is not even asked");
}
