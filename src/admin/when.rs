//! Points in time as people write them: from now on, or on the calendar.

use crate::clock::UnixSeconds;
use crate::config::units::parse_duration;

/// When something ends, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So long from now on.
    After(std::time::Duration),
    /// At this time.
    At(UnixSeconds),
}

impl When {
    /// The point in time, which has to lie ahead.
    pub(crate) fn at(self, now: UnixSeconds) -> Result<UnixSeconds, String> {
        let at = match self {
            Self::At(at) => at,
            Self::After(duration) => i64::try_from(duration.as_secs())
                .ok()
                .and_then(|seconds| now.checked_add(seconds))
                .filter(|at| *at < LAST)
                .ok_or("that is too far ahead")?,
        };
        if at <= now {
            return Err("that is not in the future; write a time to come, such as 30d".to_owned());
        }
        Ok(at)
    }
}

/// 9999-12-31T23:59:59Z, the last one that databases and RFC 3339 can write.
const LAST: UnixSeconds = 253_402_300_799;

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(duration) = parse_duration(text) {
            return Ok(Self::After(duration));
        }
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::At(at.as_second()));
        }
        let midnight = text
            .parse::<jiff::civil::Date>()
            .ok()
            .filter(|_| text.len() == 10)
            .and_then(|date| jiff::tz::TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok());
        midnight.map(|at| Self::At(at.as_second())).ok_or_else(|| {
            format!(
                "`{text}` is no time: write how long from now (30d, 12h), a date (2027-01-31, \
                 which ends as it begins in UTC) or an RFC 3339 time (2027-01-31T18:00:00Z)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, now: UnixSeconds) -> Result<UnixSeconds, String> {
        text.parse::<When>()?.at(now)
    }

    #[test]
    fn times_as_written() {
        assert_eq!(at("30d", 1_000), Ok(1_000 + 30 * 86_400));
        assert_eq!(at("12h", 1_000), Ok(1_000 + 12 * 3_600));
        assert_eq!(at("1970-01-02", 0), Ok(86_400));
        assert_eq!(at("1970-01-01T01:00:00Z", 0), Ok(3_600));
        assert_eq!(at("1970-01-01T03:00:00+02:00", 0), Ok(3_600));
        assert_eq!(at("1970-01-01 01:00:00+00:00", 0), Ok(3_600));
    }

    #[test]
    fn times_that_are_none() {
        for text in ["", "tomorrow", "2027-13-01", "2027-01-01T00:00:00", "30", "1970-01-02"] {
            assert!(at(text, 86_400 * 9).is_err(), "{text}");
        }
        assert!(at("0s", 0).is_err());
        assert!(at("9999999999w", 0).is_err());
    }
}
