//! Times and durations as people read them, in the time zone of the machine, which is named beside each.

use time::{OffsetDateTime, UtcOffset};

use crate::words::Language;

const MINUTE: u64 = 60 * 1000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// "27 Nov 2026, 14:05", "2026年11月27日 14:05".
pub(crate) fn moment(language: Language, milliseconds: u64) -> String {
    let Some(at) = parts(milliseconds) else {
        return language.of("no end", "无期限").to_owned();
    };
    format!(
        "{}{}{}",
        date(language, milliseconds),
        language.of(", ", " "),
        clock(at)
    )
}

/// "27 Nov 2026", "2026年11月27日".
pub(crate) fn date(language: Language, milliseconds: u64) -> String {
    let Some(at) = parts(milliseconds) else {
        return language.of("no end", "无期限").to_owned();
    };
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    match language {
        Language::English => format!("{day} {} {year}", MONTHS[usize::from(month) - 1]),
        Language::Chinese => format!("{year}年{month}月{day}日"),
    }
}

/// "14:05, 12 minutes ago"; with the date if it is another day's.
pub(crate) fn ago(language: Language, milliseconds: u64, now: u64) -> String {
    let passed = now.saturating_sub(milliseconds);
    if passed >= DAY {
        return moment(language, milliseconds);
    }
    let Some(at) = parts(milliseconds) else {
        return moment(language, milliseconds);
    };
    match language {
        Language::English if passed < MINUTE => format!("{}, just now", clock(at)),
        Language::English => format!("{}, {} ago", clock(at), duration(language, passed)),
        Language::Chinese if passed < MINUTE => format!("{}，刚刚", clock(at)),
        Language::Chinese => format!("{}，{}前", clock(at), duration(language, passed)),
    }
}

/// The largest unit that says it: "2 hours", "1 day".
pub(crate) fn duration(language: Language, milliseconds: u64) -> String {
    let (count, english, chinese) = match milliseconds {
        0..MINUTE => (milliseconds.div_ceil(1000), "second", "秒"),
        MINUTE..HOUR => (milliseconds / MINUTE, "minute", "分钟"),
        HOUR..DAY => {
            let (hours, minutes) = (milliseconds / HOUR, milliseconds % HOUR / MINUTE);
            // Half an hour counts as long as there are few of them.
            if hours < 6 && minutes > 0 {
                return match language {
                    Language::English => format!("{hours} h {minutes} min"),
                    Language::Chinese => format!("{hours} 小时 {minutes} 分钟"),
                };
            }
            (hours, "hour", "小时")
        }
        _ => (milliseconds / DAY, "day", "天"),
    };
    match language {
        Language::English if count == 1 => format!("1 {english}"),
        Language::English => format!("{count} {english}s"),
        Language::Chinese => format!("{count} {chinese}"),
    }
}

/// A time as a record writes it, in ISO 8601, without its seconds and with a space for the T.
pub(crate) fn written(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    match (text.get(..16), text.get(10..11)) {
        (Some(minutes), Some("T")) => minutes.replace('T', " "),
        _ => text.to_owned(),
    }
}

fn parts(milliseconds: u64) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(milliseconds / 1000).ok()?;
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    Some(at.to_offset(zone(seconds)))
}

/// How far the machine's zone is from UTC at a time.
#[cfg(not(test))]
fn zone(seconds: i64) -> UtcOffset {
    use chrono::{Offset as _, TimeZone as _};

    let local = chrono::Local.timestamp_opt(seconds, 0).single();
    let ahead = local.map_or(0, |local| local.offset().fix().local_minus_utc());
    UtcOffset::from_whole_seconds(ahead).unwrap_or(UtcOffset::UTC)
}

/// So that tests say the same everywhere; a browser test has a zone of its own.
#[cfg(test)]
fn zone(_: i64) -> UtcOffset {
    UtcOffset::UTC
}

/// "14:05 UTC", "22:05 UTC+8", "19:35 UTC+5:30".
fn clock(at: OffsetDateTime) -> String {
    let (hours, minutes, _) = at.offset().as_hms();
    let zone = match (hours, minutes) {
        (0, 0) => String::new(),
        (hours, 0) => format!("{hours:+}"),
        (hours, minutes) => {
            let sign = if at.offset().is_negative() { '-' } else { '+' };
            let (hours, minutes) = (hours.unsigned_abs(), minutes.unsigned_abs());
            format!("{sign}{hours}:{minutes:02}")
        }
    };
    format!("{:02}:{:02} UTC{zone}", at.hour(), at.minute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unambiguous_in_both_languages() {
        // 2012-03-12 14:05:09 UTC
        let at = 1_331_561_109_000;
        assert_eq!(moment(Language::English, at), "12 Mar 2012, 14:05 UTC");
        assert_eq!(moment(Language::Chinese, at), "2012年3月12日 14:05 UTC");
        assert_eq!(
            ago(Language::English, at, at + 12 * MINUTE),
            "14:05 UTC, 12 minutes ago"
        );
        assert_eq!(ago(Language::Chinese, at, at + 30_000), "14:05 UTC，刚刚");
        assert_eq!(
            ago(Language::English, at, at + 2 * DAY),
            moment(Language::English, at)
        );
    }

    #[test]
    fn the_zone_is_named_beside_the_time() {
        let noon = OffsetDateTime::from_unix_timestamp(12 * 3_600).unwrap();
        for (seconds, expected) in [
            (0, "12:00 UTC"),
            (8 * 3_600, "20:00 UTC+8"),
            (-5 * 3_600, "07:00 UTC-5"),
            (19_800, "17:30 UTC+5:30"),
            (-12_600, "08:30 UTC-3:30"),
        ] {
            let zone = UtcOffset::from_whole_seconds(seconds).unwrap();
            assert_eq!(clock(noon.to_offset(zone)), expected);
        }
    }

    #[test]
    fn durations_round_down_to_what_is_surely_left() {
        assert_eq!(duration(Language::English, 90 * MINUTE), "1 h 30 min");
        assert_eq!(duration(Language::English, 2 * HOUR), "2 hours");
        assert_eq!(duration(Language::English, HOUR - 1), "59 minutes");
        assert_eq!(duration(Language::Chinese, 3 * DAY), "3 天");
        assert_eq!(duration(Language::English, 1_500), "2 seconds");
        assert_eq!(moment(Language::English, u64::MAX), "no end");
    }
}
