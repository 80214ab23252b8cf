//! What issuers hand to policies, as `policy test` and `policy check` know it.

use serde_json::json;

use super::commands::folder;
use crate::harness::service::{Output, cli};

/// An issuer that gives its users the policy `team`, and hands these claims to it, in a configuration with a tenant
/// that has an account of its own.
fn configuration(claims: &str, more: &str) -> String {
    format!(
        "[nats]\nmode = \"config\"\n[callout]\nissuer = [\"issuer.nk\"]\n[placement]\n\
         dedicated = {{ OWN = \"own\" }}\n[database]\nurl = \"sqlite://t.db\"\n[policies]\nfolder = \"own\"\n\
         [issuers.kc]\nissuer = \"https://kc.example.com\"\naudience = [\"nats\"]\nusers = \"policy\"\n\
         tenant = \"shop\"\npolicy = \"team\"\nclaims = [{claims}]\n{more}"
    )
}

/// Runs a command with this configuration, and this policy `team` with its test table.
fn run(configuration: &str, policy: &str, table: &str, args: &[&str]) -> Output {
    let folder = folder(&[("nats-callout.toml", configuration)]);
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("team.toml"), policy).unwrap();
    std::fs::write(own.join("team.test.toml"), table).unwrap();
    cli(folder.path(), args)
}

/// A case knows what an issuer hands on, by the same rules as a login.
#[test]
fn a_case_of_an_issuer() {
    const POLICY: &str = "[account]\npublish = [\"t.{{claims.teams}}\"]\n[shared]\n";
    let case = |lines: &str| {
        format!(
            "[[case]]\nname = \"a\"\nform = \"account\"\ntenant = \"shop\"\nuser = \"alice\"\n{lines}\n"
        )
    };
    let tested = |claims: &str, more: &str, lines: &str, args: &[&str]| {
        run(&configuration(claims, more), POLICY, &case(lines), args)
    };
    let test = ["policy", "test"];
    let of = "issuer = \"kc\"\n";
    let red = "claims.teams = \"red\"\nmay_publish = [\"t.red\"]";
    let words = "claims.teams = \"red blue\"\nmay_publish = [\"t.red\", \"t.blue\"]";
    let some = "claims.teams = [\"red\", \"all of them\"]\nmay_publish = [\"t.red\"]";
    for (claims, more, lines) in [
        ("\"teams\"", "", red),
        ("\"teams\"", "split = [\"teams\"]", words),
        ("\"teams\"", "unusable_values = \"drop\"", some),
        ("", "", "claims.teams = \"red\"\ndenied = \"policy\""),
    ] {
        let seen = tested(claims, more, &format!("{of}{lines}"), &test);
        assert!(seen.status == 0, "{claims} {more} {lines}: {seen:?}");
    }
    let group = "claims.group = \"x\"\nclaims.teams = \"red\"\nmay_publish = [\"t.red\"]";
    let twice =
        "claims = { \"a.teams\" = \"red\", a = { teams = \"blue\" } }\nmay_publish = [\"t.red\"]";
    for (claims, lines, why) in [
        (
            "\"group\"",
            group,
            "the claim `teams` is not handed to the policy; list it in [issuers.kc] claims",
        ),
        ("\"teams\"", words, "a value of the claim `teams` is not one subject token"),
        (
            "\"a.teams\"",
            twice,
            "invalid_token: issuer kc: the claim `a.teams` can be read in two ways",
        ),
    ] {
        let seen = tested(claims, "", &format!("{of}{lines}"), &test);
        assert!(seen.status == 1 && seen.stdout.contains(why), "no {why}: {seen:?}");
        if lines == group {
            // Without the issuer, all claims are the policy's to see.
            assert_eq!(tested(claims, "", lines, &test).status, 0);
        }
    }
    let seen = tested("", "", &format!("issuer = \"no\"\n{red}"), &test);
    let words = "team.test.toml:6: issuer: there is no [issuers.no]; name one of the configuration";
    assert!(seen.status == 2 && seen.stderr.contains(words), "{seen:?}");
    let seen = tested("\"teams\"", "", &format!("{of}{red}"), &["policy", "test", "own"]);
    let words = "issuer: there is no configuration to know it by; leave the folder out";
    assert!(seen.status == 2 && seen.stderr.contains(words), "{seen:?}");
}

