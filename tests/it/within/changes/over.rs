//! Tenants that end together: their accounts are cut off within seconds, and logins do not wait for it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::turn::measured;
use crate::harness::{PATIENCE, depth, eventually, loudly};
use crate::over::{held, is_cut_off};
use crate::within::changes::crowd::Held;

/// Within this time a tenant is cut off at its end, and of sixty the last within ten times as much.
const AT_MOST: Duration = Duration::from_secs(2);

/// No login takes longer meanwhile.
const LOGIN: Duration = Duration::from_millis(750);

#[test]
fn accounts_of_tenants_that_end_together_are_cut_off_behind_logins() {
    measured();
    let count = depth(60, 600);
    let deployment = Deployment::start(Mode::Operator);
    let port = deployment.server.port();
    let other = deployment.tenant_add("other", &[]);
    let Login::Password(_, password) = &other else { unreachable!("a password") };
    deployment.sql(&format!(
        "INSERT INTO tenants (id, name) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL \
           SELECT i + 1 FROM n WHERE i < {count}) SELECT 't-' || i, 'x' FROM n;\n\
         INSERT INTO users (tenant_id, name, password_hash) SELECT id, id, \
           (SELECT password_hash FROM users WHERE name = 'other') FROM tenants WHERE name = 'x'"
    ));
    for tenant in 1..=count {
        drop(Held::connect(port, &Login::password(&format!("t-{tenant}"), password)));
    }
    let accounts = deployment.sql(
        "SELECT a.account FROM tenant_accounts AS a JOIN tenants AS t ON t.id = a.tenant_id \
         WHERE t.name = 'x'",
    );
    let accounts: Vec<&str> = accounts.lines().collect();
    assert_eq!(accounts.len(), count);
    let folder = deployment.dir().join("accounts");
    let cut_off = || {
        let is = |account: &&&str| held(&folder, account).is_some_and(|it| is_cut_off(&it));
        accounts.iter().filter(is).count()
    };

    let end = Timestamp::now().as_second() + 2;
    let at = Timestamp::from_second(end).expect("a time");
    deployment.sql(&format!("UPDATE tenants SET expires_at = '{at}' WHERE name = 'x'"));
    assert_eq!(cut_off(), 0, "before the end");
    eventually("the end", || (Timestamp::now().as_second() >= end).then_some(()));
    let ended = Instant::now();
    let (mut logins, mut first) = (Vec::new(), None);
    while cut_off() < count {
        first = first.or_else(|| (cut_off() > 0).then(|| ended.elapsed()));
        let begun = Instant::now();
        drop(Held::connect(port, &other));
        logins.push(begun.elapsed());
        assert!(ended.elapsed() < PATIENCE * 10, "{} of {count}", cut_off());
    }
    let took = ended.elapsed();
    let first = first.unwrap_or(took);
    let slowest = logins.iter().max().copied().unwrap_or_default();
    loudly(&format!(
        "{count} tenants that ended together were cut off between {first:?} and {took:?}; of {} logins meanwhile \
         the slowest took {slowest:?}",
        logins.len()
    ));
    assert!(slowest < LOGIN, "{slowest:?}");
    assert!(first < AT_MOST, "{first:?}");
    assert!(took < AT_MOST * u32::try_from(count / 6).expect("few"), "{took:?}");
}
