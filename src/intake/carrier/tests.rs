use std::time::Duration;

use tokio::sync::oneshot;

use super::super::QUEUE_GROUP;
use super::super::tenants::OVERHEAD;
use super::super::wire::parse;
use super::*;

/// A carrier, what it has written, and the time.
struct Bench {
    carrier: Carrier,
    now: Instant,
}

const ACK: &str = r#"{"stream":"ReceivedEvents","seq":7}"#;

impl Bench {
    /// Both connections are there.
    fn new(settings: Settings) -> Self {
        let mut carrier = Carrier::new(settings).unwrap();
        carrier.up(Isolation::Account, 1 << 20);
        carrier.up(Isolation::Shared, 1 << 20);
        let mut bench = Self { carrier, now: Instant::now() };
        bench.written(Isolation::Account);
        bench.written(Isolation::Shared);
        bench
    }

    fn add(&mut self, id: &str, isolation: Isolation) -> u64 {
        let (waiter, _) = oneshot::channel();
        self.carrier.add(&id.parse().unwrap(), isolation, waiter, self.now);
        self.written(isolation);
        self.carrier.tenants.number(id).unwrap()
    }

    fn written(&mut self, isolation: Isolation) -> String {
        String::from_utf8(self.carrier.line(isolation).take(Vec::new())).unwrap()
    }

    fn receive(&mut self, isolation: Isolation, bytes: &str) {
        let (frame, length) = parse(bytes.as_bytes(), |_| true).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        self.carrier.take(isolation, frame, self.now);
    }

    /// An own tenant's event with the reply `_R_.<body>`.
    fn event(&mut self, number: u64, body: &str) {
        let line = format!("MSG anything.at.all {number} _R_.{body} {}\r\n{body}\r\n", body.len());
        self.receive(Isolation::Account, &line);
    }

    fn acknowledge(&mut self, token: u64, word: &str) {
        let (inbox, sid) = (self.carrier.inbox.clone(), self.carrier.answers);
        let line = format!("MSG {inbox}{token} {sid} {}\r\n{word}\r\n", word.len());
        self.receive(Isolation::Account, &line);
    }

    /// The bodies of what was passed on, as `<id>:<body>`, and of what was answered.
    fn seen(&mut self) -> (Vec<String>, Vec<(String, String)>) {
        let (mut passed, mut answered) = (Vec::new(), Vec::new());
        for isolation in [Isolation::Account, Isolation::Shared] {
            let text = self.written(isolation);
            let mut lines = text.split("\r\n");
            while let Some(line) = lines.next() {
                let words: Vec<_> = line.split(' ').collect();
                if words[0] == "PUB" {
                    let body = lines.next().unwrap().to_owned();
                    match words[1].strip_prefix("bb.") {
                        Some(to) => {
                            passed.push(format!("{}:{body}", to.trim_end_matches(".Events")))
                        }
                        None => answered.push((words[1].to_owned(), body)),
                    }
                }
            }
        }
        (passed, answered)
    }
}

fn small() -> Settings {
    Settings {
        held_per_tenant: 6 * OVERHEAD,
        held: 12 * OVERHEAD,
        window_per_tenant: 2 * OVERHEAD + 100,
        window: 3 * OVERHEAD + 200,
        ..Settings::default()
    }
}

#[test]
fn the_subscription_decides_whose_event_it_is() {
    let mut bench = Bench::new(Settings::default());
    let (one, two) = (bench.add("one", Isolation::Account), bench.add("two", Isolation::Account));
    for subject in ["own.two.Events", "user.two.Events", "bb.two.Events", "x"] {
        bench.receive(Isolation::Account, &format!("MSG {subject} {one} _R_.x 1\r\nx\r\n"));
    }
    bench.receive(Isolation::Account, &format!("MSG own.one.Events {two} _R_.x 1\r\ny\r\n"));
    assert_eq!(bench.seen().0, ["one:x", "one:x", "one:x", "one:x", "two:y"]);
    // A number of nobody's, and one of a tenant that is gone, though another has its id now.
    bench.carrier.remove(&"one".parse().unwrap(), bench.now);
    let again = bench.add("one", Isolation::Account);
    assert_ne!(one, again);
    bench.event(one, "late");
    bench.event(1, "lost");
    bench.event(again, "new");
    let (passed, answered) = bench.seen();
    assert_eq!(passed, ["one:new"]);
    assert_eq!(answered.len(), 2);
    assert_eq!(bench.carrier.tally.refused(Refusal::Unknown), 2);
    // What is meant for the other connection is nobody's, too.
    bench.receive(Isolation::Shared, &format!("MSG own.two.Events {two} _R_.x 1\r\ny\r\n"));
    assert_eq!(bench.seen(), (Vec::new(), Vec::new()));
}

