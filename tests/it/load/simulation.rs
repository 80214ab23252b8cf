//! What becomes of clients that come back, played in steps out of what a login costs.
//!
//! An attempt has two parts for nats-server: until it asks, and from the answer on. It does the first ones as they
//! come, whether or not the client is still there, and has little time left for answers while there are many. The
//! service decides for those who still wait, as far as the server reads its answers.

use std::collections::VecDeque;

/// Milliseconds of a core.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    /// Of nats-server, for an attempt until it has asked.
    pub(super) asking: f64,
    /// Of nats-server, from the answer to the client's PONG.
    pub(super) answer: f64,
    /// Of the service, for a decision.
    pub(super) decision: f64,
}

/// Clients and what serves them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) clients: f64,
    /// Seconds over which they come, evenly.
    pub(super) over: f64,
    /// Seconds that a client waits for an attempt, and then pauses.
    pub(super) patience: f64,
    pub(super) pause: f64,
    /// Cores of nats-servers and of instances.
    pub(super) servers: f64,
    pub(super) instances: f64,
    pub(super) costs: Costs,
}

/// How it went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// Seconds until the last was in; `None` where it takes more than half an hour.
    pub(super) all_in: Option<f64>,
    /// Attempts that failed, for each client.
    pub(super) failed: f64,
}

/// Seconds.
const STEP: f64 = 0.05;
const LONGEST: f64 = 1_800.0;

/// Of its time, what a server has for answers at least, however many ask.
const FOR_ANSWERS: f64 = 0.2;

/// Of the clients, who may be missing at the end: parts of them have no last one.
const NOBODY: f64 = 1e-4;

/// Who began an attempt in the same step.
#[derive(Debug, Clone, Copy)]
struct Group {
    began: f64,
    clients: f64,
    /// They have hung up; a server that has not come to them yet handles them all the same.
    gone: bool,
}

impl Scene {
    pub(super) fn play(&self) -> Ended {
        let steps = |time: f64| (time / STEP).round() as usize;
        let (coming, pause) = (steps(self.over).max(1), steps(self.pause).max(1));
        let mut begins = vec![0.0; steps(LONGEST) + pause + 1];
        begins[..coming].fill(self.clients / coming as f64);
        let (mut asking, mut waiting) = (VecDeque::new(), VecDeque::new());
        let (mut inside, mut failed) = (0.0, 0.0);
        for step in 0..steps(LONGEST) {
            let now = step as f64 * STEP;
            asking.push_back(Group { began: now, clients: begins[step], gone: false });
            let mut gone = 0.0;
            for group in asking.iter_mut().chain(&mut waiting) {
                if !group.gone && now - group.began >= self.patience {
                    group.gone = true;
                    gone += group.clients;
                }
            }
            failed += gone;
            begins[step + pause] += gone;
            waiting.retain(|group| !group.gone);

            let time = self.servers * STEP * 1e3;
            let wanted = count(&waiting) * self.costs.answer;
            let for_asking = time - wanted.min(time * FOR_ANSWERS);
            let asked = take(&mut asking, for_asking / self.costs.asking, VecDeque::pop_front);
            let left = time - count(&asked) * self.costs.asking;
            waiting.extend(asked.into_iter().filter(|group| !group.gone));
            let decided = self.instances * STEP * 1e3 / self.costs.decision;
            let most = decided.min(left / self.costs.answer);
            inside += count(&take(&mut waiting, most, VecDeque::pop_back));
            if inside >= self.clients * (1.0 - NOBODY) {
                return Ended { all_in: Some(now + STEP), failed: failed / self.clients };
            }
        }
        Ended { all_in: None, failed: failed / self.clients }
    }
}

fn count(groups: &VecDeque<Group>) -> f64 {
    groups.iter().map(|group| group.clients).sum()
}

/// Takes so many clients from an end of the groups.
fn take(
    groups: &mut VecDeque<Group>,
    mut most: f64,
    end: impl Fn(&mut VecDeque<Group>) -> Option<Group>,
) -> VecDeque<Group> {
    let mut taken = VecDeque::new();
    while most > 0.0
        && let Some(group) = end(groups)
    {
        if group.clients <= most {
            most -= group.clients;
            taken.push_back(group);
            continue;
        }
        taken.push_back(Group { clients: most, ..group });
        let rest = Group { clients: group.clients - most, ..group };
        // Back where it was: the ends are told apart by age.
        if groups.front().is_some_and(|first| first.began > rest.began) {
            groups.push_front(rest);
        } else {
            groups.push_back(rest);
        }
        break;
    }
    taken
}
