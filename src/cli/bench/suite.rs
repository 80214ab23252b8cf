//! `bench suite`: everything that the report is about, one result each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::args::{Kind, Load, PlaceArgs, Plan, WhoArgs, time};
use super::client::Patience;
use crate::store::Isolation;

/// Logins under way at once, where as many as possible are wanted.
const AT_ONCE: u32 = 64;

/// Clients a second that nobody has trouble with.
const CALM: f64 = 20.0;

/// Of the peak, what is offered.
const OFFERED: [f64; 7] = [0.25, 0.5, 0.8, 1.0, 1.5, 2.5, 5.0];

/// The bound of the search for the highest rate.
const BOUND: Duration = Duration::from_millis(100);

/// First logins, of users with a password and of tenants.
const FIRST_USERS: u32 = 200;
const FIRST_TENANTS: u32 = 100;

const KINDS: [Kind; 3] = [Kind::Password, Kind::Token, Kind::Nkey];

/// Measures everything that `bench report` draws
#[derive(Debug, Args)]
pub(super) struct SuiteArgs {
    /// Where the results go, one file each
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// How long each measurement lasts
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = time)]
    duration: Duration,
    /// Clients of each storm
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000,4000")]
    storms: Vec<u32>,
    /// Connections whose memory is measured
    #[arg(long, value_name = "N", default_value = "2000")]
    hold: u32,
    /// Users that log in, where not each of them once
    #[arg(long, value_name = "N", default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    create: u32,
    /// How the temporary tenants are kept apart: `account` or `shared`
    #[arg(long, value_name = "HOW")]
    isolation: Option<Isolation>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// One measurement, and the file of its result.
pub(super) struct Measurement {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) users: u32,
    pub(super) tenants: u32,
    pub(super) plan: Plan,
}

impl Measurement {
    pub(super) fn is_peak_of_tokens(&self) -> bool {
        matches!(self.plan.load, Load::Closed(_)) && self.kind == Kind::Token
    }

    pub(super) fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.json", self.name))
    }
}

impl SuiteArgs {
    fn plan(&self, load: Load) -> Plan {
        let seconds = Duration::from_secs;
        let (timeout, give_up) = match load {
            Load::Closed(_) => (5, 30),
            Load::Rate(_) | Load::Limit(_) => (2, 10),
            Load::Storm(_) => (2, 60),
        };
        let patience = Patience {
            timeout: seconds(timeout),
            retry: Some(seconds(2)),
            give_up: seconds(give_up),
        };
        Plan {
            load,
            patience,
            duration: self.duration,
            count: None,
            warm_up: seconds(2).min(self.duration),
            concurrency: AT_ONCE,
            hold: 0,
        }
    }

    fn known(&self, name: &str, kind: Kind, plan: Plan) -> Measurement {
        let word: &str = kind.into();
        let name = format!("{name}-{word}");
        Measurement { name, kind, users: self.create, tenants: 1, plan }
    }

    /// Who logs in for a measurement.
    pub(super) fn who(&self, measurement: &Measurement) -> WhoArgs {
        WhoArgs {
            kind: measurement.kind,
            users: None,
            create: Some(measurement.users),
            tenants: measurement.tenants,
            isolation: self.isolation,
            place: self.place.clone(),
        }
    }

    /// What comes first: how fast it is without haste, and at most.
    pub(super) fn unloaded(&self) -> Vec<Measurement> {
        // Before others come: a server keeps the memory that it has once taken.
        let plan = Plan { hold: self.hold, ..self.plan(Load::Rate(CALM)) };
        let measurement = self.known("hold", Kind::Token, plan);
        let mut all = vec![Measurement { name: format!("hold-{:06}", self.hold), ..measurement }];
        for kind in KINDS {
            all.push(self.known("calm", kind, self.plan(Load::Rate(CALM))));
            all.push(self.known("peak", kind, self.plan(Load::Closed(AT_ONCE))));
        }
        all
    }

    /// What comes then, with what was found at most for tokens.
    pub(super) fn loaded(&self, peak: f64) -> Vec<Measurement> {
        let mut all = vec![self.known("limit", Kind::Token, self.plan(Load::Limit(BOUND)))];
        for share in OFFERED {
            let plan = self.plan(Load::Rate((peak * share).max(1.0).round()));
            let measurement = self.known("overload", Kind::Token, plan);
            all.push(Measurement { name: format!("overload-{share:.2}"), ..measurement });
        }
        for &clients in &self.storms {
            for timeout in [2, 20] {
                let mut plan = self.plan(Load::Storm(clients));
                plan.patience.timeout = Duration::from_secs(timeout);
                let measurement = self.known("storm", Kind::Token, plan);
                all.push(Measurement {
                    name: format!("storm-{clients:06}-{timeout:02}"),
                    ..measurement
                });
            }
        }
        for (name, kind, users, tenants) in [
            ("unknown-password", Kind::Password, FIRST_USERS, 1),
            ("first-login-of-a-tenant", Kind::Token, FIRST_TENANTS, FIRST_TENANTS),
        ] {
            let (load, count) = (Load::Closed(AT_ONCE), Some(u64::from(users)));
            let plan = Plan { count, warm_up: Duration::ZERO, ..self.plan(load) };
            all.push(Measurement { name: name.to_owned(), kind, users, tenants, plan });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_measurement_has_a_file_of_its_own() {
        let args = SuiteArgs {
            folder: PathBuf::new(),
            duration: Duration::from_secs(1),
            storms: vec![10, 20],
            hold: 5,
            create: 3,
            isolation: None,
            place: PlaceArgs { url: None, tls_ca: None, metrics: Vec::new() },
        };
        let all: Vec<_> = args.unloaded().into_iter().chain(args.loaded(1_000.0)).collect();
        let names: BTreeSet<_> = all.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        let offered = |name| {
            let plan = all.iter().find(|it| it.name == name).unwrap().plan;
            match plan.load {
                Load::Rate(rate) => rate,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(offered("overload-0.25"), 250.0);
        assert_eq!(offered("overload-5.00"), 5_000.0);
    }
}
