//! Dates, for `strftime_now`.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment of a calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970 on the clock on the wall.
    seconds: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const DAY: i64 = 86_400;

impl Moment {
    /// Now, in UTC.
    pub fn now() -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment::at(since.as_secs() as i64)
    }

    /// So many seconds after 1970 began.
    pub fn at(seconds: i64) -> Moment {
        // A hundred thousand years either way; nobody's calendar goes further.
        Moment { seconds: seconds.clamp(-3_155_760_000_000, 3_155_760_000_000) }
    }

    /// Year, month and day, the latter two from 1 on: Howard Hinnant's `civil_from_days`.
    fn date(self) -> (i64, i64, i64) {
        let days = self.seconds.div_euclid(DAY) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (year + era * 400 + i64::from(month <= 2), month, day)
    }

    /// The day of the year, from 1 on.
    fn day_of_year(self) -> i64 {
        let (year, month, day) = self.date();
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        before[(month - 1) as usize] + day + i64::from(leap && month > 2)
    }

    /// Python's `strftime`. A hyphen after the percent leaves out leading zeros.
    pub(crate) fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let plain = rest.strip_prefix('-');
            let Some(directive) = plain.unwrap_or(rest).chars().next() else {
                out.push('%');
                continue;
            };
            rest = &plain.unwrap_or(rest)[directive.len_utf8()..];
            let text = self.directive(directive);
            match plain {
                Some(_) if text.len() > 1 => out.push_str(text.trim_start_matches(['0', ' '])),
                _ => out.push_str(&text),
            }
        }
        out + rest
    }

    fn directive(self, directive: char) -> String {
        let (year, month, day) = self.date();
        let second = self.seconds.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let month_name = MONTHS[(month - 1) as usize];
        let week_day = (self.seconds.div_euclid(DAY) + 4).rem_euclid(7);
        let day_name = DAYS[week_day as usize];
        match directive {
            'Y' => year.to_string(),
            'y' => format!("{:02}", year.rem_euclid(100)),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'e' => format!("{day:2}"),
            'B' => month_name.into(),
            'b' | 'h' => month_name[..3].into(),
            'A' => day_name.into(),
            'a' => day_name[..3].into(),
            'w' => week_day.to_string(),
            'u' => (if week_day == 0 { 7 } else { week_day }).to_string(),
            'H' => format!("{hour:02}"),
            'I' => format!("{:02}", (hour + 11) % 12 + 1),
            'p' => (if hour < 12 { "AM" } else { "PM" }).into(),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'f' => "000000".into(),
            'j' => format!("{:03}", self.day_of_year()),
            'F' => format!("{year}-{month:02}-{day:02}"),
            'T' => format!("{hour:02}:{minute:02}:{second:02}"),
            'R' => format!("{hour:02}:{minute:02}"),
            'D' => format!("{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
            'Z' | 'z' => String::new(),
            '%' => "%".into(),
            other => format!("%{other}"),
        }
    }
}
