//! Names that people take for one another's, credentials that nobody can have, and tenants without room.

use super::Findings;
use crate::harness::choice::on_both_databases;
use crate::harness::deployment::{Initialised, Mode};

on_both_databases! {
    fn tenants_without_room_for_anybody() {
        let init = Initialised::new(Mode::Config);
        init.cli(&["list"]).success();
        init.sql("INSERT INTO tenants (id, name, max_connections) VALUES ('1', 'x', 1);");
        let findings = Findings::of(&init);
        assert!(findings.0.iter().all(|(check, ..)| check != "max_connections"), "{:?}", findings.0);
        init.sql("INSERT INTO tenants (id, name, max_connections) VALUES ('42', 'x', 0);");
        let remedy = "SET max_connections = NULL WHERE id = '42'";
        let findings = Findings::of(&init);
        findings.has("max_connections", "warn", &["1 tenant with 0", "nobody in: 42;", remedy]);
        init.sql(
            "INSERT INTO tenants (id, name, max_connections)
             VALUES ('43', 'x', 0), ('44', 'x', 0), ('45', 'x', 0);",
        );
        let findings = Findings::of(&init);
        findings.has("max_connections", "warn", &["4 tenants with 0", "nobody in: 42, 43, 44, and 1 more;"]);
    }

    fn names_that_are_alike_and_credentials_that_nobody_has() {
        let init = Initialised::new(Mode::Config);
        init.tenant_add("shop", &[]);
        let (names, credentials) = ("names", "nkeys and certificates");
        let nkey = nkeys::KeyPair::new_user().public_key();
        let mistyped = format!("{}{}", &nkey[..55], if nkey.ends_with('A') { 'B' } else { 'A' });
        init.sql(&format!(
            "INSERT INTO users (tenant_id, name, nkey, certificate)
               VALUES ('shop', 'alice', '{nkey}', 'CN=alice');",
        ));
        let findings = Findings::of(&init);
        findings.has(names, "ok", &[]);
        findings.has(credentials, "ok", &["2, each"]);
        // The last letter with its accent is one character in one name, and two in the other.
        init.sql(&format!(
            "INSERT INTO tenants (id, name) VALUES ('Shop', 'x');
             INSERT INTO users (tenant_id, name) VALUES
               ('Shop', 'Alice'), ('shop', 'ALICE'), ('shop', 'ren\u{e9}'), ('shop', 'rene\u{301}');
             INSERT INTO users (tenant_id, name, nkey) VALUES
               ('shop', 'bob', '{mistyped}');
             INSERT INTO users (tenant_id, name, certificate) VALUES ('shop', 'carol', 'alice smith');",
        ));
        let findings = Findings::of(&init);
        let cases = r#""ALICE" and "Alice" and "alice""#;
        let forms = [r"(rene\u{301}) and ", r"(ren\u{e9})"];
        findings.has(names, "warn", &["users", "2 sets", cases, forms[0], forms[1]]);
        findings.has(names, "warn", &["tenants", "1 set:", r#""Shop" and "shop""#]);
        let nobodys = [r#"nkey of "bob" of tenant shop"#, r#"certificate of "carol""#];
        findings.has(credentials, "warn", &["2 of 4 let nobody in", nobodys[0], nobodys[1]]);
    }

    fn policies_and_accounts_that_are_not_there() {
        let init = Initialised::new(Mode::Config);
        init.set("dedicated", "{ OWN = \"own\" }");
        init.cli(&["list"]).success();
        init.sql(
            "INSERT INTO tenants (id, name, policy) VALUES ('shop', 'x', 'bb');
             INSERT INTO tenants (id, name, account) VALUES ('own', 'x', 'OWN');
             INSERT INTO users (tenant_id, name, policy) VALUES ('shop', 'a', 'admin'), ('shop', 'b', NULL);",
        );
        let (policies, accounts) = ("policies", "accounts of tenants");
        let findings = Findings::of(&init);
        assert!(!findings.0.iter().any(|(.., what)| what.contains("refused, since")), "{:?}", findings.0);
        init.sql(
            "INSERT INTO tenants (id, name, policy) VALUES ('lost', 'x', 'nowhere');
             INSERT INTO tenants (id, name, account) VALUES ('other', 'x', 'OWN'), ('astray', 'x', 'NOWHERE');
             INSERT INTO users (tenant_id, name, kind, policy) VALUES
               ('shop', 'c', 'service', 'gone'), ('shop', 'd', 'bb', 'gone');",
        );
        let findings = Findings::of(&init);
        let users = r#"not there: "c" of tenant shop (`gone`), "d" of tenant shop (`gone`); add"#;
        findings.has(policies, "warn", &["2 users are refused, since users.policy", users]);
        let tenants = "since tenants.policy names a policy that is not there: lost (`nowhere`); add";
        findings.has(policies, "warn", &["users of a tenant are refused", tenants]);
        let unplaced = "by [placement]: astray (`NOWHERE`), other (`OWN`); name one";
        findings.has(accounts, "warn", &["users of 2 tenants are refused", "tenants.account", unplaced]);
        init.sql(
            "UPDATE users SET policy = 'gone';
             UPDATE tenants SET policy = 'gone';",
        );
        let findings = Findings::of(&init);
        findings.has(policies, "warn", &["4 users are refused", "(`gone`), and 1 more;"]);
        findings.has(policies, "warn", &["users of 5 tenants are refused", "(`gone`), and 2 more;"]);
    }

    /// Nobody but tenants of that id can have such a name, unless the tenant came later.
    fn names_that_begin_with_the_id_of_another_tenant() {
        let init = Initialised::new(Mode::Config);
        init.tenant_add("shop", &[]);
        init.sql(
            "INSERT INTO users (tenant_id, name) VALUES
               ('shop', 'later/vip'), ('shop', 'never/vip'), ('shop', 'shop/vip');",
        );
        let foreign = "another tenant's id";
        let findings = Findings::of(&init);
        assert!(!findings.0.iter().any(|(.., what)| what.contains(foreign)), "{:?}", findings.0);
        init.sql("INSERT INTO tenants (id, name) VALUES ('later', 'x');");
        let named = r#"barred: "later/vip" of tenant shop; rename"#;
        Findings::of(&init).has("names", "warn", &[foreign, "1 begin", named]);
    }

    /// As rows from before the rule that refuses them.
    fn secrets_and_blanks_at_the_ends() {
        let init = Initialised::new(Mode::Config);
        init.tenant_add("shop", &[]);
        let table = if init.table.is_sqlite() { "" } else { " ON users" };
        init.sql(&format!("DROP TRIGGER users_insert_name_form_check{table};"));
        init.sql("INSERT INTO users (tenant_id, name) VALUES ('shop', 'trail');");
        Findings::of(&init).has("names", "ok", &[]);
        init.sql(
            "INSERT INTO users (tenant_id, name) VALUES
               ('shop', 'trail '), ('shop', ' lead'), ('shop', 'nct_aaaaaaaaaaaaaaaaaaaa');",
        );
        let findings = Findings::of(&init);
        findings.has("names", "warn", &["2 begin or end with a blank", r#"" lead" of tenant shop"#]);
        findings.has("names", "warn", &["users that differ", "1 set:", r#""trail" and "trail ""#]);
        findings.has("names", "warn", &["1 are or hold what looks like a token", r#""nct_aa..." of tenant shop;"#]);
        init.sql(
            "INSERT INTO users (tenant_id, name)
             VALUES ('shop', 'b '), ('shop', 'c '), ('shop', 'd '), ('shop', 'nct_bbbbbbbbbbbbbbbbbbbb ');",
        );
        let findings = Findings::of(&init);
        findings.has("names", "warn", &["6 begin or end with a blank", ", and 3 more;"]);
        findings.has("names", "warn", &["2 are or hold what looks like a token"]);
        assert!(findings.0.iter().all(|(.., what)| !what.contains("keeps the rules") && !what.contains("bbbbb")));
    }

    /// The database takes them, and nobody can tell a secret from a name by a glance.
    fn secrets_within_names() {
        let init = Initialised::new(Mode::Config);
        init.tenant_add("shop", &[]);
        let token = "nct_aaaaaaaaaaaaaaaaaaaa";
        let held = [format!("\"{token}\""), format!("token:{token}"), "Bearer eyJhbGciOiJIUzI1NiJ9.e30".into()];
        let said = [r#""\"nct_aa...""#, r#""token:nct_aa...""#, r#""Bearer eyJhbG...""#];
        for name in &held {
            init.sql(&format!("INSERT INTO users (tenant_id, name) VALUES ('shop', '{name}');"));
        }
        let findings = Findings::of(&init);
        let all = ["3 are or hold", said[0], said[1], said[2], "make a new one"];
        findings.has("names", "warn", &all);
        // Nor do other lines show them.
        init.sql(&format!(
            "INSERT INTO users (tenant_id, name, certificate) VALUES
               ('shop', 'Bearer {token}', 'alice smith'), ('shop', 'bearer {token}', NULL),
               ('shop', 'x\u{200b} {token}', NULL);"
        ));
        let findings = Findings::of(&init);
        findings.has("names", "warn", &["6 are or hold", ", and 3 more;"]);
        findings.has("names", "warn", &["users that differ", r#""Bearer nct_aa..." and "bearer nct_aa...""#]);
        findings.has("nkeys and certificates", "warn", &[r#"certificate of "Bearer nct_aa..." of"#]);
        findings.has("names", "warn", &["1 hold", r#"the user "x\u{200b} nct_aa..." of tenant shop"#]);
        assert!(findings.0.iter().all(|(.., what)| !what.contains("aaaaa")), "{:?}", findings.0);
    }

    /// Nor does what a command prints hide them.
    fn names_with_characters_that_nobody_sees() {
        let init = Initialised::new(Mode::Config);
        init.tenant_add("shop", &[]);
        init.sql("INSERT INTO users (tenant_id, name) VALUES ('shop', 'x'), ('shop', 'Ä & 株🦀');");
        let seen = "that nobody sees";
        let findings = Findings::of(&init);
        assert!(!findings.0.iter().any(|(.., what)| what.contains(seen)), "{:?}", findings.0);
        findings.has("names", "ok", &[]);
        let hidden = ["x\u{200b}", "\u{202e}x", "\u{2066}x", "x\u{feff}", "\u{ad}x"];
        for name in hidden {
            init.sql(&format!("INSERT INTO users (tenant_id, name) VALUES ('shop', '{name}');"));
        }
        init.sql("UPDATE tenants SET name = 'Sh\u{202e}op';");
        let findings = Findings::of(&init);
        findings.has("names", "warn", &["6 hold", seen, r#"the user "\u{ad}x" of tenant shop"#, ", and 3 more"]);
        findings.has("names", "warn", &["users that differ", "1 set:", r#""x" and "x\u{200b}" (x"#]);
        init.sql("DELETE FROM users WHERE name <> 'x';");
        let name = r#"the name "Sh\u{202e}op" of tenant shop"#;
        Findings::of(&init).has("names", "warn", &["1 hold", name]);

        init.sql(&format!("INSERT INTO users (tenant_id, name) VALUES ('shop', '{}');", hidden[0]));
        for (command, shown) in [
            (&["list"][..], &[r"Sh\u{202e}op"][..]),
            (&["show", "shop"], &[r"Sh\u{202e}op", r"x\u{200b}"]),
            (&["show", "shop", hidden[0]], &[r"x\u{200b}"]),
            (&["--json", "list"], &[r#""Sh\u202eop""#, r#""x\u200b""#]),
            (&["--json", "show", "shop", hidden[0]], &[r#""x\u200b""#]),
        ] {
            let printed = init.cli(command).success().stdout;
            let is_shown = shown.iter().all(|it| printed.contains(it));
            assert!(is_shown && !printed.contains(['\u{200b}', '\u{202e}']), "{printed}");
        }
    }
}
