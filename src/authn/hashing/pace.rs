//! How long a stored hash takes on this machine, from its parameters: what is slow must not be
//! verified where others wait.

use std::time::Duration;

use aws_lc_rs::pbkdf2;
use rustix::time::{ClockId, clock_gettime};

use super::stored::Stored;
use super::{CURRENT_MEMORY, CURRENT_PASSES, HashingError, Memory, Unusable, hash_in};
use crate::store::PasswordHash;

/// The part of the time for a decision that an ordinary hash may take.
const ORDINARY_PART: u32 = 4;

/// How fast this machine hashes, and how much time a decision has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// What a hash of the current scheme takes.
    current: Duration,
    deadline: Duration,
}

impl Pace {
    /// Hashes `password` by the current scheme, and takes the pace of this machine from the processor's
    /// time for that, which does not depend on what else runs. A decision may take as long as
    /// `deadline`.
    pub(crate) fn measure(
        memory: &mut Memory,
        password: &str,
        deadline: Duration,
    ) -> Result<(Self, PasswordHash), HashingError> {
        let begun = processor_time();
        let hash = hash_in(memory, password)?;
        let current = processor_time().saturating_sub(begun);
        Ok((Self { current, deadline }, hash))
    }

    /// What a hash of the current scheme takes here.
    #[must_use]
    pub(crate) fn current(&self) -> Duration {
        self.current
    }

    /// The same machine with another deadline.
    #[must_use]
    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// How long the hash takes here with a core of its own, roughly: processors differ in what they
    /// are good at, by a factor of two or three.
    pub(crate) fn time_of(&self, hash: &PasswordHash) -> Result<Duration, Unusable> {
        let stored = Stored::parse(hash.expose())?;
        Ok(self.current.mul_f64(work(&stored)))
    }

    /// What an ordinary hash takes at most: a quarter of the time for a decision.
    #[must_use]
    pub(crate) fn ordinary(&self) -> Duration {
        self.deadline / ORDINARY_PART
    }

    /// Whether a hash that takes so long is not an ordinary one.
    #[must_use]
    pub(crate) fn is_slow(&self, time: Duration) -> bool {
        time > self.ordinary()
    }

    /// Whether a hash of the current scheme is an ordinary one for a server that waits for so long.
    #[must_use]
    pub(crate) fn has_time_in(&self, timeout: Duration) -> bool {
        !self.with_deadline(timeout).is_slow(self.current)
    }

    /// Whether a hash that takes so long cannot end within the time for a decision.
    #[must_use]
    pub(crate) fn is_too_slow(&self, time: Duration) -> bool {
        time > self.deadline
    }
}

