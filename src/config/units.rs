//! Durations and sizes as people write them, in the configuration and on the command line. `humantime`
//! takes `1 h` and `1y` too, and for `bytesize` a GB is 10^9 bytes.

use std::time::Duration;

pub(super) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) const fn days(count: u64) -> Duration {
    seconds(86_400 * count)
}

/// Reads `1800ms`, `30s`, `15m`, `12h`, `30d`, `2w` and sums such as `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{text}` is no duration: write a number and a unit out of ms, s, m, h, d and w, \
             such as `30s` or `15m`"
        )
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3_600).map(Duration::from_secs),
            "d" => number.checked_mul(86_400).map(Duration::from_secs),
            "w" => number.checked_mul(604_800).map(Duration::from_secs),
            _ => return Err(wrong()),
        };
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("`{text}` is too long a time"))?;
        rest = tail;
    }
    Ok(total)
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that keeps it exact.
pub(super) fn format_duration(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    units
        .into_iter()
        .find(|(unit, _)| millis != 0 && millis.is_multiple_of(*unit))
        .map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

/// Reads a size in bytes: a plain number, or one with a unit.
///
/// Every unit is a power of 1,024, as `MB` and `GB` are in nats-server's own configuration, and
/// as `M` and `G` are for its JetStream: `64MB`, `64M` and `64MiB` are the same 67,108,864 bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{text}` is no size: write bytes, or a whole number and a unit out of KB, MB, GB and \
             TB (powers of 1,024), such as `64MB`"
        )
    };
    let (number, unit) = split_number(text.trim());
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(1 << power)
        .filter(|&bytes| i64::try_from(bytes).is_ok())
        .ok_or_else(|| format!("`{text}` is more than any server can hold"))
}

/// Writes a size the way [`parse_size`] reads it, in the largest unit that keeps it exact.
pub(crate) fn format_size(bytes: u64) -> String {
    let units = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
    units
        .into_iter()
        .find(|(power, _)| bytes != 0 && bytes.trailing_zeros() >= *power)
        .map_or_else(|| bytes.to_string(), |(power, unit)| format!("{}{unit}", bytes >> power))
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_written() {
        let read = |text| parse_duration(text).unwrap();
        assert_eq!(read("1800ms"), Duration::from_millis(1_800));
        assert_eq!(read("15m"), Duration::from_secs(900));
        assert_eq!(read("1h30m"), Duration::from_secs(5_400));
        assert_eq!(read("30d"), Duration::from_secs(30 * 86_400));
        assert_eq!(read("0s"), Duration::ZERO);
    }

    #[test]
    fn durations_come_back() {
        for text in ["0ms", "1800ms", "30s", "15m", "1h", "25h", "90d"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn durations_that_are_none() {
        for text in ["", "30", "s", "-1s", "1.5h", "1 h", "1y", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("18446744073709551615w").is_err());
    }

    #[test]
    fn sizes_as_written() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("1073741824"), Ok(1 << 30));
        for text in ["64MB", "64M", "64MiB", "64mb", "64 MB"] {
            assert_eq!(parse_size(text), Ok(64 << 20), "{text}");
        }
        assert_eq!(parse_size("5GB"), Ok(5 << 30));
    }

    #[test]
    fn sizes_that_are_none() {
        for text in
            ["", "MB", "-1", "1.5GB", "1PB", "64 M B", "9223372036854775808", "9999999999TB"]
        {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_come_back() {
        for text in ["0", "1", "64MB", "5GB", "1TB", "1025MB"] {
            assert_eq!(format_size(parse_size(text).unwrap()), text);
        }
    }
}
