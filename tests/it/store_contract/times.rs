//! The times that people write in SQL.

use super::{ALICE, Database, on_every_database};

on_every_database!(
    times_as_people_write_them,
    nonsense_is_no_time,
    what_postgresql_says_of_texts_that_are_no_times,
);

const NEW_YEAR: i64 = 1_798_761_600;

async fn times_as_people_write_them(db: &dyn Database) {
    db.run(ALICE).await;
    for (written, meant) in [
        ("2027-01-01 00:00:00+00:00", NEW_YEAR),
        ("2027-01-01T00:00:00Z", NEW_YEAR),
        ("2027-01-01 00:00:00Z", NEW_YEAR),
        ("2027-01-01T00:00:00.999999Z", NEW_YEAR),
        ("2027-01-01T00:00:00.5+00:00", NEW_YEAR),
        ("2027-01-01 01:00:00+01:00", NEW_YEAR),
        ("2026-12-31T18:30:00-05:30", NEW_YEAR),
        ("2027-01-01 00:00:00+00", NEW_YEAR),
        ("2026-12-31 19:00:00.25-05", NEW_YEAR),
        ("2027-01-01 00:00:00", NEW_YEAR),
        ("2027-01-01 00:00", NEW_YEAR),
        ("2027-01-01 00:00 +00:00", NEW_YEAR),
        ("2027-01-01", NEW_YEAR),
        ("2028-02-29", 1_835_395_200),
        ("1970-01-01", 0),
        ("9999-12-31 23:59:59", 253_402_300_799),
    ] {
        for table in ["tenants", "users"] {
            db.run(&format!("UPDATE {table} SET expires_at = '{written}'")).await;
        }
        let login = db.login("alice").await.unwrap();
        assert_eq!(login.tenant.expires_at, Some(meant), "{written}");
        assert_eq!(login.user.expires_at, Some(meant), "{written}");
        if db.is_sqlite() {
            let kept = db.run("SELECT expires_at FROM users").await;
            assert_eq!(kept, [written], "kept as it is given");
        }
    }
    db.run("UPDATE tenants SET expires_at = NULL").await;
    assert_eq!(db.login("alice").await.unwrap().tenant.expires_at, None);
}

async fn nonsense_is_no_time(db: &dyn Database) {
    db.run(ALICE).await;
    // What people may mean by it is a matter of opinion, and PostgreSQL has one.
    let loose = [
        "'now'",
        "'2027-01-01 00:00:00 +0000 UTC'",
        "'tomorrow'",
        "'2027-1-1'",
        "'01/01/2027'",
        "'2027-01-01 00:00:00+0'",
        "' 2027-01-01'",
        "'2027-01-01, 00:00'",
    ];
    for nonsense in [
        "''",
        "1798761600",
        "'1798761600'",
        "2461406.5",
        "'2027-02-30'",
        "'2027-13-01'",
        "'2027-00-01'",
        "'2027-01-32'",
        "'2027-01-01 25:00:00'",
        "'2027-01-01 00:61:00'",
        "'2027-01-01 12'",
        "'2027-01-01 00:00:00 local'",
        "'2027-01-01 00:00:00+99:00'",
        "'2027-01-01 00:00:00' || char(0)",
        "'2027-01-01' || char(0) || 'x'",
        "'12027-01-01'",
        "'-2027-01-01'",
        "'12:00:00'",
        "'infinity'",
    ]
    .iter()
    .chain(loose.iter().filter(|_| db.is_sqlite()))
    {
        for table in ["tenants", "users"] {
            db.refuses(
                &format!("UPDATE {table} SET expires_at = {nonsense}"),
                &format!("{table}.expires_at: a time such as"),
            )
            .await;
        }
    }
}

/// Its type says so before the rule does, and does not say of which column.
async fn what_postgresql_says_of_texts_that_are_no_times(db: &dyn Database) {
    if db.is_sqlite() {
        return;
    }
    db.run(ALICE).await;
    let update = |text: &str| format!("UPDATE users SET expires_at = {text}");
    for (text, words) in [
        ("'1796152661'", "date/time field value out of range"),
        ("'2027-02-30'", "date/time field value out of range"),
        ("'2027-01-01 00:00:00 +0000 UTC'", "invalid input syntax for type timestamp"),
    ] {
        let said = db.run_with(db.clients()[0], &update(text)).await.unwrap_err();
        assert!(said.contains(words) && !said.contains("expires_at: "), "{said}");
    }
}