/// How long this thread has had a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// What verifying it is, in hashes of the current scheme: measured on an x86-64 server of 2026, where one
/// of those took 25 ms.
fn work(stored: &Stored) -> f64 {
    match stored {
        Stored::Argon2id { params, .. } => {
            f64::from(params.m_cost()) * f64::from(params.t_cost())
                / (f64::from(CURRENT_MEMORY) * f64::from(CURRENT_PASSES))
        }
        Stored::Bcrypt { cost, .. } => f64::from(*cost).exp2() / 480.0,
        Stored::Pbkdf2 { algorithm, iterations, output, .. } => {
            let (length, rate) = match *algorithm {
                it if it == pbkdf2::PBKDF2_HMAC_SHA1 => (20, 65_000.0),
                it if it == pbkdf2::PBKDF2_HMAC_SHA256 => (32, 50_000.0),
                _ => (64, 35_000.0),
            };
            let pieces = u32::try_from(output.len().div_ceil(length)).unwrap_or(u32::MAX);
            f64::from(iterations.get()) * f64::from(pieces) / rate
        }
        Stored::Scrypt { params, .. } => {
            f64::from(params.log_n()).exp2() * f64::from(params.r()) * f64::from(params.p())
                / 100_000.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a hash of the current scheme takes so many milliseconds.
    fn pace(current: u64) -> Pace {
        let (current, deadline) = (Duration::from_millis(current), Duration::from_millis(1_800));
        Pace { current, deadline }
    }

    fn millis(pace: Pace, hash: &str) -> u128 {
        pace.time_of(&PasswordHash::new(hash)).unwrap().as_millis()
    }

    const SALT_AND_HASH: &str =
        "8PHy8/T19vf4+fr7/P3+/w$uwK439kKEFs2ERGZizRZs3ZkSxakFDo2w9pWK4jMsjc";
    const BCRYPT: &str = "$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS";

    /// What libraries make by default has to be ordinary, or all who are imported would wait.
    #[test]
    fn defaults_of_libraries_are_ordinary_and_what_attackers_chose_is_slow() {
        let pace = pace(25);
        for params in [
            "argon2id$v=19$m=19456,t=2,p=1$",
            "argon2id$v=19$m=65536,t=3,p=4$",
            "argon2id$v=19$m=65536,t=4,p=1$",
            "pbkdf2-sha256$i=600000,l=32$",
            "pbkdf2-sha256$29000$",
            "pbkdf2-sha512$210000$",
            "scrypt$ln=14,r=8,p=1$",
            "scrypt$ln=17,r=8,p=1$",
        ] {
            let time = millis(pace, &format!("${params}{SALT_AND_HASH}"));
            assert!((1..=450).contains(&time), "{params} {time} ms");
        }
        for cost in ["04", "10", "12"] {
            assert!(millis(pace, &format!("$2b${cost}{BCRYPT}")) <= 450, "{cost}");
        }
        for params in [
            "argon2id$v=19$m=262144,t=16,p=1$",
            "pbkdf2-sha512$10000000$",
            "pbkdf2$i=10000000,l=32$",
            "scrypt$ln=18,r=8,p=16$",
        ] {
            let time = millis(pace, &format!("${params}{SALT_AND_HASH}"));
            assert!((1_800..20_000).contains(&time), "{params} {time} ms");
        }
        let time = |cost: u32| millis(pace, &format!("$2b${cost}{BCRYPT}"));
        assert_eq!([13, 14, 15].map(|cost| time(cost) > 450), [false, true, true]);
    }

    #[test]
    fn a_slow_machine_and_a_short_deadline_make_more_of_them_slow() {
        let hash = PasswordHash::new(format!("$2b$12{BCRYPT}"));
        let slow = |pace: Pace| {
            let time = pace.time_of(&hash).unwrap();
            [pace.is_slow(time), pace.is_too_slow(time)]
        };
        assert_eq!(slow(pace(25)), [false, false]);
        assert_eq!(slow(pace(100)), [true, false]);
        assert_eq!(slow(pace(400)), [true, true]);
        assert_eq!(slow(pace(25).with_deadline(Duration::from_millis(100))), [true, true]);
        assert_eq!(slow(pace(400).with_deadline(Duration::from_secs(60))), [false, false]);
    }

    #[test]
    fn a_hash_may_take_a_quarter_of_the_time_for_which_a_server_waits() {
        let fits = |millis, seconds| pace(millis).has_time_in(Duration::from_secs(seconds));
        assert_eq!(
            [fits(500, 2), fits(501, 2), fits(501, 10), fits(251, 1)],
            [true, false, true, false]
        );
    }

    #[test]
    fn this_machine_is_timed_and_what_is_unusable_takes_no_time() {
        let deadline = Duration::from_secs(1);
        let (pace, hash) = Pace::measure(&mut Memory::default(), "a password", deadline).unwrap();
        assert_eq!(pace.time_of(&hash), Ok(pace.current));
        assert!(pace.current > Duration::from_millis(1) && pace.current < Duration::MAX);
        assert_eq!(pace.ordinary(), Duration::from_millis(250));
        let unusable = PasswordHash::new("$1$old$old");
        assert_eq!(pace.time_of(&unusable), Err(Unusable::Scheme));
    }
}
