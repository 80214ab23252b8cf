//! The stored password hashes: which of them nobody can log in with, and which are slow on this machine.

use std::time::Duration;

use super::named::Named;
use super::{Doctor, Findings};
use crate::authn::hashing::{Memory, Pace};
use crate::causes::chain;
use crate::config::Config;
use crate::redact::begun;
use crate::store::{HashListing, ProvisioningStore, StoreError};

pub(super) const CHECK: &str = "password hashes";

const NEW_PASSWORD: &str = "`nats-callout user passwd TENANT USER` makes a new password";

/// What became of each hash.
#[derive(Debug, Default)]
struct Sorted {
    all: usize,
    unusable: Named,
    too_slow: Named,
    slow: Named,
}

impl Sorted {
    fn add(&mut self, listing: &HashListing, pace: &Pace) {
        self.all += 1;
        let said = |about: &str| {
            let HashListing { tenant, user_name, .. } = listing;
            format!("{} of tenant {tenant} ({about})", begun(user_name))
        };
        let time = match pace.time_of(&listing.hash) {
            Ok(time) => time,
            Err(reason) => return self.unusable.add(|| said(&reason.to_string())),
        };
        let about = format!("about {:.1} s", time.as_secs_f64());
        if pace.is_too_slow(time) {
            self.too_slow.add(|| said(&about));
        } else if pace.is_slow(time) {
            self.slow.add(|| said(&about));
        }
    }

    fn report(&self, pace: &Pace, config: &Config, findings: &mut Findings) {
        let (deadline, ordinary) = (config.callout.deadline, pace.ordinary());
        let Self { all, unusable, too_slow, slow } = self;
        if unusable.count > 0 {
            let what = format!(
                "{} of {all} cannot be used, and their users are refused: {}",
                unusable.count,
                unusable.names()
            );
            findings.warn(
                CHECK,
                what,
                format!(
                    "`SELECT * FROM password_hash_flaws` lists them; {NEW_PASSWORD}, or store another \
                     hash"
                ),
            );
        }
        if too_slow.count > 0 {
            let what = format!(
                "{} of {all} take longer on this machine than [callout] deadline, {deadline:?}, so \
                 that their users' first logins are not answered: {}",
                too_slow.count,
                too_slow.names()
            );
            findings.warn(CHECK, what, format!("{NEW_PASSWORD}, or store a cheaper hash"));
        }
        if slow.count > 0 {
            let what = format!(
                "{} of {all} take more than {ordinary:?} on this machine, a quarter of [callout] \
                 deadline, and wait among those who guess: {}",
                slow.count,
                slow.names()
            );
            let remedy =
                format!("a login replaces what is outdated ([hashing] rehash); {NEW_PASSWORD}");
            findings.warn(CHECK, what, remedy);
        }
        if unusable.count + too_slow.count + slow.count == 0 {
            let what =
                format!("{all}, none of which is unusable or takes more than {ordinary:?} here");
            findings.ok(CHECK, what);
        }
    }
}

/// Gives how fast this machine hashes.
pub(super) async fn check(
    doctor: &Doctor,
    config: &Config,
    users: &dyn ProvisioningStore,
    findings: &mut Findings,
) -> Option<Pace> {
    let sorted = async {
        let pace = measured(config.callout.deadline).await?;
        let sorted = sort(users, &pace).await.map_err(doctor.explain)?;
        Ok::<_, String>((pace, sorted))
    };
    match sorted.await {
        Ok((pace, sorted)) => {
            sorted.report(&pace, config, findings);
            Some(pace)
        }
        Err(why) => {
            findings.fail(
                CHECK,
                format!("they cannot be read: {why}"),
                "mend the row that it names, if it does, or run doctor again once the database \
                 answers",
            );
            None
        }
    }
}

/// How fast this machine hashes.
async fn measured(deadline: Duration) -> Result<Pace, String> {
    let measure = move || Pace::measure(&mut Memory::default(), "", deadline);
    let measured = tokio::task::spawn_blocking(measure).await.map_err(|error| chain(&error))?;
    measured.map(|(pace, _)| pace).map_err(|error| chain(&error))
}

async fn sort(users: &dyn ProvisioningStore, pace: &Pace) -> Result<Sorted, StoreError> {
    let mut sorted = Sorted::default();
    let mut after = String::new();
    loop {
        let some = users.password_hashes(&after).await?;
        let Some(last) = some.last() else { return Ok(sorted) };
        after.clone_from(&last.user_name);
        some.iter().for_each(|listing| sorted.add(listing, pace));
    }
}
