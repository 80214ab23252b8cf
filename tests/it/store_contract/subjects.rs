//! The database's rules for ids, names and subjects agree with the same rules written in Rust.

use nats_callout::store::TenantId;
use proptest::collection::vec;
use proptest::prelude::*;
use sqlx::{ConnectOptions as _, Row as _};

use super::postgres::Postgres;
use super::sqlite::SqliteFile;
use super::{ALICE, Database, on_every_database};

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
    (1..=128).contains(&text.chars().count()) && !text.contains(odd)
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

/// Whether the database takes each of the texts, once bound to `sql`. What it takes can be read.
macro_rules! taken {
    ($name:ident, $database:expr, $options:ty) => {
        async fn $name(sql: &'static str, values: Vec<String>) -> Vec<bool> {
            let database = $database;
            (&database as &dyn Database).run(ALICE).await;
            let options: $options = database.url().parse().unwrap();
            let mut connection = options.connect().await.unwrap();
            let mut answers = Vec::new();
            for value in values {
                sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
                answers.push(sqlx::query(sql).bind(&value).execute(&mut connection).await.is_ok());
                if answers.last() == Some(&true) {
                    let all = sqlx::query("SELECT publish FROM users");
                    for row in all.fetch_all(&mut connection).await.unwrap() {
                        serde_json::from_str::<Vec<String>>(row.get(0)).unwrap();
                    }
                }
                sqlx::query("ROLLBACK").execute(&mut connection).await.unwrap();
            }
            answers
        }
    };
}
taken!(taken_by_sqlite, SqliteFile::new(), sqlx::sqlite::SqliteConnectOptions);
taken!(taken_by_postgres, Postgres::new(), sqlx::postgres::PgConnectOptions);

fn agree(sql: &'static str, texts: Vec<String>, rule: fn(&str) -> bool, form: fn(&str) -> String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let formed: Vec<String> = texts.iter().map(|text| form(text)).collect();
    let answers = runtime.block_on(taken_by_sqlite(sql, formed.clone()));
    for (text, answer) in texts.iter().zip(answers) {
        assert_eq!(answer, rule(text), "SQLite: {text:?}");
    }
    let answers = runtime.block_on(taken_by_postgres(sql, formed));
    for (text, answer) in texts.iter().zip(answers) {
        assert_eq!(answer, rule(text), "PostgreSQL: {text:?}");
    }
}

fn plain(text: &str) -> String {
    text.into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn ids_are_what_rust_takes(ids in vec(texts(64), 100)) {
        agree("INSERT INTO tenants (id, name) VALUES ($1, 'x')", ids,
            |id| id.parse::<TenantId>().is_ok() && id != "42", plain);
    }

    #[test]
    fn names_are_what_rust_takes(names in vec(texts(128), 100)) {
        agree("UPDATE users SET name = $1", names, is_name, plain);
    }

    #[test]
    fn subjects_are_what_rust_takes(subjects in vec(texts(255), 100)) {
        agree("UPDATE users SET publish = $1", subjects, is_subject,
            |subject| serde_json::to_string(&[subject]).unwrap());
    }

    #[test]
    fn escaped_subjects_are_what_rust_takes(subjects in vec(texts(255), 100)) {
        agree("UPDATE users SET publish = $1", subjects, is_subject, |subject| {
            let escaped = subject.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
            format!("[\"{}\"]", escaped.collect::<String>())
        });
    }
}
