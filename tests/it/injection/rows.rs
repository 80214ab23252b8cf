//! The same with rows in a real database and logins on a real server: each row is written by plain
//! SQL, which refuses most of them, and whoever can log in tries to reach two tenants, one with an
//! account of its own where there are such, one in the account that is shared. Then once more with
//! every check of the database taken away.

use serde_json::json;

use super::session::{Login, Session};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Initialised, Mode, Table};
use crate::harness::{postgres, servers};

/// What ids, names and entries of lists are made of here.
pub(super) const ODD: [&str; 38] = [
    "",
    " ",
    ".",
    "..",
    "*",
    ">",
    "v.",
    ".v",
    "v.*",
    "v.>",
    "*.v",
    "v v",
    " v",
    "v ",
    "\tv",
    "v\n",
    "v\r\nSUB > 1",
    "v\0",
    "\0",
    "v\u{7f}",
    "v\u{85}",
    "v\u{a0}x",
    "v\u{2028}",
    "v\u{200b}",
    "\u{202e}v",
    "v\u{301}",
    "ｖ",
    "v．x",
    "v․x",
    "＊",
    "＞",
    "ν",
    "日本",
    "{{tenant.id}}",
    "v'); DELETE FROM tenants; --",
    "v\"",
    "v\\u0000",
    "%76",
];

/// Entries of lists beside those.
const SUBJECTS: [&str; 14] = [
    "user.v.>",
    "user.w.>",
    "user.*.>",
    "user.>",
    "*.v.>",
    "_INBOX_v.>",
    "*.*",
    "$SYS.>",
    "$JS.API.>",
    "user.> q.>",
    ".user.v.>",
    "v.>.x",
    "_R_.>",
    "pool.>",
];

/// Legal ids that look like a victim's, or like a part of one.
pub(super) const LIKE: [&str; 7] = ["V", "v-", "-v", "vv", "_", "v_w", "0"];

/// Logins at once: fewer than would keep each other waiting.
const AT_ONCE: usize = 32;

/// How often a login is tried that the service has no time for.
pub(super) const ATTEMPTS: usize = 8;

/// A row to be written, and who it is.
struct Row {
    attacker: Attacker,
    user: String,
    /// Of the tenant, and of the user.
    sql: [String; 2],
}

/// Somebody who tries to reach others.
pub(super) struct Attacker {
    pub(super) label: String,
    pub(super) tenant: String,
}

/// A text in SQL, whatever its bytes.
fn literal(database: &Initialised, text: &str) -> String {
    let hex = data_encoding::HEXLOWER.encode(text.as_bytes());
    if database.table.is_sqlite() {
        format!("CAST(x'{hex}' AS TEXT)")
    } else {
        format!("convert_from('\\x{hex}'::bytea, 'UTF8')")
    }
}

/// A text of a megabyte.
fn megabyte(database: &Initialised) -> &'static str {
    if database.table.is_sqlite() { "hex(zeroblob(524288))" } else { "repeat('0', 1048576)" }
}

