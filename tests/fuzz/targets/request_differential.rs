//! A connection full of requests: the codec against hyper's server.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::codec::{self, End, Input, Refused, Requests, Stage};
use outrigger_fuzz::hyper::{self, Received};
use outrigger_fuzz::intended::{Different, Laxer, Stricter};
use outrigger_fuzz::message::Message;

fuzz_target!(|bytes: &[u8]| {
    let ours = codec::requests(Input::new(bytes, &[]));
    check_pieces(bytes, &ours);
    let theirs = hyper::requests(bytes);
    for (index, ours) in ours.served.iter().enumerate() {
        let theirs = theirs.received.get(index);
        match theirs.filter(|theirs| theirs.whole).map(|theirs| &theirs.message) {
            Some(theirs) => check_same(ours, theirs),
            None if Laxer::of_request(ours).is_some() => return,
            None => panic!("hyper refuses request {index}: {ours:#?}, {theirs:#?}"),
        }
        if Different::of_connection(&ours.head).is_some() {
            return;
        }
    }
    let next = theirs.received.get(ours.served.len());
    match &ours.end {
        End::Refused(refused) if next.is_none() && theirs.error.is_none() => {
            assert!(Stricter::of_no_request(refused).is_some(), "hyper sees no {refused:#?}");
        }
        End::Refused(refused) => check_refused(refused, next),
        end => assert!(
            next.is_none() && theirs.error.is_none(),
            "we end ({end:?}), hyper goes on with {next:#?}, {:?}",
            theirs.error
        ),
    }
});

fn check_same(ours: &Message, theirs: &Message) {
    if Different::of_request(ours, theirs).is_none() {
        assert_eq!(ours, theirs);
    }
}

/// What was sent means the same in whatever pieces it comes.
fn check_pieces(bytes: &[u8], whole: &Requests) {
    for pieces in [&[1][..], &[7, 2, 64, 1, 250]] {
        let ours = codec::requests(Input::new(bytes, pieces));
        assert_eq!(ours.served, whole.served, "in pieces of {pieces:?}");
        let same = match (&ours.end, &whole.end) {
            // What is wrong with it may be found out earlier.
            (End::Refused(_), End::Refused(_)) => true,
            (ours, whole) => ours == whole,
        };
        assert!(same, "in pieces of {pieces:?}: {:?}, not {:?}", ours.end, whole.end);
    }
}

fn check_refused(refused: &Refused, theirs: Option<&Received>) {
    let Some(theirs) = theirs else { return };
    if Stricter::of_request(refused).is_some() {
        return;
    }
    match &refused.stage {
        Stage::Body(ours) if !theirs.whole => check_same(ours, &theirs.message),
        _ => panic!("we refuse {refused:#?}, hyper takes {theirs:#?}"),
    }
}
