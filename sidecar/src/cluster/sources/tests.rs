use super::*;
use crate::cluster::fixture::{self, endpoint};

const START: Duration = Duration::from_secs(5);
const HOLD: Duration = Duration::from_secs(60);

struct Fixture {
    sources: Sources,
    start: Instant,
}

impl Fixture {
    /// Three sources, none of which has said anything.
    fn new() -> Self {
        let mut settings = fixture::settings("");
        settings.sources = vec![settings.sources[0].clone(); 3];
        let start = Instant::now();
        Self { sources: Sources::new(&settings, start, start + START), start }
    }

    fn answer(&mut self, source: usize, ports: &[u16], after: Duration) -> News {
        let endpoints = ports.iter().map(|port| endpoint(*port, 1, 0)).collect();
        let answer = Answer::new(source, SystemTime::UNIX_EPOCH, endpoints);
        self.sources.answered(answer, self.start + after).unwrap()
    }

    fn fail(&mut self, source: usize) -> bool {
        self.sources.failed(source, SystemTime::UNIX_EPOCH)
    }

    fn remember(&mut self, source: usize, ports: &[u16], until: Option<Duration>) {
        let endpoints = ports.iter().map(|port| endpoint(*port, 1, 0)).collect();
        let until = until.map(|after| self.start + after);
        self.sources.remember(source, SystemTime::UNIX_EPOCH, endpoints, until);
    }

    /// The source that counts, its endpoints' ports, and whether they are remembered only.
    fn chosen(&self, after: Duration) -> Option<(usize, Vec<u16>, bool)> {
        let chosen = self.sources.choose(self.start + after)?;
        let ports = chosen.set.keys().map(fixture::port).collect();
        Some((chosen.source, ports, chosen.from_memory))
    }
}

const NOW: Duration = Duration::ZERO;
const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_first_that_answers_is_awaited_and_then_done_without() {
    let mut f = Fixture::new();
    f.answer(2, &[3], NOW);
    assert_eq!(f.chosen(NOW), None);
    assert_eq!(f.sources.next_change(f.start), Some(f.start + START));
    // Who fails has no answer, at once; who says nothing, after a while.
    assert!(f.fail(0));
    assert_eq!(f.chosen(NOW), None);
    assert_eq!(f.chosen(START), Some((2, vec![3], false)));
    f.answer(1, &[2], START);
    assert_eq!(f.chosen(START), Some((1, vec![2], false)));
    f.answer(0, &[1], START);
    assert_eq!(f.chosen(START), Some((0, vec![1], false)));
}

#[test]
fn who_has_answered_and_fails_keeps_its_answer() {
    let mut f = Fixture::new();
    f.answer(0, &[1], NOW);
    f.answer(1, &[2], NOW);
    assert!(f.fail(0));
    assert!(!f.fail(0));
    assert_eq!(f.chosen(HOLD * 1000), Some((0, vec![1], false)));
    assert!(f.sources.choose(f.start).unwrap().stale_since.is_some());
    let expected = News { changed: false, recovered: true, left_out: 0 };
    assert_eq!(f.answer(0, &[1], HOLD), expected);
    assert!(f.sources.choose(f.start).unwrap().stale_since.is_none());
}

#[test]
fn nobody_is_believed_when_it_lasts() {
    let mut f = Fixture::new();
    f.answer(0, &[1], NOW);
    f.answer(1, &[2], NOW);
    f.fail(2);
    f.answer(0, &[], millis(1000));
    f.answer(0, &[], millis(2000));
    let until = HOLD + millis(1000);
    assert_eq!(f.chosen(until - millis(1)), Some((0, vec![], false)));
    assert_eq!(f.sources.next_change(f.start + millis(2000)), Some(f.start + until));
    assert_eq!(f.chosen(until), Some((1, vec![2], false)));
    // With nobody anywhere, nobody is the answer.
    let mut f = Fixture::new();
    f.answer(0, &[], NOW);
    assert!(f.fail(1) && f.fail(2));
    assert_eq!(f.chosen(NOW), Some((0, vec![], false)));
}

#[test]
fn what_is_decided_counts_at_once() {
    let mut f = Fixture::new();
    f.answer(0, &[1], NOW);
    f.answer(1, &[2], NOW);
    let nobody = Answer { decided: true, ..Answer::new(0, SystemTime::UNIX_EPOCH, Vec::new()) };
    f.sources.answered(nobody, f.start);
    assert_eq!(f.chosen(NOW), Some((1, vec![2], false)));
}

