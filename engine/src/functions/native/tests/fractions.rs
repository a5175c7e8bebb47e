//! Tests of `histogram_fraction` over native histograms, with the cases of Prometheus' suite.

use super::*;

#[test]
fn fractions_of_positive_observations() {
    let h = exponential(0, ZERO, FIVE, &[]);
    let table = [
        (0.0, INF, 1.0),
        (-INF, 0.0, 0.0),
        (-0.001, 0.0, 0.0),
        (0.0, 0.001, 0.16666666666666666),
        (0.001, INF, 0.8333333333333334),
        (0.0, 0.0005, 0.08333333333333333),
        (-INF, -0.001, 0.0),
        (1.0, 2.0, 0.25),
        (0.0, 1.5, 0.4795739585136224),
        (1.5, 2.0, 0.10375937481971091),
        (1.0, 8.0, 0.3333333333333333),
        (0.0, 6.0, 0.6320802083934297),
        (1.0, 6.0, 0.29874687506009634),
        (1.5, 6.0, 0.15250624987980724),
        (-2.0, -1.0, 0.0),
        (42.0, 3.1415, 0.0),
        (0.0, 0.0, 0.0),
        (42.0, 42.0, 0.0),
        (3.1415, NAN, NAN),
        (NAN, 42.0, NAN),
        (-INF, INF, 1.0),
    ];
    for (lower, upper, expected) in table {
        let got = fraction(lower, upper, &h);
        assert!(nearly(got.value, expected), "{lower} to {upper}: {} and not {expected}", got.value);
        assert!(!got.excludes_nan);
    }
}

#[test]
fn fractions_of_negative_and_of_all_observations() {
    let negative = exponential(0, ZERO, &[], FIVE);
    let both = exponential(0, (4.0, 0.001), FIVE, FIVE);
    let table = [
        (&negative, 0.0, INF, 0.0),
        (&negative, -INF, 0.0, 1.0),
        (&negative, -0.001, 0.0, 0.16666666666666666),
        (&negative, -0.0005, 0.0, 0.08333333333333333),
        (&negative, -INF, -0.0005, 0.9166666666666666),
        (&negative, -INF, -0.001, 0.8333333333333334),
        (&negative, -2.0, -1.0, 0.25),
        (&negative, -2.0, -1.5, 0.10375937481971091),
        (&negative, -8.0, -1.0, 0.3333333333333333),
        (&negative, -INF, -6.0, 0.36791979160657035),
        (&negative, -6.0, -1.0, 0.29874687506009634),
        (&negative, -6.0, -1.5, 0.15250624987980724),
        (&both, 0.0, INF, 0.5),
        (&both, -INF, 0.0, 0.5),
        (&both, -0.0005, 0.0005, 0.08333333333333333),
        (&both, -INF, 0.0005, 0.5416666666666666),
        (&both, 0.001, INF, 0.4166666666666667),
        (&both, 1.5, 2.0, 0.051879687409855414),
        (&both, 1.0, 6.0, 0.14937343753004825),
        (&both, -2.0, -1.5, 0.051879687409855456),
        (&both, -6.0, -1.0, 0.14937343753004817),
        (&both, -6.0, -1.5, 0.07625312493990362),
    ];
    for (h, lower, upper, expected) in table {
        let got = fraction(lower, upper, h).value;
        assert!(nearly(got, expected), "{lower} to {upper} of {h}: {got} and not {expected}");
    }
    assert!(fraction(3.1415, 42.0, &NativeHistogram::default()).value.is_nan());
}

#[test]
fn fractions_of_custom_buckets() {
    let h = custom(&[5.0, 10.0], &[1.0, 2.0, 1.0]);
    let negative = custom(&[-3.0, -2.0, -1.0], &[10.0, 10.0, 10.0, 70.0]);
    let table = [
        (&h, 5.0, 10.0, 0.5),
        (&h, 0.0, 2.5, 0.125),
        (&h, -INF, 7.5, 0.5),
        (&h, 20.0, 30.0, 0.0),
        (&h, 20.0, INF, 0.25),
        (&h, -INF, INF, 1.0),
        // Nothing is known of where observations lie in the first bucket: from within it, none is
        // counted.
        (&negative, -4.0, -2.0, 0.1),
        (&negative, -INF, -1.5, 0.25),
        (&negative, -INF, INF, 1.0),
    ];
    for (h, lower, upper, expected) in table {
        let got = fraction(lower, upper, h).value;
        assert!(close(got, expected), "{lower} to {upper} of {h}: {got} and not {expected}");
    }
}