#[test]
fn shared_tenants_are_known_by_their_subject() {
    let mut bench = Bench::new(Settings::default());
    bench.add("one", Isolation::Shared);
    let sid = bench.carrier.shared_events;
    bench.receive(Isolation::Shared, &format!("MSG user.one.Events {sid} _INBOX_one.a 1\r\nx\r\n"));
    for subject in ["user.two.Events", "user..Events", "user.one.x.Events", "user.*.Events", "x"] {
        bench.receive(Isolation::Shared, &format!("MSG {subject} {sid} _INBOX_two.a 1\r\nx\r\n"));
    }
    // One that another instance has admitted is taken, under what is its name by permission.
    assert_eq!(bench.seen().0, ["one:x", "two:x"]);
    bench.acknowledge(1, ACK);
    assert_eq!(bench.seen().1, [("_INBOX_one.a".to_owned(), ACK.to_owned())]);
    // One with an account of its own has no business here.
    bench.add("three", Isolation::Account);
    bench.receive(Isolation::Shared, &format!("MSG user.three.Events {sid} 1\r\nx\r\n"));
    assert_eq!(bench.seen().0, [""; 0]);
    assert_eq!(bench.carrier.tally.refused(Refusal::Unknown), 5);
    // One that is gone is remembered, for as long as a connection of its may last.
    let event = format!("MSG user.two.Events {sid} 1\r\nx\r\n");
    let two = "two".parse().unwrap();
    bench.carrier.remove(&two, bench.now);
    bench.receive(Isolation::Shared, &event);
    assert_eq!(bench.carrier.tally.refused(Refusal::Unknown), 6);
    assert!(!bench.carrier.ids().contains(&two));
    bench.now += Duration::from_secs(60);
    bench.carrier.tick(bench.now);
    assert!(bench.carrier.tenants.number("two").is_some());
    bench.add("two", Isolation::Shared);
    bench.now += Settings::default().remembered;
    bench.carrier.tick(bench.now);
    assert!(bench.carrier.tenants.number("two").is_some(), "it has come again");
    bench.carrier.remove(&two, bench.now);
    bench.now += Settings::default().remembered * 2;
    bench.carrier.tick(bench.now);
    assert!(bench.carrier.tenants.number("two").is_none());
    // A word about one that has not sent anything yet holds as well.
    let five = "five".parse().unwrap();
    bench.carrier.suspend(&five, bench.now);
    bench.receive(Isolation::Shared, &event.replace("two", "five"));
    bench.carrier.remove(&"four".parse().unwrap(), bench.now);
    bench.receive(Isolation::Shared, &event.replace("two", "four"));
    assert_eq!(bench.carrier.tally.refused(Refusal::Suspended), 1);
    assert_eq!(bench.carrier.tally.refused(Refusal::Unknown), 7);
    assert_eq!(bench.seen().0, [""; 0]);
}

#[test]
fn answers_go_where_the_sender_may_have_them() {
    for (isolation, reply, may) in [
        (Isolation::Account, "_R_.abc.def", true),
        (Isolation::Account, "_R_.", false),
        (Isolation::Account, "_R_", false),
        (Isolation::Account, "_R_.a..b", false),
        (Isolation::Account, "_R_.*", false),
        (Isolation::Account, "_INBOX_42.a", false),
        (Isolation::Account, "$JS.ACK.a.b", false),
        (Isolation::Account, "bb.43.Events", false),
        (Isolation::Shared, "_INBOX_42.a.b", true),
        (Isolation::Shared, "_INBOX_42.", false),
        (Isolation::Shared, "_INBOX_42", false),
        (Isolation::Shared, "_INBOX_42.>", false),
        (Isolation::Shared, "_INBOX_42.*.a", false),
        (Isolation::Shared, "_INBOX_420.a", false),
        (Isolation::Shared, "_INBOX_43.a", false),
        (Isolation::Shared, "_INBOX.a", false),
        (Isolation::Shared, "user.42.Events", false),
        (Isolation::Shared, "_R_.a", false),
    ] {
        assert_eq!(may_be_answered(isolation, "42", reply.as_bytes()), may, "{reply}");
    }
    assert!(!may_be_answered(Isolation::Shared, "", b"_INBOX_.a"));
}

