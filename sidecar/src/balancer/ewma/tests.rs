use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn observed(sample: Duration, now_ms: u32) -> Ewma {
    let ewma = Ewma::default();
    ewma.observe(sample, now_ms);
    ewma
}

#[track_caller]
fn assert_close(actual: Option<Duration>, millis: f64) {
    let actual = actual.unwrap().as_secs_f64() * 1000.0;
    assert!((actual - millis).abs() <= millis * 1e-3, "{actual} ms, expected {millis} ms");
}

#[test]
fn nothing_is_known_before_the_first_answer() {
    let ewma = Ewma::default();
    assert_eq!((ewma.read(5), ewma.get()), (None, None));
    ewma.observe(ms(30), 5);
    assert_close(ewma.read(5), 30.0);
    assert_close(ewma.get(), 30.0);
    // An answer in no time at all is one, too.
    assert_eq!(observed(Duration::ZERO, u32::MAX).read(u32::MAX), Some(Duration::ZERO));
}

#[test]
fn it_leaps_up_and_comes_down_with_time() {
    let ewma = observed(ms(10), 0);
    ewma.observe(ms(100), 1);
    assert_close(ewma.get(), 100.0);
    ewma.observe(ms(10), 1 + TAU);
    assert_close(ewma.get(), 10.0 + 90.0 / std::f64::consts::E);
}

#[test]
fn reading_decays_and_changes_nothing() {
    let ewma = observed(ms(100), 0);
    for _ in 0..3 {
        assert_close(ewma.read(TAU), 100.0 / std::f64::consts::E);
        assert_close(ewma.read(3 * TAU), 100.0 / std::f64::consts::E.powi(3));
    }
    assert_close(ewma.get(), 100.0);
}

#[test]
fn small_steps_are_not_rounded_away() {
    // Of each sample one part in 10,000 counts; together they have to count as the time does.
    let ewma = observed(Duration::from_micros(100), 0);
    for now_ms in 1..=TAU {
        ewma.observe(Duration::from_micros(90), now_ms);
    }
    assert_close(ewma.get(), 0.09 + 0.01 / std::f64::consts::E);
}

#[test]
fn time_that_goes_back_counts_as_none() {
    let ewma = observed(ms(100), 5000);
    ewma.observe(ms(10), 4000);
    assert_close(ewma.read(4000), 100.0);
    // The second that had counted by then does not count again.
    ewma.observe(ms(10), 5000);
    assert_close(ewma.get(), 100.0);
    ewma.observe(ms(200), 4000);
    assert_close(ewma.read(5000), 200.0);
}

#[test]
fn time_may_wrap() {
    let ewma = observed(ms(100), u32::MAX - 3999);
    assert_close(ewma.read(TAU - 4000), 100.0 / std::f64::consts::E);
    ewma.observe(ms(10), TAU - 4000);
    assert_close(ewma.get(), 10.0 + 90.0 / std::f64::consts::E);
    // Half the way round is a long time ago, not ahead.
    let days = |days: u32| days * 24 * 3600 * 1000;
    assert!(observed(ms(100), 0).read(days(30)).unwrap() < ms(1));
}

#[test]
fn a_probe_counts_only_where_no_answer_does() {
    let ewma = Ewma::default();
    ewma.seed(ms(2), 0);
    assert_close(ewma.read(0), 2.0);
    ewma.observe(ms(50), 100);
    ewma.seed(ms(2), 100 + TAU - 1);
    assert_close(ewma.get(), 50.0);
    ewma.seed(ms(2), 100 + TAU);
    assert_close(ewma.read(100 + TAU), 2.0);
}

#[test]
fn workers_that_race_leave_one_of_their_samples() {
    let ewma = Ewma::default();
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let ewma = &ewma;
            scope.spawn(move || {
                for now_ms in 0..20_000u32 {
                    ewma.observe(ms(5 + (worker + u64::from(now_ms)) % 5), now_ms);
                }
            });
        }
    });
    let left = ewma.get().unwrap();
    assert!(left >= ms(5) && left <= Duration::from_micros(9001), "{left:?}");
}

proptest! {
    /// It never leaves the range of what was observed, whatever the times.
    #[test]
    fn it_stays_between_the_samples(steps in vec((any::<Duration>(), any::<u32>()), 1..50), at: u32) {
        let ewma = Ewma::default();
        for (sample, now_ms) in &steps {
            ewma.observe(*sample, *now_ms);
            ewma.seed(*sample, at);
        }
        let samples = steps.iter().map(|(sample, _)| sample.as_secs_f64());
        let (least, most) = samples.fold((f64::MAX, 0.0), |(a, b), s| (s.min(a), s.max(b)));
        let average = ewma.get().unwrap().as_secs_f64();
        prop_assert!((least * 0.999..=most * 1.001).contains(&average), "{average}");
        prop_assert!(ewma.read(at) <= ewma.get());
    }
}
