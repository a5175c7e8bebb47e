//! Calendar fields in UTC of a time in seconds: of each value, or of the evaluation time.
//!
//! The calendar is computed here and not by a library, because it must return a value for every
//! float: Go converts NaN, infinities and values outside `int64` to the smallest `int64`, and its
//! calendar wraps around.

use super::{Function, Kernel};
use crate::types::ValueType::Vector;

const fn date(name: &'static str, field: fn(f64) -> f64) -> Function {
    Function::new(name, &[Vector], Vector, Kernel::MapOrClock(field)).optional(1)
}

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    date("day_of_month", |v| Date::from_seconds(v).day as f64)
        .doc("Day of the month, from 1, in UTC.", "day_of_month()"),
    date("day_of_week", |v| day_of_week(days(go_int64(v))) as f64)
        .doc("Day of the week in UTC, 0 is Sunday.", "day_of_week()"),
    date("day_of_year", |v| Date::from_seconds(v).day_of_year() as f64)
        .doc("Day of the year, from 1, in UTC.", "day_of_year()"),
    date("days_in_month", |v| Date::from_seconds(v).days_in_month() as f64)
        .doc("Number of days of the month, in UTC.", "days_in_month()"),
    date("hour", |v| (second_of_day(go_int64(v)) / 3600) as f64).doc("Hour of the day in UTC.", "hour()"),
    date("minute", |v| (second_of_day(go_int64(v)) / 60 % 60) as f64)
        .doc("Minute of the hour in UTC.", "minute()"),
    date("month", |v| Date::from_seconds(v).month as f64)
        .doc("Month of the year, from 1, in UTC.", "month()"),
    date("year", |v| Date::from_seconds(v).year as f64).doc("Year in UTC.", "year()"),
];

/// Converts a float as Go does on amd64: towards zero, and to the smallest integer if it does not
/// fit.
pub fn go_int64(v: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&v) { v as i64 } else { i64::MIN }
}

/// Seconds from the beginning of Go's calendar to the Unix epoch; a whole number of days.
const CALENDAR_START: i64 = 9_223_372_028_741_760_000;
const DAY: i64 = 86_400;

fn since_calendar_start(seconds: i64) -> u64 {
    seconds.wrapping_add(CALENDAR_START) as u64
}

/// Days since the Unix epoch, on the wrapping calendar.
fn days(seconds: i64) -> i64 {
    (since_calendar_start(seconds) / DAY as u64) as i64 - CALENDAR_START / DAY
}

fn second_of_day(seconds: i64) -> u64 {
    since_calendar_start(seconds) % DAY as u64
}

/// 1970-01-01 was a Thursday.
fn day_of_week(days: i64) -> i64 {
    (days + 4).rem_euclid(7)
}

struct Date {
    year: i64,
    /// From 1.
    month: i64,
    /// From 1.
    day: i64,
}

impl Date {
    fn from_seconds(v: f64) -> Date {
        Date::from_days(days(go_int64(v)))
    }

    /// Counts in years that begin in March, so that the leap day is last, and in eras of 400 years.
    fn from_days(days: i64) -> Date {
        const ERA: i64 = 146_097;
        let since_march_0000 = days + 719_468;
        let era = since_march_0000.div_euclid(ERA);
        let day = since_march_0000.rem_euclid(ERA);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Date { year: era * 400 + year + i64::from(month <= 2), month, day }
    }

    fn is_leap(&self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn days_in_month(&self) -> i64 {
        match self.month {
            2 => 28 + i64::from(self.is_leap()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn day_of_year(&self) -> i64 {
        (1..self.month).map(|month| Date { month, ..*self }.days_in_month()).sum::<i64>() + self.day
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::call;
    use chrono::{DateTime, Datelike, Timelike};
    use proptest::prelude::*;

    fn fields(v: f64) -> [f64; 8] {
        ["year", "month", "day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute"]
            .map(|name| call(name, v, &[]))
    }

    #[test]
    fn known_times() {
        assert_eq!(fields(0.0), [1970., 1., 1., 4., 1., 31., 0., 0.]);
        assert_eq!(fields(1_456_790_399.0), [2016., 2., 29., 1., 60., 29., 23., 59.]);
        assert_eq!(fields(-1.0), [1969., 12., 31., 3., 365., 31., 23., 59.]);
        // Fractions are rounded towards zero: half a second before the epoch is still the epoch.
        assert_eq!(fields(-0.5), fields(0.0));
        assert_eq!(fields(-62_135_596_801.0)[0], 0.0);
    }

    #[test]
    fn what_does_not_fit_is_the_smallest_number() {
        assert_eq!(go_int64(-2.9), -2);
        for v in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 9.3e18] {
            assert_eq!(go_int64(v), i64::MIN, "{v}");
            assert_eq!(fields(v), fields(i64::MIN as f64), "{v}");
        }
        // What Go prints for `time.Unix(math.MinInt64, 0)`.
        assert_eq!(fields(f64::NAN)[..3], [292_277_026_596., 12., 4.]);
    }

    proptest! {
        #[test]
        fn agrees_with_chrono(seconds in -60_000_000_000i64..60_000_000_000) {
            let d = DateTime::from_timestamp(seconds, 0).expect("within chrono's years");
            let next = d.date_naive().with_day(1).expect("every month has one") + chrono::Months::new(1);
            let last = next.pred_opt().expect("not the first day").day();
            let weekday = d.weekday().num_days_from_sunday();
            let want = [d.month(), d.day(), weekday, d.ordinal(), last, d.hour(), d.minute()].map(f64::from);
            let got = fields(seconds as f64);
            prop_assert_eq!(got[0], f64::from(d.year()));
            prop_assert_eq!(&got[1..], &want[..]);
        }
    }
}
