//! What a login asks is found by an index, also in a table that is full.

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::Database;
use super::postgres::Postgres;
use super::sqlite::SqliteFile;
use crate::harness::depth;

/// The statements of a login, as src/store/queries.rs has them, with their parameters.
fn login_path() -> [(&'static str, Vec<String>); 7] {
    [
        ("LOGIN", vec!["u1777".into()]),
        ("LOGIN_BY_NKEY", vec![format!("U{}B777", "2".repeat(51))]),
        ("LOGIN_BY_CERTIFICATE", vec!["CN=1777".into()]),
        ("TENANT", vec!["1777".into()]),
        ("TOKEN", vec![format!("{}1777", "0".repeat(60))]),
        ("ACCOUNT", vec!["1777".into(), "x".into()]),
        ("TENANT_OF_ACCOUNT", vec![format!("A{}B777", "2".repeat(51))]),
    ]
}

/// The text of a constant of src/store/queries.rs.
fn statement(name: &str, values: &[String]) -> String {
    let source = include_str!("../../../src/store/queries.rs");
    let start = source.find(&format!("const {name}: &str")).expect(name);
    let text = source[start..].split_once('"').unwrap().1.split_once("\";").unwrap().0;
    let mut sql = text.replace("\\\n", "");
    for (at, value) in values.iter().enumerate() {
        sql = sql.replace(&format!("${}", at + 1), &format!("'{value}'"));
    }
    sql
}

/// Some thousand tenants, each with an account, two users and a token.
async fn fill(db: &dyn Database) {
    let (zeros, twos, last) = ("0".repeat(60), "2".repeat(51), depth(1_999, 3_999));
    // Base32 has no other digits.
    let letters = "replace(replace(replace(replace(id, '0', 'A'), '1', 'B'), '8', 'C'), '9', 'D')";
    db.run(&format!(
        "WITH RECURSIVE n (n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM n WHERE n < {last})
           INSERT INTO tenants (id, name) SELECT n, 'x' FROM n;
         INSERT INTO users (tenant_id, name) SELECT id, 'u' || id FROM tenants;
         INSERT INTO users (tenant_id, name, nkey, certificate)
           SELECT id, 'v' || id, 'U{twos}' || {letters}, 'CN=' || id FROM tenants;
         INSERT INTO tokens (user_name, token_hash) SELECT 'u' || id, '{zeros}' || id FROM tenants;
         INSERT INTO tenant_accounts (tenant_id, account)
           SELECT id, 'A{twos}' || {letters} FROM tenants;
         ANALYZE"
    ))
    .await;
}

#[tokio::test]
async fn logins_use_indexes_on_sqlite() {
    let file = SqliteFile::new();
    fill(&file).await;
    let options = SqliteConnectOptions::new().filename(file.path());
    let mut connection = options.connect().await.unwrap();
    for (name, values) in login_path() {
        let sql = format!("EXPLAIN QUERY PLAN {}", statement(name, &values));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
        assert!(!plan.is_empty());
        for (_, _, _, step) in plan {
            assert!(!step.starts_with("SCAN"), "{name}: {step}");
        }
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn logins_use_indexes_on_postgres() {
    let database = Postgres::new();
    fill(&database).await;
    let options: PgConnectOptions = database.url().parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    for (name, values) in login_path() {
        let sql = format!("EXPLAIN {}", statement(name, &values));
        let plan: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
        assert!(plan.iter().any(|step| step.contains("Index")), "{name}: {plan:#?}");
        assert!(!plan.iter().any(|step| step.contains("Seq Scan")), "{name}: {plan:#?}");
    }
}
