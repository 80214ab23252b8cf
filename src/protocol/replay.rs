//! The memory of the requests that were taken, so that none is taken twice: [`super::request`]
//! asks it last, once everything else about a request is right.
//!
//! A server makes a key for each connection attempt and sends one request about it, once, to one
//! member of the queue group. A second request with that key is a copy, by somebody who reads the
//! account AUTH. Its answer would be of no use: it is about a key whose private half the server has
//! thrown away, it is sealed for that server, and the server that asked waits for no second one. It
//! would cost a password hash all the same, and write a decision that nobody made.
//!
//! The memory is each instance's own. A copy that reaches another instance, or this one after a
//! restart, is answered as long as it has not expired, with that same answer of no use.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use parking_lot::Mutex;

use crate::clock::UnixSeconds;
use crate::keys::UserNkey;

/// How many keys are remembered, at about 60 bytes each: those of 30,000 requests a second, which
/// live for the server's time-out (2 s by default) and the leeway. Beyond it the oldest are
/// forgotten first, so that a flood costs the memory of the past and never a login.
const MOST: usize = 1 << 18;

/// Half of a key tells it from all others.
type Short = [u8; 16];

/// The keys of connections that have been asked about.
#[derive(Default)]
pub(crate) struct SpentKeys(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    keys: HashSet<Short>,
    /// The same in the order of their arrival, with the end of the request's life.
    arrivals: VecDeque<(UnixSeconds, Short)>,
}

impl SpentKeys {
    /// Remembers the key of a request that nobody takes after `end`; whether it is the first one
    /// about it.
    pub(super) fn spend(&self, key: &UserNkey, end: UnixSeconds, now: UnixSeconds) -> bool {
        self.0.lock().spend(key, end, now, MOST)
    }
}

impl Memory {
    fn spend(&mut self, key: &UserNkey, end: UnixSeconds, now: UnixSeconds, most: usize) -> bool {
        let [short @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *key.raw();
        while let Some(&(old_end, old)) = self.arrivals.front()
            && (old_end < now || self.keys.len() >= most)
        {
            self.arrivals.pop_front();
            self.keys.remove(&old);
        }
        let first = self.keys.insert(short);
        if first {
            self.arrivals.push_back((end, short));
        }
        first
    }
}

impl fmt::Debug for SpentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpentKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyKind, SigningKey};

    fn key() -> UserNkey {
        SigningKey::generate(KeyKind::User).unwrap().0.public().unwrap()
    }

    #[test]
    fn a_key_is_spent_once() {
        let spent = SpentKeys::default();
        let (one, two) = (key(), key());
        assert!(spent.spend(&one, 10, 0) && spent.spend(&two, 10, 0));
        assert!(!spent.spend(&one, 10, 0) && !spent.spend(&two, 10, 10));
    }

    #[test]
    fn what_nobody_takes_any_more_is_forgotten() {
        let mut memory = Memory::default();
        for now in 0..1_000 {
            assert!(memory.spend(&key(), now + 7, now, MOST));
        }
        assert_eq!((memory.keys.len(), memory.arrivals.len()), (8, 8));
    }

    #[test]
    fn a_flood_pushes_out_the_oldest_alone() {
        let mut memory = Memory::default();
        let keys = [(); 5].map(|()| key());
        for key in &keys {
            assert!(memory.spend(key, 10, 0, 4));
        }
        assert_eq!((memory.keys.len(), memory.arrivals.len()), (4, 4));
        let [first, rest @ ..] = &keys;
        for key in rest {
            assert!(!memory.spend(key, 10, 0, 5));
        }
        assert!(memory.spend(first, 10, 0, 5));
    }
}