/// Every odd text as an id, a name, an entry of each list, a policy and an account.
fn rows(database: &Initialised, hash: &str, isolation: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |label: &str,
                   text: &str,
                   tenant: (&str, &str),
                   user: (&str, &str),
                   more: [&str; 4]| {
        let [policy, account, publish, subscribe] = more;
        let kind = if publish == "'[]'" && subscribe == "'[]'" { "bb" } else { "service" };
        rows.push(Row {
            attacker: Attacker { label: format!("{label} {text:?}"), tenant: tenant.0.to_owned() },
            user: user.0.to_owned(),
            sql: [
                format!(
                    "INSERT INTO tenants (id, name, isolation, js_storage, account) \
                     VALUES ({}, 'x', '{isolation}', 1024, {account});\n",
                    tenant.1
                ),
                format!(
                    "INSERT INTO users \
                     (tenant_id, name, kind, password_hash, policy, publish, subscribe) \
                     VALUES ({}, {}, '{kind}', '{hash}', {policy}, {publish}, {subscribe});\n",
                    tenant.1, user.1
                ),
            ],
        });
    };
    let plain = ["NULL", "NULL", "'[]'", "'[]'"];
    let mut number = 0;
    let mut fresh = || {
        number += 1;
        (format!("n{number}"), format!("'n{number}'"), format!("u{number}"), format!("'u{number}'"))
    };
    for text in ODD.iter().chain(&LIKE) {
        let sql = literal(database, text);
        let (id, quoted_id, name, quoted_name) = fresh();
        add("id", text, (text, &sql), (&name, &quoted_name), plain);
        add("name", text, (&id, &quoted_id), (text, &sql), plain);
    }
    for text in ODD.iter().chain(&SUBJECTS) {
        let list = literal(database, &json!([text]).to_string());
        for more in [["NULL", "NULL", &list, "'[]'"], ["NULL", "NULL", "'[]'", &list]] {
            let (id, quoted_id, name, quoted_name) = fresh();
            add("list", text, (&id, &quoted_id), (&name, &quoted_name), more);
        }
        let sql = literal(database, text);
        let (id, quoted_id, name, quoted_name) = fresh();
        add(
            "policy",
            text,
            (&id, &quoted_id),
            (&name, &quoted_name),
            [&sql, "NULL", "'[]'", "'[]'"],
        );
    }
    for account in ["AUTH", "SYS", "BB", "$G", "$SYS", "USERS", "*", ""] {
        let sql = literal(database, account);
        let (id, quoted_id, name, quoted_name) = fresh();
        let more = ["'admin'", &sql, "'[]'", "'[]'"];
        add("account", account, (&id, &quoted_id), (&name, &quoted_name), more);
    }
    let large = megabyte(database);
    let (id, quoted_id, name, quoted_name) = fresh();
    add("id", "1 MB", ("", large), (&name, &quoted_name), plain);
    add("name", "1 MB", (&id, &quoted_id), ("", large), plain);
    let list = format!("'[\"' || {large} || '\"]'");
    let (id, quoted_id, name, quoted_name) = fresh();
    add("list", "1 MB", (&id, &quoted_id), (&name, &quoted_name), ["NULL", "NULL", &list, "'[]'"]);
    rows
}