/// What chooses the policy of users without a row chooses that of a case.
#[test]
fn a_case_of_an_issuer_whose_claims_choose_the_policy() {
    const POLICY: &str = "[account]\npublish = [\"in.{{user.name}}\"]\n[shared]\n";
    let chosen = configuration("", "").replace("policy = \"team\"", "policy_claim = \"r.roles\"");
    let chosen = format!("{chosen}policies = [\"boss=admin\", \"staff=team\"]\n");
    let tested = |configuration: &str, lines: &str| {
        let table = format!(
            "[[case]]\nname = \"a\"\nform = \"account\"\ntenant = \"shop\"\nuser = \"alice\"\nissuer = \"kc\"\n\
             {lines}\n"
        );
        run(configuration, POLICY, &table, &["policy", "test"])
    };
    let grant = "may_publish = [\"in.alice\"]";
    let (staff, both) = ("claims.r.roles = \"staff\"", "claims.r.roles = [\"staff\", \"boss\"]");
    let none = "claims.r.roles = [\"x\"]";
    let default = format!("{chosen}policy = \"bb\"\n");
    let twice = "claims = { \"r.roles\" = \"staff\", r = { roles = \"boss\" } }";
    let refused = "denied = \"invalid_token\"";
    let row = "policy = \"team\"";
    let rows = chosen.replace("users = \"policy\"", "users = \"table\"");
    let rows = rows.split("policy_claim").next().unwrap();
    for (configuration, lines) in [
        (&*chosen, format!("{staff}\n{grant}")),
        (&chosen, format!("{none}\n{refused}")),
        (&chosen, format!("{twice}\n{refused}")),
        // A row comes first.
        (&chosen, format!("{both}\n{row}\n{grant}")),
        (&chosen, format!("{none}\n{row}\n{grant}")),
        (rows, format!("{both}\n{grant}")),
    ] {
        let seen = tested(configuration, &lines);
        assert!(seen.status == 0, "{lines}: {seen:?}");
    }
    let other = |policy: &str, said: &str| {
        format!(
            "seen      [issuers.kc] gives the policy {policy} to who has no row{said}; of a user whose row"
        )
    };
    let said_both = " (`r.roles` is `['staff','boss']`)";
    let fixed = configuration("", "").replace("policy = \"team\"", "policy = \"bb\"");
    for (configuration, lines, words) in [
        (&*chosen, format!("{both}\n{grant}"), other("admin", said_both)),
        (&chosen, format!("{both}\ndenied = \"policy\""), other("admin", said_both)),
        (&default, format!("{none}\n{grant}"), other("bb", " (`r.roles` is `['x']`)")),
        (&fixed, format!("{staff}\n{grant}"), other("bb", "")),
        (
            &chosen,
            format!("{none}\n{grant}"),
            "seen      refused: invalid_token: issuer kc: no value of its `policy_claim` has a policy, and `policy` \
             names none (`r.roles` is `['x']`)"
                .to_owned(),
        ),
        (
            &chosen,
            format!("{twice}\n{row}\n{grant}"),
            "seen      refused: invalid_token: issuer kc: the claim `r.roles` can be read in two ways".to_owned(),
        ),
        (&chosen, format!("{staff}\n{refused}"), "seen      a grant".to_owned()),
    ] {
        let seen = tested(configuration, &lines);
        assert!(seen.status == 1 && seen.stdout.contains(&words), "no {words}: {seen:?}");
        let expected = "expected  the policy team, which the table is of";
        assert_eq!(seen.stdout.contains(expected), words.contains("gives the policy"), "{seen:?}");
    }
}

/// Of a policy that an issuer gives to users: a claim that it wants, and that the issuer does not hand to it.
#[test]
fn a_claim_that_no_issuer_hands_to_its_policy() {
    const POLICY: &str = "[account]\npublish = [\n  \"t.{{claims.teams}}\",\n  \"g.{{claims.group}}\",\n]\n\
                          presets = [\"read bucket b-{{claims.group}}\"]\n[shared]\n";
    let table = "case = []\n";
    let checked = |claims: &str, more: &str, args: &[&str]| {
        run(&configuration(claims, more), POLICY, table, args)
    };
    checked("\"teams\", \"group\"", "", &["policy", "check"]).success();
    let twice = "policy_claim = \"roles\"\npolicies = [\"a=team\"]\n";
    let seen = checked("\"teams\"", twice, &["policy", "check"]);
    assert!(seen.status == 2 && seen.stderr.contains("2 mistakes in the policies"), "{seen:?}");
    for place in ["own/team.toml:4: [account] publish", "own/team.toml:6: [account] presets"] {
        let words = format!(
            "{place}: [issuers.kc] does not hand the claim `group` to the policy, and whoever it is for is \
             refused; list \"group\" in [issuers.kc] claims"
        );
        assert!(seen.stderr.contains(&words), "no {words} in {}", seen.stderr);
    }
    let json = checked("\"teams\"", "", &["--json", "policy", "check"]).json();
    assert_eq!((&json["sound"], &json["problems"][0]["line"]), (&json!(false), &json!(4)));
    // No tenant has the form that wants it.
    let shared = configuration("\"teams\"", "").replace("dedicated = { OWN = \"own\" }", "");
    run(&shared, POLICY, table, &["policy", "check"]).success();
}
