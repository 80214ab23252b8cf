//! The rows of users by what logs in with them: nkeys and certificates that can be nobody's, and names
//! that people take for one another's.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use unicode_normalization::UnicodeNormalization as _;

use super::grants::Astray;
use super::named::Named;
use super::{Doctor, Findings};
use crate::authn::certificate;
use crate::hidden::is_hidden;
use crate::keys::UserNkey;
use crate::redact::{begun, holds_secret};
use crate::store::{LoginListing, ProvisioningStore, StoreError, TenantRecord};

const CREDENTIALS: &str = "nkeys and certificates";
const NAMES: &str = "names";

/// Of so many rows the name is said.
const EXAMPLES: usize = 3;

/// So many groups of names are counted.
const GROUPS: usize = 100;

/// Names that are the same but for upper and lower case, for the way in which Unicode writes the same
/// character, for blanks at the ends, and for what is not seen: by the one way in which all of them can be written.
type Alike = BTreeMap<String, Vec<String>>;

pub(super) async fn check(
    doctor: &Doctor,
    store: &dyn ProvisioningStore,
    tenants: &[TenantRecord],
    astray: &mut Astray<'_>,
    findings: &mut Findings,
) {
    match look(store, tenants, astray).await {
        Ok(Looked { dead, alike: users, foreign, mut hidden, secret, blank }) => {
            dead.report(findings);
            report_foreign(&foreign, findings);
            report_unlawful(&secret, &blank, findings);
            for TenantRecord { id, name, .. } in tenants.iter().filter(|it| has_hidden(&it.name)) {
                hidden.add(|| format!("the name {} of tenant {id}", begun(name)));
            }
            report_hidden(&hidden, findings);
            let ids = tenants.iter().map(|tenant| tenant.id.as_str());
            let mut seen = Seen::default();
            ids.clone().for_each(|id| seen.note(id));
            let mut tenants = Alike::new();
            ids.for_each(|id| seen.collect(id, &mut tenants));
            report_names(&users, &tenants, findings);
        }
        Err(error) => findings.warn(NAMES, (doctor.explain)(error), "run doctor again"),
    }
}

/// The nkeys and certificates that let nobody in.
#[derive(Debug, Default)]
struct Dead {
    all: usize,
    dead: Named,
}

impl Dead {
    fn look_at(&mut self, listing: &LoginListing) {
        let LoginListing { tenant, user_name, nkey, certificate, .. } = listing;
        let mut count = |column: &str, is_sound: bool, why: &str| {
            self.all += 1;
            if !is_sound {
                self.dead
                    .add(|| format!("{column} of {} of tenant {tenant} ({why})", begun(user_name)));
            }
        };
        if let Some(nkey) = nkey {
            count("nkey", nkey.parse::<UserNkey>().is_ok(), "its checksum is wrong");
        }
        if let Some(name) = certificate {
            let is_sound = certificate::name::check(name).is_ok();
            count("certificate", is_sound, "no name that a certificate has");
        }
    }

    fn report(&self, findings: &mut Findings) {
        let Self { all, dead } = self;
        if dead.count == 0 {
            let what = format!("{all}, each of a form that somebody can have");
            return findings.ok(CREDENTIALS, what);
        }
        findings.warn(
            CREDENTIALS,
            format!("{} of {all} let nobody in: {}", dead.count, dead.names()),
            "correct the column; `nats-callout user add --help` says which forms there are",
        );
    }
}

/// How often each folded name is there, by its hash: a few bytes for each user.
#[derive(Debug, Default)]
struct Seen(HashMap<u64, bool>);

impl Seen {
    fn note(&mut self, name: &str) {
        self.0.entry(hash(&folded(name))).and_modify(|is_twice| *is_twice = true).or_insert(false);
    }