/// The tenants that nobody may reach, with ears on all that is theirs.
pub(super) struct Victims(Vec<(&'static str, Session)>);

impl Victims {
    pub(super) fn new(deployment: &Deployment) -> Self {
        let tenants: &[(&str, &[&str])] = match deployment.mode {
            Mode::Operator => &[("v", &["--isolation", "shared"]), ("w", &[])],
            Mode::Config => &[("v", &[])],
        };
        Self(
            tenants
                .iter()
                .map(|(id, options)| {
                    let login = deployment.tenant_add(id, options).connect_fields();
                    let mut session = Session::open(deployment.server.port(), &login, ATTEMPTS)
                        .expect("a victim");
                    let said =
                        session.say(&format!("SUB user.{id}.> 1\r\nSUB _INBOX_{id}.> 2\r\n"));
                    assert_eq!(said, [""; 0]);
                    (*id, session)
                })
                .collect(),
        )
    }

    /// Nobody has heard `word`, and everybody hears itself.
    fn have_not_heard(&mut self, word: &str, by: &str) {
        for (id, session) in &mut self.0 {
            let said = session.say(&format!("PUB user.{id}.own 3\r\nown\r\n"));
            assert_eq!(said.len(), 1, "{id} by {by}: {said:?}");
            assert!(said[0].ends_with(" own") && !said[0].contains(word), "{by}: {said:?}");
        }
    }

    /// Each says something on all that is its own.
    fn speak(&mut self) {
        for (id, session) in &mut self.0 {
            let subjects =
                [format!("user.{id}.Events"), format!("user.{id}.x"), format!("_INBOX_{id}.x")];
            let lines: String =
                subjects.iter().map(|it| format!("PUB {it} 6\r\nvictim\r\n")).collect();
            let said = session.say(&lines);
            assert_eq!(said.len(), 3, "{id} hears itself: {said:?}");
        }
    }
}

/// Tries everything from one connection. The server closes it where an odd id splits a line of the
/// protocol, and the service where the row has changed: that reaches nobody either.
pub(super) fn attack(by: &Attacker, session: &mut Session, victims: &mut Victims) {
    let mut lines = String::new();
    for (sid, subject) in [
        "user.v.>",
        "user.w.>",
        "user.*.>",
        "user.>",
        ">",
        "*.v.>",
        "_INBOX_v.>",
        "_INBOX_w.>",
        "user.v.Events",
        "user.w.x",
        "*",
        "user.*.x",
    ]
    .iter()
    .enumerate()
    {
        lines.push_str(&format!("SUB {subject} {sid}\r\nSUB {subject} q {}\r\n", sid + 100));
    }
    let _ = session.try_say(&lines);
    victims.speak();
    let heard = session.try_say("").unwrap_or_default();
    assert!(!heard.iter().any(|line| line.contains("victim")), "{}: {heard:?}", by.label);
    let mut lines = String::new();
    for subject in [
        "user.v.Events",
        "user.v.Notifications",
        "user.v.x",
        "_INBOX_v.x",
        "user.w.Events",
        "user.w.Notifications",
        "user.w.x",
        "_INBOX_w.x",
        "pool.user.v.Events",
    ] {
        lines.push_str(&format!("PUB {subject} 6\r\nforged\r\n"));
        lines.push_str(&format!("PUB user.{}.Events {subject} 6\r\nforged\r\n", by.tenant));
        lines.push_str(&format!("PUB Events {subject} 6\r\nforged\r\n"));
    }
    let _ = session.try_say(&lines);
    victims.have_not_heard("forged", &by.label);
}

/// Writes the rows, as another program would; gives those that the database took.
fn written<'a>(database: &Initialised, rows: &'a [Row]) -> Vec<&'a Row> {
    let Table::Postgres(tenants) = &database.table else {
        return rows.iter().filter(|row| database.try_sql(&row.sql.concat()).is_ok()).collect();
    };
    // By one psql, which takes longer to start than to write a row.
    let mut script = "\\set ON_ERROR_STOP 0\n".to_owned();
    for Row { sql: [tenant, user], .. } in rows {
        script.push_str(&format!(
            "{tenant}\\if :ERROR\n\\echo refused\n\\else\n{user}\
             \\if :ERROR\n\\echo refused\n\\else\n\\echo taken\n\\endif\n\\endif\n"
        ));
    }
    let said = postgres::psql(&tenants.url(), &script).unwrap_or_else(|error| panic!("{error}"));
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), rows.len(), "{said:?}");
    rows.iter().zip(said).filter(|(_, said)| *said == "taken").map(|(row, _)| row).collect()
}

/// Writes the rows, logs in as each of them, and attacks; gives how many rows the database refused,
/// how many could not log in, and how many could.
fn reach_nobody(
    deployment: &Deployment,
    victims: &mut Victims,
    rows: &[Row],
    attempts: usize,
) -> [usize; 3] {
    let mut left = written(deployment, rows);
    let mut counts = [rows.len() - left.len(), 0, 0];
    let port = deployment.server.port();
    for _ in 0..attempts {
        let mut undecided = Vec::new();
        for some in left.chunks(AT_ONCE) {
            // Where a row cannot be read there is no answer, and the server waits its time.
            let logins = std::thread::scope(|scope| {
                let login = |row: &Row| {
                    let fields = json!({ "user": row.user, "pass": "secret" });
                    scope.spawn(move || Session::log_in(port, &fields))
                };
                let logins: Vec<_> = some.iter().map(|row| login(row)).collect();
                logins.into_iter().map(|login| login.join().expect("no panic")).collect::<Vec<_>>()
            });
            for (row, login) in some.iter().copied().zip(logins) {
                match login {
                    Login::Refused => counts[1] += 1,
                    Login::Undecided => undecided.push(row),
                    Login::Admitted(mut session) => {
                        attack(&row.attacker, &mut session, victims);
                        counts[2] += 1;
                    }
                }
            }
            // The server gives up whoever is silent for long.
            victims.have_not_heard("forged", "nobody");
        }
        left = undecided;
    }
    counts[1] += left.len();
    counts
}

