//! The database's rules for ids, names and subjects agree with the same rules written in Rust.

use std::collections::BTreeMap;

use nats_callout::store::TenantId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::postgres::Postgres;
use super::sqlite::SqliteFile;
use super::{ALICE, Database, on_every_database};
use crate::harness::clients::{self, Language};
use crate::harness::depth;
use crate::harness::postgres::psql;

on_every_database!(lists_of_subjects_are_checked);

async fn lists_of_subjects_are_checked(db: &dyn Database) {
    db.run(ALICE).await;
    let legal = [
        r#"[]"#,
        r#" [ ] "#,
        r#"["a"]"#,
        r#"["a.b.c","*",">"]"#,
        r#"["*.a.*.*",  "a.>"]"#,
        r#"["$JS.API.>","_INBOX_42.>"]"#,
        r#"["été.日本"]"#,
        r#"["\u00e9.\ud83e\udd80"]"#,
        r#"["a\\u0000"]"#,
        r#"["a\"b"]"#,
    ];
    let (most, more) = ("x".repeat(255), "x".repeat(256));
    let illegal = [
        "",
        "null",
        "{}",
        "\"a\"",
        "a,b",
        "{orders.*}",
        "[1]",
        "[null]",
        "[[]]",
        "[{}]",
        "[true]",
        "[\"a\"",
        r#"[""]"#,
        r#"["."]"#,
        r#"[".a"]"#,
        r#"["a."]"#,
        r#"["a..b"]"#,
        r#"["a*"]"#,
        r#"["a.*b"]"#,
        r#"["**"]"#,
        r#"[">.a"]"#,
        r#"["a>"]"#,
        r#"["a.>.>"]"#,
        r#"["a.>>"]"#,
        r#"["a b"]"#,
        r#"["a\tb"]"#,
        r#"["a\nb"]"#,
        r#"["a\u0000b"]"#,
        r#"["\u0000"]"#,
        r#"["a\\\u0000"]"#,
        r#"["a\u007f"]"#,
        r#"["a\u0085"]"#,
        r#"["a\u00a0b"]"#,
        r#"["a\u2028"]"#,
        r#"["\ud800"]"#,
        r#"["a", "a.b", "c "]"#,
        "['a']",
        "[a]",
        r#"["a",]"#,
    ];
    for column in ["publish", "subscribe"] {
        for list in legal.into_iter().map(String::from).chain([format!("[\"{most}\"]")]) {
            db.run(&format!("UPDATE users SET {column} = '{list}'")).await;
            db.login("alice").await.unwrap();
        }
        for list in illegal.into_iter().map(String::from).chain([format!("[\"{more}\"]")]) {
            let list = list.replace('\'', "''");
            db.refuses(
                &format!("UPDATE users SET {column} = '{list}'"),
                &format!("users.{column}"),
            )
            .await;
        }
        db.refuses(&format!("UPDATE users SET {column} = NULL"), &format!("users.{column}")).await;
        db.refuses(
            &format!(
                "INSERT INTO users (tenant_id, name, {column}) VALUES ('42', 'x', '[\"a b\"]')"
            ),
            &format!("users.{column}: holds a text that is no subject"),
        )
        .await;
    }
}

/// The rule for a subject.
fn is_subject(text: &str) -> bool {
    let odd =
        |c: char| c.is_whitespace() || c.is_control() || ('\u{fffd}'..='\u{ffff}').contains(&c);
    let tokens: Vec<&str> = text.split('.').collect();
    let last = tokens.len() - 1;
    (1..=255).contains(&text.chars().count())
        && !text.contains(odd)
        && tokens.iter().enumerate().all(|(at, token)| {
            !token.is_empty()
                && (*token == "*" || !token.contains('*'))
                && (!token.contains('>') || (*token == ">" && at == last))
        })
}

/// The rule for a name.
fn is_name(text: &str) -> bool {
    let odd =
        |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}');
    (1..=128).contains(&text.chars().count()) && !text.contains(odd) && text.trim() == text
}

