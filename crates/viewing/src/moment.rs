//! Times as records have them. They are shown as they stand there, brought to ISO 8601 where the
//! format has another way of writing; here they are compared, too.

/// The ISO 8601 form of what HL7 v2, clinical documents and DICOM write as `20120912011230-0500`,
/// as precise as it is there. `None` if there is no date.
pub(crate) fn iso(compact: &str) -> Option<String> {
    let compact = compact.trim();
    let digits = compact.bytes().take_while(u8::is_ascii_digit).count();
    let part =
        |begin: usize, end: usize| (end <= digits).then(|| compact.get(begin..end)).flatten();
    let mut out = part(0, 4)?.to_owned();
    let zone_at = compact.find(['+', '-']);
    for (begin, end, before) in [
        (4, 6, '-'),
        (6, 8, '-'),
        (8, 10, 'T'),
        (10, 12, ':'),
        (12, 14, ':'),
    ] {
        let Some(value) = part(begin, end) else { break };
        out.push(before);
        out.push_str(value);
        if before == 'T' && part(10, 12).is_none() {
            out.push_str(":00");
        }
    }
    if digits >= 10
        && let Some(zone) = zone_at.and_then(|at| compact.get(at..at + 5))
        && zone.bytes().skip(1).all(|digit| digit.is_ascii_digit())
        && let (Some(hours), Some(minutes)) = (zone.get(..3), zone.get(3..))
    {
        out.push_str(hours);
        out.push(':');
        out.push_str(minutes);
    }
    Some(out)
}

/// Seconds from 1970 to the begin of an ISO 8601 date or time, which may be of any precision. A time
/// without a zone counts as UTC: it only serves to bring rows in order.
pub fn seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let number = |begin: usize, end: usize| {
        let digits = text.get(begin..end)?;
        digits
            .bytes()
            .all(|digit| digit.is_ascii_digit())
            .then_some(())?;
        digits.parse::<i64>().ok()
    };
    let year = number(0, 4)?;
    let month = number(5, 7)
        .filter(|month| (1..=12).contains(month))
        .unwrap_or(1);
    let day = number(8, 10)
        .filter(|day| (1..=31).contains(day))
        .unwrap_or(1);
    let mut total = days(year, month, day) * 86_400;
    if text.as_bytes().get(10) == Some(&b'T') {
        total += number(11, 13).unwrap_or(0) * 3_600;
        total += number(14, 16).unwrap_or(0) * 60;
        if text.as_bytes().get(16) == Some(&b':') {
            total += number(17, 19).unwrap_or(0);
        }
        if let Some(at) = text
            .get(11..)
            .and_then(|time| time.find(['+', '-']))
            .map(|at| at + 11)
            && let (Some(hours), Some(minutes)) = (number(at + 1, at + 3), number(at + 4, at + 6))
        {
            let offset = hours * 3_600 + minutes * 60;
            total += if text.as_bytes().get(at) == Some(&b'+') {
                -offset
            } else {
                offset
            };
        }
    }
    Some(total)
}

/// Days from 1970-01-01 in the Gregorian calendar, by counting from the first of March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_times_become_iso() {
        assert_eq!(
            iso("201409171904-0500").as_deref(),
            Some("2014-09-17T19:04-05:00")
        );
        assert_eq!(
            iso("20120912011230.5").as_deref(),
            Some("2012-09-12T01:12:30")
        );
        assert_eq!(iso("2012091201").as_deref(), Some("2012-09-12T01:00"));
        assert_eq!(iso("19800202").as_deref(), Some("1980-02-02"));
        assert_eq!(iso("198002").as_deref(), Some("1980-02"));
        assert_eq!(iso("HL7"), None);
    }

    #[test]
    fn times_are_compared_across_zones() {
        assert_eq!(seconds("1970-01-01"), Some(0));
        assert_eq!(seconds("2000-03-01T00:00:00Z"), Some(951_868_800));
        assert_eq!(
            seconds("2024-06-15T20:59:00+08:00"),
            seconds("2024-06-15T12:59:00.123Z")
        );
        assert_eq!(
            seconds("2024-06-15T20:59-05:00"),
            seconds("2024-06-16T01:59Z")
        );
        assert_eq!(seconds("\u{4f60}\u{597d}"), None);
    }
}
