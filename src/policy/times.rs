//! Times of the week in a time zone: when a policy lets its users in, and until when.
//!
//! A window is open while a clock on the wall there shows a time within it. An hour that the clock
//! skips is in no window, one that it shows twice is in its window twice.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::clock::UnixSeconds;

const DAY: i64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const REMEDY: &str = "write days and times, such as \"Mon-Fri 08:00-18:00\", \"Sat,Sun 22:00-02:00\" \
                      or \"00:00-24:00\"";

/// How many windows and changes of the clock in a row are followed. What is open for longer gets a
/// sooner end, after which the client logs in again.
const STEPS: usize = 32;

/// Windows of the week, in a time zone.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    windows: Vec<Window>,
    zone: TimeZone,
}

/// From one time of a day to another of the same day or, if that is no later, of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// By day from Monday on, whether it begins on it.
    days: [bool; 7],
    /// Seconds since midnight.
    from: i64,
    /// The same, beyond [`DAY`] where the window ends on the next day.
    to: i64,
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {why}")]
pub(crate) struct TimesError {
    text: String,
    why: &'static str,
}

impl TimesError {
    /// What to do.
    pub(crate) fn remedy(&self) -> &'static str {
        REMEDY
    }
}

/// A time zone by its name in the IANA database, such as `Europe/Berlin`.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

impl Schedule {
    /// These windows, in this zone; or what is wrong with which of them.
    pub(crate) fn new(texts: &[&str], zone: TimeZone) -> Result<Self, Vec<(usize, TimesError)>> {
        let (mut windows, mut errors) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            match Window::parse(text) {
                Ok(window) => windows.push(window),
                Err(why) => errors.push((index, TimesError { text: (*text).to_owned(), why })),
            }
        }
        if errors.is_empty() { Ok(Self { windows, zone }) } else { Err(errors) }
    }

    /// When what is open `now` closes; `None` if nothing is.
    pub(crate) fn open_until(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        let mut until = now;
        for _ in 0..STEPS {
            let at = Timestamp::from_second(until).ok()?;
            let wall = self.zone.to_datetime(at);
            let second = i64::from(wall.hour()) * 3_600
                + i64::from(wall.minute()) * 60
                + i64::from(wall.second());
            let left = self.windows.iter().filter_map(|it| it.left(wall.weekday(), second)).max();
            let Some(left) = left else { break };
            let by_the_clock = until.saturating_add(left);
            let change =
                self.zone.following(at).next().map(|change| change.timestamp().as_second());
            until = change.map_or(by_the_clock, |change| change.min(by_the_clock));
        }
        (until > now).then_some(until)
    }
}

impl Window {
    /// How many seconds are left of the window at this time of the week; `None` outside of it.
    fn left(&self, day: Weekday, second: i64) -> Option<i64> {
        let begins = |day: Weekday| {
            let index = usize::try_from(day.to_monday_zero_offset()).ok();
            index.and_then(|index| self.days.get(index)).copied().unwrap_or(false)
        };
        let within = |second| (self.from..self.to).contains(&second).then(|| self.to - second);
        let of_today = begins(day).then(|| within(second)).flatten();
        let of_yesterday = begins(day.previous()).then(|| within(second + DAY)).flatten();
        of_today.max(of_yesterday)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, times) = match words.as_slice() {
            [times] => ([true; 7], *times),
            [days, times] => (parse_days(days)?, *times),
            _ => return Err("not one or two words: the days, and from when to when"),
        };
        let (from, to) = times.split_once('-').ok_or("no time from and to, with a dash between")?;
        let (from, to) = (parse_time(from)?, parse_time(to)?);
        if from == DAY {
            return Err("no window begins at 24:00, which is 00:00 of the next day");
        }
        if from == to {
            return Err("it ends as it begins; a whole day is 00:00-24:00");
        }
        Ok(Self { days, from, to: if to < from { to + DAY } else { to } })
    }
}

fn parse_days(text: &str) -> Result<[bool; 7], &'static str> {
    let index = |name: &str| {
        let found = WEEKDAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
        found.ok_or("a day is one of Mon, Tue, Wed, Thu, Fri, Sat and Sun")
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (index(first)?, index(last)?);
        let length = (last + 7 - first) % 7;
        for (day, set) in days.iter_mut().enumerate() {
            *set |= (day + 7 - first) % 7 <= length;
        }
    }
    Ok(days)
}