/// Texts near the border of the rules, and others.
fn texts(most: usize) -> impl Strategy<Value = String> {
    let character = prop_oneof![
        6 => prop::sample::select(vec!['a', 'B', '7', '_', '-']),
        3 => Just('.'),
        2 => prop::sample::select(vec!['*', '>']),
        2 => prop::sample::select(vec![
            '\0', ' ', '\t', '\n', '\u{7f}', '\u{80}', '\u{9f}', '\u{a0}', '\u{1680}', '\u{2000}',
            '\u{200b}', '\u{2028}', '\u{2029}', '\u{202f}', '\u{3000}', '\u{d7ff}', '\u{e000}',
            '\u{fffd}', '\u{fffe}', '\u{ffff}', '\u{10000}', '\u{10ffff}', ']', '[', '^', '\\', '"',
            '\'', '%', '?', 'é', '日', '🦀',
        ]),
        1 => any::<char>(),
    ];
    prop_oneof![
        4 => vec(character.clone(), 0..8),
        1 => vec(character, 0..most),
        1 => vec(Just('a'), most - 4..most + 4),
    ]
    .prop_map(|characters| characters.into_iter().collect())
}

/// Whether the database takes each of the texts, once bound to `sql`. What it takes can be read, and
/// is taken back.
macro_rules! taken {
    ($name:ident, $database:ty, $options:ty) => {
        async fn $name(database: &$database, sql: &'static str, values: &[String]) -> Vec<bool> {
            let options: $options = database.url().parse().unwrap();
            let mut connection = options.connect().await.unwrap();
            let mut answers = Vec::new();
            for value in values {
                sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
                answers.push(sqlx::query(sql).bind(value).execute(&mut connection).await.is_ok());
                if answers.last() == Some(&true) {
                    let all = sqlx::query("SELECT publish FROM users");
                    for row in all.fetch_all(&mut connection).await.unwrap() {
                        serde_json::from_str::<Vec<String>>(row.get(0)).unwrap();
                    }
                }
                sqlx::query("ROLLBACK").execute(&mut connection).await.unwrap();
            }
            connection.close().await.unwrap();
            answers
        }
    };
}
taken!(taken_by_sqlite, SqliteFile, sqlx::sqlite::SqliteConnectOptions);
taken!(taken_by_postgres, Postgres, sqlx::postgres::PgConnectOptions);

/// Tries a hundred texts in each case, in the form in which the statement takes them.
fn agree(
    sql: &'static str,
    texts: impl Strategy<Value = String>,
    rule: fn(&str) -> bool,
    form: fn(&str) -> String,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sqlite, postgres) = (SqliteFile::new(), Postgres::new());
    for database in [&sqlite as &dyn Database, &postgres] {
        runtime.block_on(database.run(ALICE));
    }
    let config = ProptestConfig {
        cases: depth(2, 8),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let tried = runner.run(&vec(texts, 100), |texts| {
        let formed: Vec<String> = texts.iter().map(|text| form(text)).collect();
        let by_sqlite = runtime.block_on(taken_by_sqlite(&sqlite, sql, &formed));
        let by_postgres = runtime.block_on(taken_by_postgres(&postgres, sql, &formed));
        for (text, (by_sqlite, by_postgres)) in texts.iter().zip(by_sqlite.iter().zip(by_postgres))
        {
            prop_assert_eq!(*by_sqlite, rule(text), "SQLite: {:?}", text);
            prop_assert_eq!(by_postgres, rule(text), "PostgreSQL: {:?}", text);
        }
        Ok(())
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}

fn plain(text: &str) -> String {
    text.into()
}

#[test]
fn ids_are_what_rust_takes() {
    let rule = |id: &str| id.parse::<TenantId>().is_ok() && id != "42";
    agree("INSERT INTO tenants (id, name) VALUES ($1, 'x')", texts(64), rule, plain);
}

#[test]
fn names_are_what_rust_takes() {
    agree("UPDATE users SET name = $1", texts(128), is_name, plain);
}

#[test]
fn subjects_are_what_rust_takes() {
    let form = |subject: &str| serde_json::to_string(&[subject]).unwrap();
    agree("UPDATE users SET publish = $1", texts(255), is_subject, form);
}

#[test]
fn escaped_subjects_are_what_rust_takes() {
    agree("UPDATE users SET publish = $1", texts(255), is_subject, |subject| {
        let escaped = subject.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("[\"{}\"]", escaped.collect::<String>())
    });
}

/// psycopg makes an array of PostgreSQL of it.
#[test]
fn a_list_of_python_is_no_json() {
    let Some(mut program) = clients::program(Language::Python, "lists") else { return };
    let db = Postgres::new();
    psql(&db.url(), ALICE).unwrap();
    let said: BTreeMap<String, String> = clients::report(program.arg(db.url()));
    let first = said["list"].lines().next();
    assert_eq!(first, Some("users.publish: a JSON array of subjects"), "{said:?}");
    assert_eq!([&said["json.dumps"], &said["Json"]], ["taken", "taken"]);
    assert_eq!(psql(&db.url(), "SELECT publish FROM users").unwrap(), "[\"orders.*\"]\n");
}
