//! A client of each library, and what became of them.

use std::time::{Duration, Instant};

use super::site::Site;
use super::table::{Fate, Seen};
use crate::harness::client::Login;
use crate::harness::staying::{Library, Said, Staying, Word};
use crate::harness::{PATIENCE, eventually};

/// One of them.
pub(super) struct Member {
    pub(super) library: Library,
    client: Staying,
}

/// See the module.
pub(super) struct Crew {
    login: Login,
    pub(super) members: Vec<Member>,
}

impl Crew {
    /// So many clients of each library, all of the same new user.
    pub(super) fn connect(site: &Site, user: &str, each: usize) -> Self {
        let login = site.deployment.user_add(super::site::TENANT, user, &["--kind", "bb"]);
        let mut crew = Self { login, members: Vec::new() };
        for library in site.libraries().flat_map(|it| std::iter::repeat_n(it, each)) {
            let Some(client) = site.client(library, &crew.login) else { continue };
            crew.members.push(Member { library, client });
            // Whose first login is not answered in time ends, and is begun again.
            eventually(&format!("{} to hear", library.name()), || {
                crew.replace_the_dead(site);
                crew.members.last()?.client.heard()
            });
        }
        crew
    }

    /// Waits until each has come back so many times since then, or has closed for good, or time is over.
    pub(super) fn come_back(&self, times: usize, since: Instant, patience: Duration) {
        let waits = |it: &Member| !it.client.is_closed() && it.returns(since) < times;
        while self.members.iter().any(waits) && since.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until each hears what is sent from now on, or has closed for good, or time is over.
    pub(super) fn hear(&self, site: &Site) {
        let (sent, begun) = (site.sent(), Instant::now());
        let waits = |it: &Member| !it.client.is_closed() && it.client.heard() <= Some(sent);
        while self.members.iter().any(waits) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What has become of each since then.
    pub(super) fn seen(&self, site: &Site, since: Instant) -> Vec<(Library, Seen)> {
        // One that hears nothing for so long is lost.
        let late = site.sent().saturating_sub(1_000);
        let see = |it: &Member| {
            let fate = match it.client.is_closed() {
                true => Fate::Dead,
                false if it.client.heard() < Some(late) => Fate::Silent,
                false => Fate::Alive,
            };
            (it.library, Seen::new(fate, &it.said(since)))
        };
        self.members.iter().map(see).collect()
    }

    /// Of each whether it is between two connections: Go and C take two seconds to begin again. What begins now
    /// it meets as one who connects for the first time.
    pub(super) fn between(&self) -> Vec<bool> {
        let is_between = |it: &Member| {
            let said = it.client.said();
            let last = said.iter().rev().map(|said| &said.word).find(|word| {
                matches!(word, Word::Connected | Word::Disconnected | Word::Reconnected)
            });
            last == Some(&Word::Disconnected)
        };
        self.members.iter().map(is_between).collect()
    }

    /// Those that are closed for good, with what they said at last; others take their places.
    pub(super) fn replace_the_dead(&mut self, site: &Site) -> Vec<(Library, Vec<String>)> {
        let mut dead = Vec::new();
        for member in self.members.iter_mut().filter(|it| it.client.is_closed()) {
            let said = member.client.said();
            let last = said.iter().skip(said.len().saturating_sub(12));
            let ago = |said: &Said| said.at.elapsed().as_secs_f64();
            let words = last.map(|said| format!("{:.3} s ago {:?}", ago(said), said.word));
            dead.push((member.library, words.collect()));
            member.client = site.client(member.library, &self.login).expect("as before");
        }
        dead
    }
}

impl Member {
    /// What it has said since then.
    pub(super) fn said(&self, since: Instant) -> Vec<Said> {
        let mut said = self.client.said();
        said.retain(|said| said.at >= since);
        said
    }

    /// How often it has come back since then.
    fn returns(&self, since: Instant) -> usize {
        self.losses(since).iter().filter(|loss| loss.is_over).count()
    }

    /// How many messages it has missed at each of the losses of its connection since then.
    pub(super) fn missed_each(&self, since: Instant) -> Vec<u64> {
        self.losses(since).iter().map(|loss| loss.missed).collect()
    }

    /// Some libraries say more than once that they are disconnected, and that they are back.
    fn losses(&self, since: Instant) -> Vec<Loss> {
        let mut losses: Vec<Loss> = Vec::new();
        for said in self.said(since) {
            match (&said.word, losses.last_mut()) {
                (Word::Disconnected, Some(Loss { is_over: false, .. })) => {}
                (Word::Disconnected, _) => losses.push(Loss::default()),
                (Word::Reconnected, Some(loss)) => loss.is_over = true,
                (Word::Gap { missed, .. }, Some(loss)) => loss.missed += missed,
                _ => {}
            }
        }
        losses
    }
}

/// A loss of a connection.
#[derive(Debug, Default)]
struct Loss {
    missed: u64,
    is_over: bool,
}