#[test]
fn an_answer_is_bbs_word_or_an_error() {
    let mut bench = Bench::new(Settings::default());
    let one = bench.add("one", Isolation::Account);
    let words = [
        (ACK, true),
        (r#"{"stream":"ReceivedEvents","seq":7,"duplicate":true,"domain":"x"}"#, true),
        (r#"{"error":{"code":429},"stream":"ReceivedEvents","seq":0}"#, true),
        (r#"{"stream":"Other","seq":7}"#, false),
        (r#"{"stream":"ReceivedEvents","seq":0}"#, false),
        ("{}", false),
        ("+ACK", false),
        ("", false),
    ];
    for (at, (word, _)) in words.iter().enumerate() {
        bench.event(one, &at.to_string());
        bench.acknowledge(at as u64 + 1, word);
        // Once, whoever says something again.
        bench.acknowledge(at as u64 + 1, ACK);
    }
    let (_, answered) = bench.seen();
    assert_eq!(answered.len(), words.len());
    for ((word, is_passed_on), (_, answer)) in words.iter().zip(answered) {
        assert_eq!(answer == *word, *is_passed_on, "{word}");
        assert_eq!(answer.contains("error"), !word.contains("seq\":7") || word.contains("Other"));
    }
    // Nobody is there.
    bench.event(one, "x");
    let (inbox, sid) = (bench.carrier.inbox.clone(), bench.carrier.answers);
    let nobody = format!("HMSG {inbox}9 {sid} 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    bench.receive(Isolation::Account, &nobody);
    assert!(bench.seen().1[0].1.contains("cannot be reached"));
    let tally = bench.carrier.tally;
    assert_eq!((tally.stored, tally.refused(Refusal::Rejected)), (2, 1));
    assert_eq!(tally.refused(Refusal::Unacknowledged), 5);
    assert_eq!(tally.refused(Refusal::Unavailable), 1);
    assert!(bench.carrier.is_idle());
}

#[test]
fn a_flood_waits_in_turn_and_is_busy_beyond_its_bound() {
    let mut bench = Bench::new(small());
    let (flood, calm) =
        (bench.add("flood", Isolation::Account), bench.add("calm", Isolation::Account));
    for at in 0..20 {
        bench.event(flood, &at.to_string());
    }
    let (passed, busy) = bench.seen();
    assert_eq!(passed, ["flood:0", "flood:1"], "its window");
    assert_eq!(busy.len(), 15, "five are held");
    assert!(busy.iter().all(|(_, answer)| answer.contains("\"code\":503")), "{busy:?}");
    // The other has its turn at once, and in order.
    for body in ["a", "b"] {
        bench.event(calm, body);
    }
    assert_eq!(bench.seen().0, ["calm:a"]);
    for token in 1..=7 {
        bench.acknowledge(token, ACK);
    }
    let (passed, answered) = bench.seen();
    assert_eq!(passed, ["flood:2", "calm:b", "flood:3", "flood:4"]);
    let order: Vec<_> = answered.iter().map(|(reply, _)| reply.as_str()).collect();
    assert_eq!(order, ["_R_.0", "_R_.1", "_R_.a", "_R_.2", "_R_.b", "_R_.3", "_R_.4"]);
    assert!(bench.carrier.is_idle() && bench.carrier.turn.is_empty());
    assert_eq!(bench.carrier.sent, 0);
}

#[test]
fn many_floods_leave_room_for_one_more() {
    let room = 64 * OVERHEAD;
    let mut bench = Bench::new(Settings { held: room, held_per_tenant: room, ..small() });
    for id in 0..5 {
        let number = bench.add(&format!("flood-{id}"), Isolation::Account);
        for _ in 0..100 {
            bench.event(number, "x");
        }
    }
    bench.seen();
    assert!(bench.carrier.held <= room);
    let calm = bench.add("calm", Isolation::Account);
    bench.event(calm, "calm");
    assert!(bench.seen().1.is_empty(), "it is not refused");
}

#[test]
fn a_suspension_holds_at_once() {
    let mut bench = Bench::new(small());
    let one = bench.add("one", Isolation::Account);
    for at in 0..4 {
        bench.event(one, &at.to_string());
    }
    assert_eq!(bench.seen().0, ["one:0", "one:1"]);
    bench.carrier.suspend(&"one".parse().unwrap(), bench.now);
    bench.event(one, "4");
    bench.acknowledge(1, ACK);
    let (passed, answered) = bench.seen();
    assert_eq!(passed, [""; 0]);
    let refused: Vec<_> = answered
        .iter()
        .filter(|(_, answer)| answer.contains("suspended"))
        .map(|(reply, _)| reply.as_str())
        .collect();
    assert_eq!(refused, ["_R_.2", "_R_.3", "_R_.4"]);
    // Resumed, it goes on.
    assert_eq!(bench.add("one", Isolation::Account), one);
    bench.event(one, "5");
    assert_eq!(bench.seen().0, ["one:5"]);
    bench.acknowledge(2, ACK);
    bench.acknowledge(3, ACK);
    assert!(bench.carrier.is_idle());
}

#[test]
fn what_is_too_large_or_malformed_is_refused() {
    let mut bench = Bench::new(Settings { max_message: 100, ..Settings::default() });
    let one = bench.add("one", Isolation::Account);
    let fits = "x".repeat(100);
    bench.receive(Isolation::Account, &format!("MSG s {one} 100\r\n{fits}\r\n"));
    bench.receive(Isolation::Account, &format!("MSG s {one} _R_.long 101\r\n{fits}x\r\n"));
    // The header counts, as it is made anew.
    let block = "NATS/1.0\r\nNats-Rollup: all\r\na: b\r\n\r\n";
    let sized = |length: usize| {
        let (header, body) = (block.len(), "y".repeat(length));
        format!("HMSG s {one} _R_.h{length} {header} {}\r\n{block}{body}\r\n", header + length)
    };
    let made = "NATS/1.0\r\na: b\r\n\r\n".len();
    bench.receive(Isolation::Account, &sized(100 - made));
    bench.receive(Isolation::Account, &sized(101 - made));
    bench.receive(Isolation::Account, &format!("HMSG s {one} _R_.odd 3 4\r\nabcx\r\n"));
    let replies: Vec<_> = bench.seen().1.into_iter().map(|(reply, _)| reply).collect();
    assert_eq!(
        replies,
        ["_R_.long".to_owned(), format!("_R_.h{}", 101 - made), "_R_.odd".to_owned()]
    );
    let tally = bench.carrier.tally;
    assert_eq!(tally.refused(Refusal::Oversized), 2);
    assert_eq!(tally.refused(Refusal::Header(headers::HeaderFault::Version)), 1);
}

#[test]
fn nobody_waits_for_ever() {
    let mut bench = Bench::new(small());
    let one = bench.add("one", Isolation::Account);
    for at in 0..4 {
        bench.event(one, &at.to_string());
    }
    bench.receive(Isolation::Account, &format!("MSG s {one} 5\r\nplain\r\n"));
    bench.seen();
    bench.now += Duration::from_secs(5);
    bench.carrier.tick(bench.now);
    let (passed, answered) = bench.seen();
    // One that nobody waits for goes on late.
    assert_eq!(passed, ["one:plain"]);
    assert_eq!(answered.len(), 4);
    assert_eq!(bench.carrier.tally.refused(Refusal::Unacknowledged), 2);
    assert_eq!(bench.carrier.tally.refused(Refusal::Busy), 2);
    // An acknowledgement that comes later is nobody's.
    bench.acknowledge(1, ACK);
    assert_eq!(bench.seen().1, []);
    bench.acknowledge(3, ACK);
    assert!(bench.carrier.is_idle());
}

#[test]
fn a_lost_connection_ends_what_is_under_way_and_keeps_what_waits() {
    let mut bench = Bench::new(small());
    let one = bench.add("one", Isolation::Account);
    for at in 0..3 {
        bench.event(one, &at.to_string());
    }
    bench.seen();
    bench.carrier.down(Isolation::Account, bench.now);
    assert!(bench.written(Isolation::Shared).starts_with("UNSUB "), "others take the shared ones");
    bench.carrier.up(Isolation::Account, 1 << 20);
    let written = bench.written(Isolation::Account);
    assert_eq!(written.matches("may be stored or not").count(), 2, "{written}");
    assert!(written.contains(&format!("SUB own.one.Events {QUEUE_GROUP} {one}\r\n")), "{written}");
    assert!(written.contains("PUB bb.one.Events "), "{written}");
    assert!(bench.written(Isolation::Shared).starts_with("SUB user.*.Events "));
    bench.acknowledge(3, ACK);
    assert_eq!(bench.seen().1, [("_R_.2".to_owned(), ACK.to_owned())]);
    assert!(bench.carrier.is_idle());
}

#[test]
fn a_stop_takes_what_is_on_its_way() {
    let mut bench = Bench::new(Settings::default());
    let one = bench.add("one", Isolation::Account);
    let (own, mut own_read) = oneshot::channel();
    let (shared, _) = oneshot::channel();
    bench.carrier.stop([own, shared]);
    assert_eq!(bench.written(Isolation::Account), format!("UNSUB {one}\r\nPING\r\n"));
    bench.event(one, "last");
    assert_eq!(bench.seen().0, ["one:last"]);
    // The first two PONGs are those of the start and of the tenant.
    bench.receive(Isolation::Account, "PONG\r\n");
    bench.receive(Isolation::Account, "PONG\r\n");
    bench.receive(Isolation::Account, "PONG\r\n");
    assert!(own_read.try_recv().is_ok());
    assert!(!bench.carrier.is_idle());
    // A connection that comes now takes nothing.
    bench.carrier.down(Isolation::Account, bench.now);
    bench.carrier.up(Isolation::Account, 1 << 20);
    assert!(!bench.written(Isolation::Account).contains("SUB"));
    assert!(bench.carrier.is_idle());
}

/// A server writes the subject of a restored message into the line as it is, with whatever it holds.
#[test]
fn who_breaks_the_protocol_is_found_by_what_the_server_writes_behind_it() {
    let mut bench = Bench::new(Settings::default());
    let (one, two) = (bench.add("one", Isolation::Account), bench.add("two", Isolation::Account));
    let gone = bench.add("gone", Isolation::Account);
    bench.carrier.remove(&"gone".parse().unwrap(), bench.now);
    for (isolation, sid, is_known) in [
        (Isolation::Account, one, true),
        (Isolation::Account, gone, true),
        (Isolation::Account, bench.carrier.answers, true),
        (Isolation::Account, bench.carrier.shared_events, false),
        (Isolation::Account, 1, false),
        (Isolation::Shared, bench.carrier.shared_events, true),
        (Isolation::Shared, one, false),
    ] {
        assert_eq!(bench.carrier.knows(isolation, sid), is_known);
    }
    let broken = format!(
        "HMSG x\r\nMSG own.two.Events 1 6\r\nforged\r\nMSG y 1 {one} $JS.ACK.V 44 49\r\nNATS/1.0\r\n"
    );
    let cut = broken.find(" $JS").unwrap() - 1;
    assert!(
        !bench.carrier.bar(Isolation::Account, &broken.as_bytes()[..cut]),
        "it has not come yet"
    );
    assert!(bench.carrier.bar(Isolation::Account, format!("{broken}MSG x {two} 1\r\n").as_bytes()));
    bench.carrier.down(Isolation::Account, bench.now);
    bench.carrier.up(Isolation::Account, 1 << 20);
    // To log in again does not help.
    let (waiter, mut told) = oneshot::channel();
    bench.carrier.add(&"one".parse().unwrap(), Isolation::Account, waiter, bench.now);
    let written = bench.written(Isolation::Account);
    assert!(!written.contains("own.one.Events") && written.contains("own.two.Events"), "{written}");
    bench.receive(Isolation::Account, "PONG\r\n");
    bench.receive(Isolation::Account, "PONG\r\n");
    assert!(told.try_recv().is_ok());
    assert!(!bench.carrier.knows(Isolation::Account, gone), "no more on this connection");
}
