//! When parts begin again, and what is said of them.

use tokio::sync::mpsc;
use tracing_subscriber::fmt;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn parts() -> Parts {
    Parts::new(Falls::default())
}

fn fallen(parts: &Parts) -> Vec<(PartName, bool, Condition)> {
    let fallen = parts.falls.all().into_iter();
    fallen.map(|it| (it.name, it.is_vital, it.standing)).collect()
}

/// Tells when it begins, works for so long, and ends or panics.
fn spawn(parts: &Parts, part: Part, lasts: Duration, panics: bool) -> mpsc::Receiver<Instant> {
    let (begins, begun) = mpsc::channel(64);
    parts.spawn(part, begins, move |begins, _| {
        let work = async move {
            begins.send(Instant::now()).await.unwrap();
            tokio::time::sleep(lasts).await;
            assert!(!panics, "on purpose");
        };
        work.boxed()
    });
    begun
}

async fn pauses(begun: &mut mpsc::Receiver<Instant>, count: usize) -> Vec<u64> {
    let mut last = begun.recv().await.unwrap();
    let mut pauses = Vec::new();
    for _ in 0..count {
        let next = begun.recv().await.unwrap();
        pauses.push(u64::try_from(next.duration_since(last).as_millis()).unwrap());
        last = next;
    }
    pauses
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_again_and_again_begins_again_ever_later() {
    let growing = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000];
    for panics in [true, false] {
        let parts = parts();
        let mut begun = spawn(&parts, Part::vital("feed"), Duration::ZERO, panics);
        assert_eq!(pauses(&mut begun, growing.len()).await, growing);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_has_worked_for_long_begins_again_soon() {
    let parts = parts();
    let mut begun = spawn(&parts, Part::vital("feed"), LASTING, true);
    assert_eq!(pauses(&mut begun, 3).await, [60_100; 3]);
}

#[tokio::test(start_paused = true)]
async fn it_is_down_until_it_has_worked_for_a_while() {
    let parts = parts();
    let mut begun = spawn(&parts, Part::vital("feed"), STEADY + SECOND, true);
    begun.recv().await.unwrap();
    assert_eq!(fallen(&parts), []);
    tokio::time::sleep(STEADY + SECOND + FIRST_PAUSE / 2).await;
    let down = Err("has panicked and begins again");
    assert_eq!(fallen(&parts), [("feed".into(), true, down)]);
    begun.recv().await.unwrap();
    tokio::time::sleep(STEADY - SECOND).await;
    assert_eq!(fallen(&parts), [("feed".into(), true, down)]);
    tokio::time::sleep(SECOND + FIRST_PAUSE).await;
    assert_eq!(fallen(&parts), [("feed".into(), true, Ok(()))]);
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_after_each_start_is_down_all_the_while() {
    let parts = parts();
    let mut begun = spawn(&parts, Part::vital("feed"), SECOND, true);
    pauses(&mut begun, 1).await;
    for _ in 0..600 {
        tokio::time::sleep(FIRST_PAUSE).await;
        assert_eq!(fallen(&parts), [("feed".into(), true, Err("has panicked and begins again"))]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_done_after_a_fall_is_well() {
    let parts = parts();
    parts.spawn(Part::vital("issuers").until_done(), true, |falls, _| {
        let work = async { assert!(!std::mem::take(falls), "on purpose") };
        work.boxed()
    });
    tokio::time::sleep(SECOND).await;
    assert_eq!(fallen(&parts), [("issuers".into(), true, Ok(()))]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_there_after_a_panic() {
    let parts = parts();
    let (sender, waiting) = mpsc::unbounded_channel();
    let (seen, mut done) = mpsc::unbounded_channel();
    (1..=4).for_each(|number| sender.send(number).unwrap());
    parts.spawn(Part::minor("rehash"), (waiting, seen), |(waiting, seen), _| {
        let work = async {
            while let Some(number) = waiting.recv().await {
                assert_ne!(number, 2, "on purpose");
                seen.send(number).unwrap();
            }
        };
        work.boxed()
    });
    assert_eq!([done.recv().await, done.recv().await, done.recv().await], [1, 3, 4].map(Some));
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_begin_again_takes_no_other_with_it() {
    let parts = parts();
    let apart = parts.apart();
    let mut begun = spawn(&parts, Part::minor("keys"), Duration::from_secs(3), false);
    parts.once(Part::vital("requests"), async { panic!("on purpose") });
    apart.once(Part::minor("http"), async {});
    let _done = spawn(&parts, Part::minor("takers").until_done(), Duration::ZERO, false);
    assert_eq!(parts.falls.lost().await, "requests");
    assert_eq!(pauses(&mut begun, 1).await, [3_100]);
    let keys = Err("has ended and begins again");
    let http = Err("has ended and does not begin again");
    let requests = Err("has panicked and does not begin again");
    assert_eq!(
        fallen(&parts),
        [
            ("http".into(), false, http),
            ("keys".into(), false, keys),
            ("requests".into(), true, requests)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_service_goes_on_without_what_is_not_vital_or_begins_again() {
    let parts = parts();
    parts.once(Part::minor("http"), async { panic!("on purpose") });
    let _begun = spawn(&parts, Part::vital("feed"), Duration::ZERO, true);
    let lost = tokio::time::timeout(LASTING, parts.falls.lost());
    assert!(lost.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_cuts_off_who_has_nothing_to_say_and_waits_for_others() {
    let parts = parts();
    let mut cut_off = spawn(&parts, Part::minor("keys"), LASTING, false);
    let (says, mut said) = mpsc::channel(1);
    parts.spawn(Part::minor("peers").with_farewell(), says, |says, stop| {
        let work = async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            says.send("farewell").await.unwrap();
        };
        work.boxed()
    });
    cut_off.recv().await.unwrap();
    let (falls, begun) = (parts.falls.clone(), Instant::now());
    parts.end().await;
    assert_eq!((begun.elapsed(), said.recv().await), (Duration::from_secs(5), Some("farewell")));
    assert_eq!((cut_off.recv().await, falls.all()), (None, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_fall_is_one_line_that_names_the_part() {
    let log = tempfile::NamedTempFile::new().unwrap();
    // With one alone, what tests on other threads log first is taken to be of no interest here.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let logger = fmt()
        .with_writer(std::sync::Mutex::new(log.reopen().unwrap()))
        .with_ansi(false)
        .without_time()
        .finish();
    let _logging = tracing::subscriber::set_default(logger);
    let parts = parts();
    let mut begun = spawn(&parts, Part::vital("feed"), Duration::from_secs(1), true);
    pauses(&mut begun, 1).await;
    let said = std::fs::read_to_string(log.path()).unwrap();
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let line =
        "ERROR nats_callout::daemon::parts: has panicked and begins again in 100ms part=\"feed\"";
    assert_eq!(lines, [line]);
}

#[tokio::test(start_paused = true)]
async fn one_that_goes_on_by_itself_after_a_panic_is_down_for_a_while() {
    let parts = parts();
    let (falls, part) = (parts.falls(), Part::vital("requests"));
    let (panics, panicked) = watch::channel(());
    tokio::spawn(async move { falls.follow(&part, panicked).await });
    for then in [STEADY / 2, STEADY * 2] {
        panics.send_replace(());
        tokio::time::sleep(then).await;
        let down = then < STEADY;
        assert_eq!(
            fallen(&parts)[0].2,
            if down { Err("has panicked and begins again") } else { Ok(()) }
        );
    }
}