    fn collect(&self, name: &str, alike: &mut Alike) {
        let folded = folded(name);
        if self.0.get(&hash(&folded)) == Some(&true)
            && (alike.len() < GROUPS || alike.contains_key(&folded))
        {
            alike.entry(folded).or_default().push(name.to_owned());
        }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn folded(name: &str) -> String {
    let seen: String = name.trim().chars().filter(|c| !is_hidden(*c)).nfc().collect();
    seen.to_lowercase().nfc().collect()
}

/// What was found among the rows.
#[derive(Debug, Default)]
struct Looked {
    dead: Dead,
    alike: Alike,
    foreign: Named,
    hidden: Named,
    secret: Named,
    blank: Named,
}

/// Reads the names twice: once to learn which are there again, once for these.
async fn look(
    store: &dyn ProvisioningStore,
    tenants: &[TenantRecord],
    astray: &mut Astray<'_>,
) -> Result<Looked, StoreError> {
    let (mut found, mut seen) = (Looked::default(), Seen::default());
    let ids: HashSet<&str> = tenants.iter().map(|tenant| tenant.id.as_str()).collect();
    each(store, |listing| {
        found.dead.look_at(listing);
        astray.look_at(listing);
        seen.note(&listing.user_name);
        let LoginListing { tenant, user_name, .. } = listing;
        let named = || format!("{} of tenant {tenant}", begun(user_name));
        if is_foreign(listing, &ids) {
            found.foreign.add(named);
        }
        if has_hidden(user_name) {
            found.hidden.add(|| format!("the user {}", named()));
        }
        if holds_secret(user_name) {
            found.secret.add(named);
        }
        if user_name.trim() != user_name {
            found.blank.add(named);
        }
    })
    .await?;
    if seen.0.values().any(|is_twice| *is_twice) {
        each(store, |listing| seen.collect(&listing.user_name, &mut found.alike)).await?;
    }
    Ok(found)
}

fn has_hidden(name: &str) -> bool {
    name.contains(is_hidden)
}

fn report_hidden(hidden: &Named, findings: &mut Findings) {
    if hidden.count > 0 {
        findings.warn(
            NAMES,
            format!(
                "{} hold characters that nobody sees, or that turn the direction of a text: {}",
                hidden.count,
                hidden.names()
            ),
            "rename those that are mistakes",
        );
    }
}

/// Whether it has the name of another tenant's users who have no row, which only a row from before can.
fn is_foreign(listing: &LoginListing, ids: &HashSet<&str>) -> bool {
    let of = listing.user_name.split_once('/').map(|(of, _)| of);
    of.is_some_and(|of| of != listing.tenant.as_str() && ids.contains(of))
}

fn report_foreign(foreign: &Named, findings: &mut Findings) {
    if foreign.count > 0 {
        findings.warn(
            NAMES,
            format!(
                "{} begin with another tenant's id and a slash, so that a user of that tenant who has no \
                 row may not be barred: {}",
                foreign.count,
                foreign.names()
            ),
            "rename or remove them; new rows cannot have such a name",
        );
    }
}

/// Names that only a row from before can have, but for a secret that is not the whole name.
fn report_unlawful(secret: &Named, blank: &Named, findings: &mut Findings) {
    if secret.count > 0 {
        findings.warn(
            NAMES,
            format!(
                "{} are or hold what looks like a token, a JWT, a seed or a hash, so that logs have \"(a secret)\" in their \
                 place: {}",
                secret.count,
                secret.names()
            ),
            "rename them; if it is a secret, make a new one",
        );
    }
    if blank.count > 0 {
        findings.warn(
            NAMES,
            format!("{} begin or end with a blank: {}", blank.count, blank.names()),
            "rename them; new rows cannot have such a name",
        );
    }
}

async fn each(
    store: &dyn ProvisioningStore,
    mut with: impl FnMut(&LoginListing),
) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let some = store.logins(&after).await?;
        let Some(last) = some.last() else { return Ok(()) };
        after.clone_from(&last.user_name);
        some.iter().for_each(&mut with);
    }
}

fn report_names(users: &Alike, tenants: &Alike, findings: &mut Findings) {
    let sound = |alike: &Alike| alike.values().all(|names| names.len() < 2);
    if sound(users) && sound(tenants) {
        let what = "no two differ by upper and lower case, the form of Unicode, blanks at the ends or what is not seen alone";
        return findings.ok(NAMES, what);
    }
    for (whose, alike) in [("users", users), ("tenants", tenants)] {
        let groups: Vec<_> = alike.values().filter(|names| names.len() > 1).collect();
        if groups.is_empty() {
            continue;
        }
        let count = groups.len();
        let at_least = if count >= GROUPS { "at least " } else { "" };
        let more = match count.checked_sub(EXAMPLES) {
            None | Some(0) => String::new(),
            Some(left) => format!("; and {at_least}{left} more"),
        };
        let examples: Vec<String> = groups.iter().take(EXAMPLES).map(|names| said(names)).collect();
        let examples = examples.join("; ");
        let sets = if count == 1 { "set" } else { "sets" };
        findings.warn(
            NAMES,
            format!(
                "{whose} that differ by upper and lower case, the form of Unicode, blanks at the \
                 ends or what is not seen alone, {at_least}{count} {sets}: {examples}{more}"
            ),
            "each is one of its own, with its own credentials; remove those that are mistakes",
        );
    }
}

/// The names, those that look the same with their code points.
fn said(names: &[String]) -> String {
    let one = |name: &String| match name.is_ascii() || holds_secret(name) {
        true => begun(name),
        false => {
            let escaped: String = name.chars().map(escaped).collect();
            format!("{name:?} ({escaped})")
        }
    };
    let mut said: Vec<String> = names.iter().take(EXAMPLES).map(one).collect();
    if names.len() > EXAMPLES {
        said.push(format!("{} more", names.len() - EXAMPLES));
    }
    said.join(" and ")
}

fn escaped(character: char) -> String {
    match character.is_ascii() {
        true => character.to_string(),
        false => character.escape_unicode().to_string(),
    }
}