fn parse_time(text: &str) -> Result<i64, &'static str> {
    const WHY: &str = "a time is HH:MM, from 00:00 to 24:00";
    let two = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok()).flatten().ok_or(WHY)
    };
    let (hours, minutes) = text.split_once(':').ok_or(WHY)?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let seconds = hours * 3_600 + minutes * 60;
    if minutes < 60 && seconds <= DAY { Ok(seconds) } else { Err(WHY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(texts: &[&str], name: &str) -> Schedule {
        Schedule::new(texts, zone(name).unwrap()).unwrap()
    }

    fn at(text: &str) -> UnixSeconds {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    /// When it closes, if it is open at that time.
    fn until(schedule: &Schedule, now: &str) -> Option<String> {
        let until = schedule.open_until(at(now))?;
        Some(Timestamp::from_second(until).unwrap().to_string())
    }

    fn is(schedule: &Schedule, now: &str, expected: Option<&str>) {
        assert_eq!(until(schedule, now).as_deref(), expected, "{schedule:?} at {now}");
    }

    #[test]
    fn office_hours() {
        let office = schedule(&["Mon-Fri 08:00-18:00"], "UTC");
        // A Monday.
        is(&office, "2026-03-30T07:59:59Z", None);
        is(&office, "2026-03-30T08:00:00Z", Some("2026-03-30T18:00:00Z"));
        is(&office, "2026-03-30T17:59:59Z", Some("2026-03-30T18:00:00Z"));
        is(&office, "2026-03-30T18:00:00Z", None);
        is(&office, "2026-04-03T12:00:00Z", Some("2026-04-03T18:00:00Z"));
        is(&office, "2026-04-04T12:00:00Z", None);
        is(&office, "2026-04-05T12:00:00Z", None);
    }

    #[test]
    fn over_midnight() {
        let night = schedule(&["Fri,Sat 22:00-02:00"], "UTC");
        is(&night, "2026-04-03T23:00:00Z", Some("2026-04-04T02:00:00Z"));
        is(&night, "2026-04-04T01:59:59Z", Some("2026-04-04T02:00:00Z"));
        is(&night, "2026-04-04T02:00:00Z", None);
        is(&night, "2026-04-05T01:00:00Z", Some("2026-04-05T02:00:00Z"));
        is(&night, "2026-04-06T01:00:00Z", None);
        is(&night, "2026-04-03T01:00:00Z", None);
        // From Sunday into Monday, in a range of days that goes on over the weekend.
        let weekend = schedule(&["Fri-Mon 20:00-04:00"], "UTC");
        is(&weekend, "2026-04-06T03:00:00Z", Some("2026-04-06T04:00:00Z"));
        is(&weekend, "2026-04-07T03:00:00Z", Some("2026-04-07T04:00:00Z"));
        is(&weekend, "2026-04-08T03:00:00Z", None);
    }

    #[test]
    fn windows_that_touch_are_one() {
        let day = schedule(&["08:00-12:00", "12:00-16:00", "10:00-14:00", "18:00-19:00"], "UTC");
        is(&day, "2026-04-03T08:00:00Z", Some("2026-04-03T16:00:00Z"));
        is(&day, "2026-04-03T18:30:00Z", Some("2026-04-03T19:00:00Z"));
        // What never closes gets an end that is weeks away.
        let always = schedule(&["00:00-24:00"], "Europe/Berlin");
        let now = at("2026-03-28T12:00:00Z");
        assert!(always.open_until(now).unwrap() > now + 20 * DAY);
    }

    #[test]
    fn the_hour_that_the_clock_skips() {
        // Berlin goes from 02:00 to 03:00 at 01:00Z.
        let berlin = |text| schedule(&[text], "Europe/Berlin");
        is(&berlin("Sun 01:00-06:00"), "2026-03-29T00:00:00Z", Some("2026-03-29T04:00:00Z"));
        is(&berlin("Sun 01:00-02:30"), "2026-03-29T00:00:00Z", Some("2026-03-29T01:00:00Z"));
        is(&berlin("Sun 01:00-02:30"), "2026-03-29T01:00:00Z", None);
        is(&berlin("Sun 02:15-02:45"), "2026-03-29T01:00:00Z", None);
        is(&berlin("Sun 02:15-02:45"), "2026-03-29T00:59:59Z", None);
        is(&berlin("Sun 02:30-03:30"), "2026-03-29T01:00:00Z", Some("2026-03-29T01:30:00Z"));
        is(&berlin("Sat 22:00-03:00"), "2026-03-28T22:00:00Z", Some("2026-03-29T01:00:00Z"));
        is(&berlin("Mon-Fri 08:00-18:00"), "2026-03-27T07:00:00Z", Some("2026-03-27T17:00:00Z"));
        is(&berlin("Mon-Fri 08:00-18:00"), "2026-03-30T06:00:00Z", Some("2026-03-30T16:00:00Z"));
    }

    #[test]
    fn the_hour_that_the_clock_shows_twice() {
        // Berlin goes from 03:00 back to 02:00 at 01:00Z.
        let berlin = |text| schedule(&[text], "Europe/Berlin");
        is(&berlin("Sun 02:15-02:45"), "2026-10-25T00:15:00Z", Some("2026-10-25T00:45:00Z"));
        is(&berlin("Sun 02:15-02:45"), "2026-10-25T00:50:00Z", None);
        is(&berlin("Sun 02:15-02:45"), "2026-10-25T01:15:00Z", Some("2026-10-25T01:45:00Z"));
        is(&berlin("Sun 01:00-02:30"), "2026-10-24T23:00:00Z", Some("2026-10-25T00:30:00Z"));
        is(&berlin("Sun 01:00-02:30"), "2026-10-25T01:00:00Z", Some("2026-10-25T01:30:00Z"));
        is(&berlin("Sun 01:00-04:00"), "2026-10-24T23:00:00Z", Some("2026-10-25T03:00:00Z"));
        is(&berlin("Sun 02:30-03:00"), "2026-10-25T00:30:00Z", Some("2026-10-25T01:00:00Z"));
    }

    #[test]
    fn what_is_no_window() {
        for text in [
            "",
            "08:00",
            "8:00-18:00",
            "08:00-25:00",
            "08:60-09:00",
            "24:00-01:00",
            "08:00-08:00",
            "Mon 08:00",
            "Monday 08:00-09:00",
            "Mon-Fri,X 08:00-09:00",
            "Mon 08:00 - 09:00",
            "Mon 08:00-24:01",
            "-1:00-02:00",
            "Mon- 08:00-09:00",
        ] {
            let errors = Schedule::new(&[text], TimeZone::UTC).unwrap_err();
            assert!(errors.len() == 1 && errors[0].1.to_string().contains(text), "{text}");
        }
        assert!(zone("Europe/Nowhere").is_none());
    }
}