#[test]
fn memory_serves_from_a_failure_or_a_long_silence_until_the_source_speaks() {
    let mut f = Fixture::new();
    f.remember(1, &[7], Some(HOLD));
    f.answer(2, &[3], NOW);
    assert_eq!(f.chosen(PATIENCE - millis(1)), None);
    // The first source is still awaited, but not by those who could be served.
    assert_eq!(f.chosen(PATIENCE), Some((1, vec![7], true)));
    assert!(f.fail(0) && f.fail(1));
    assert_eq!(f.chosen(NOW), Some((1, vec![7], true)));
    assert_eq!(f.sources.choose(f.start).unwrap().stale_since, Some(SystemTime::UNIX_EPOCH));
    assert_eq!(f.chosen(HOLD), Some((2, vec![3], false)));
    f.answer(1, &[8], NOW);
    assert_eq!(f.chosen(NOW), Some((1, vec![8], false)));
    // A memory that comes late is none.
    f.remember(1, &[7], None);
    assert_eq!(f.chosen(NOW), Some((1, vec![8], false)));
}

#[test]
fn who_served_from_memory_serves_on_with_what_it_says_itself() {
    let mut f = Fixture::new();
    f.remember(1, &[7], Some(HOLD));
    f.answer(2, &[3], NOW);
    assert_eq!(f.chosen(PATIENCE), Some((1, vec![7], true)));
    f.answer(1, &[8], PATIENCE);
    // The first source is awaited still.
    assert_eq!(f.chosen(PATIENCE), Some((1, vec![8], false)));
    f.answer(0, &[1], PATIENCE);
    assert_eq!(f.chosen(PATIENCE), Some((0, vec![1], false)));
}

#[test]
fn a_source_is_awaited_when_its_memory_is_too_old() {
    let mut f = Fixture::new();
    f.remember(0, &[7], Some(millis(1000)));
    f.answer(1, &[2], NOW);
    assert_eq!(f.chosen(PATIENCE), Some((0, vec![7], true)));
    assert_eq!(f.sources.next_change(f.start + PATIENCE), Some(f.start + millis(1000)));
    assert_eq!(f.chosen(millis(1000)), None);
    assert_eq!(f.sources.next_change(f.start + millis(1000)), Some(f.start + START));
    assert_eq!(f.chosen(START), Some((1, vec![2], false)));
}

#[test]
fn nobody_is_missed_of_a_memory_that_was_of_no_use() {
    let mut f = Fixture::new();
    f.remember(0, &[7], Some(HOLD));
    f.answer(1, &[2], NOW);
    f.answer(0, &[], NOW);
    assert_eq!(f.chosen(NOW), Some((1, vec![2], false)));
    // Of one that has served, they are.
    let mut f = Fixture::new();
    f.remember(0, &[7], Some(HOLD));
    f.answer(1, &[2], NOW);
    f.answer(0, &[], PATIENCE);
    assert_eq!(f.chosen(PATIENCE), Some((0, vec![], false)));
    assert_eq!(f.chosen(PATIENCE + HOLD), Some((1, vec![2], false)));
}

#[test]
fn nobody_is_an_answer_while_another_source_is_awaited() {
    let mut f = Fixture::new();
    f.answer(0, &[1], NOW);
    let nobody = Answer { decided: true, ..Answer::new(0, SystemTime::UNIX_EPOCH, Vec::new()) };
    f.sources.answered(nobody, f.start);
    assert_eq!(f.chosen(NOW), Some((0, vec![], false)));
}

#[test]
fn what_is_decided_counts_at_once_though_it_was_doubted_before() {
    let mut f = Fixture::new();
    f.answer(0, &[1], NOW);
    f.answer(1, &[2], NOW);
    f.answer(0, &[], millis(1000));
    assert_eq!(f.chosen(millis(2000)), Some((0, vec![], false)));
    let nobody = Answer { decided: true, ..Answer::new(0, SystemTime::UNIX_EPOCH, Vec::new()) };
    f.sources.answered(nobody, f.start + millis(2000));
    assert_eq!(f.chosen(millis(2000)), Some((1, vec![2], false)));
}
