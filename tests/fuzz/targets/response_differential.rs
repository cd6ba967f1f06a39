//! An answer: the codec against hyper's client.
//!
//! The first byte says what was asked: `G`, a GET; `H`, a HEAD. In lower case, the connection
//! stays open after the last byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::codec::{self, AnswerEnd, Input};
use outrigger_fuzz::hyper;
use outrigger_fuzz::intended::{Different, Later, Stricter};
use outrigger_fuzz::proxy::http::h1::defect::Defect;

fuzz_target!(|bytes: &[u8]| {
    let Some((asked, bytes)) = bytes.split_first() else { return };
    let to_head = asked & 1 == 0;
    let open = asked & 0x20 != 0;
    let ours = codec::answer(Input::new(bytes, &[]).stays_open(open), to_head);
    check_pieces(bytes, to_head, open, &ours);
    let theirs = hyper::answer(bytes, to_head, open);
    let whole = theirs.received.as_ref().is_some_and(|theirs| theirs.whole);
    match ours.end {
        AnswerEnd::Whole { reusable } => {
            assert!(whole, "hyper refuses {ours:#?}: {theirs:#?}");
            let head = ours.message.as_ref().map(|message| &message.head);
            if head.and_then(Different::of_connection).is_none() {
                assert_eq!(reusable, theirs.reusable, "{ours:#?} {theirs:#?}");
            }
        }
        AnswerEnd::Waiting if !whole && Later::of_answer(&ours).is_some() => {}
        AnswerEnd::Waiting => assert!(theirs.waiting, "hyper waits not for {ours:#?}: {theirs:#?}"),
        AnswerEnd::Closed => assert!(!whole && !theirs.waiting, "{ours:#?} {theirs:#?}"),
        AnswerEnd::Refused(defect) => {
            let Some(theirs) = &theirs.received else { return };
            let head = &theirs.message.head;
            let intended = Stricter::of_answer(defect, &ours, head, to_head);
            if intended.is_some() {
                return;
            }
            assert!(
                ours.message.is_some() && !whole,
                "we refuse {ours:#?}, hyper takes {theirs:#?}"
            );
        }
    }
    let theirs = theirs.received.map(|theirs| theirs.message);
    assert_eq!(ours.message, theirs);
});

/// What was sent means the same in whatever pieces it comes.
fn check_pieces(bytes: &[u8], to_head: bool, open: bool, whole: &codec::Answer) {
    for pieces in [&[1][..], &[7, 2, 64, 1, 250]] {
        let ours = codec::answer(Input::new(bytes, pieces).stays_open(open), to_head);
        match (ours.end, whole.end) {
            // What is wrong with it may be found out earlier,
            (AnswerEnd::Refused(_), AnswerEnd::Refused(_)) => {}
            // or later, if a head that is not whole is parsed only now and then; not so where it
            // would be waited for in vain.
            (AnswerEnd::Waiting | AnswerEnd::Closed, AnswerEnd::Refused(defect))
                if whole.message.is_none() && defect != Defect::BareLineFeed => {}
            (ours, whole) => assert_eq!(ours, whole, "in pieces of {pieces:?}"),
        }
        assert_eq!(ours.message, whole.message, "in pieces of {pieces:?}");
    }
}