/// A hash of `secret` that is quick to verify, as hundreds of logins do.
fn hash() -> String {
    bcrypt::hash("secret", 4).expect("a hash")
}

/// A deployment that leaves such hashes as they are.
fn deployment(mode: Mode) -> Deployment {
    Deployment::start_prepared(mode, servers::version(), |init| init.set("rehash", "false"))
}

fn isolations(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::Operator => &["account", "shared"],
        Mode::Config => &["shared"],
    }
}

fn every_row_reaches_nobody(mode: Mode) {
    for isolation in isolations(mode) {
        let deployment = deployment(mode);
        let mut victims = Victims::new(&deployment);
        let rows = rows(&deployment, &hash(), isolation);
        let [refused, silent, admitted] = reach_nobody(&deployment, &mut victims, &rows, ATTEMPTS);
        println!(
            "{mode:?} {isolation}: {refused} rows refused, {silent} logins refused, {admitted} admitted"
        );
        assert!(refused > 60 && admitted > 60, "{refused} {silent} {admitted}");
    }
}

#[test]
fn rows_in_operator_mode_reach_nobody() {
    every_row_reaches_nobody(Mode::Operator);
}

#[test]
fn rows_in_config_mode_reach_nobody() {
    every_row_reaches_nobody(Mode::Config);
}

/// Takes away what the database checks: constraints, and the triggers that look at texts.
fn without_checks(database: &Initialised) {
    if database.table.is_sqlite() {
        database.sql(
            "DROP TRIGGER tenants_insert_check;\nDROP TRIGGER users_insert_check;\n\
             DROP TRIGGER users_insert_unique;\nDROP TRIGGER users_insert_name_form_check;",
        );
    } else {
        database.sql(
            "DO $$ DECLARE c record; BEGIN \
               FOR c IN SELECT conname, conrelid::regclass AS place FROM pg_constraint \
                 WHERE contype = 'c' AND conrelid IN ('tenants'::regclass, 'users'::regclass) LOOP \
                 EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.place, c.conname); \
               END LOOP; \
             END $$;\n\
             ALTER TABLE users DISABLE TRIGGER USER;",
        );
    }
}

fn unchecked_rows_reach_nobody(mode: Mode, isolation: &str) {
    let deployment = deployment(mode);
    let mut victims = Victims::new(&deployment);
    without_checks(&deployment);
    let mut rows = rows(&deployment, &hash(), isolation);
    if deployment.table.is_sqlite() {
        for Row { sql: [tenant, _], .. } in &mut rows {
            tenant.insert_str(0, "PRAGMA ignore_check_constraints = ON;\n");
        }
    }
    let [refused, silent, admitted] = reach_nobody(&deployment, &mut victims, &rows, 2);
    println!(
        "{mode:?} {isolation}, unchecked: {refused} rows refused, {silent} logins refused, {admitted} admitted"
    );
    assert!(silent > 60 && admitted > 10, "{refused} {silent} {admitted}");
}

#[test]
fn rows_that_no_database_would_take_reach_nobody() {
    for mode in either_mode() {
        unchecked_rows_reach_nobody(mode, isolations(mode)[0]);
    }
}
