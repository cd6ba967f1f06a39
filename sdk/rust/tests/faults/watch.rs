//! Watches, over changes in pieces and sidecars that come and go.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use outrigger_proto::v1::WatchClusterResponse;
use outrigger_sdk::{Error, View};
use tokio::time::{Duration, timeout};
use tonic::Status;

use crate::fake::{Asked, Sidecar, message};

type Views = Pin<Box<dyn Stream<Item = Result<Arc<View>, Error>> + Send>>;

async fn next(views: &mut Views) -> (u64, Vec<(String, u32)>) {
    let next = timeout(Duration::from_secs(5), views.next()).await.expect("a change comes");
    let view = next.unwrap().unwrap();
    let shares = view.backends.iter().map(|backend| (backend.name.clone(), backend.share));
    (view.version, shares.collect())
}

fn expected(version: u64, shares: &[(&str, u32)]) -> (u64, Vec<(String, u32)>) {
    (version, shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect())
}

#[tokio::test]
async fn each_change_gives_all_backends() {
    let sidecar = Sidecar::start();
    let (begin, rest) = (message(1, true, &[("b", 1)]), message(1, false, &[("a", 1)]));
    sidecar.changes.send_replace(vec![WatchClusterResponse { more: true, ..begin }, rest]);
    let mut views = sidecar.client().watch("api");
    assert_eq!(next(&mut views).await, expected(1, &[("a", 1), ("b", 1)]));
    let removed = vec!["b".to_owned()];
    let change = message(2, false, &[("a", 5), ("c", 2)]);
    sidecar.changes.send_replace(vec![WatchClusterResponse { removed, ..change }]);
    assert_eq!(next(&mut views).await, expected(2, &[("a", 5), ("c", 2)]));
    sidecar.changes.send_replace(vec![message(3, true, &[("d", 1)])]);
    assert_eq!(next(&mut views).await, expected(3, &[("d", 1)]));
}

/// What came of a change before the stream broke off is as if it had not come, and the next watch asks
/// for what follows the last whole set.
#[tokio::test]
async fn a_watch_goes_on_where_it_was() {
    let mut sidecar = Sidecar::start();
    sidecar.changes.send_replace(vec![message(1, true, &[("a", 1), ("b", 1)])]);
    let mut views = sidecar.client().watch("api");
    next(&mut views).await;
    let half = WatchClusterResponse { more: true, ..message(2, true, &[("x", 9)]) };
    sidecar.changes.send_replace(vec![half]);
    let nothing = timeout(Duration::from_millis(100), views.next()).await;
    assert!(nothing.is_err(), "half of a change is none: {nothing:?}");
    sidecar.kill();
    sidecar.changes.send_replace(vec![message(3, false, &[("c", 1)])]);
    sidecar.start_again();
    assert_eq!(next(&mut views).await, expected(3, &[("a", 1), ("b", 1), ("c", 1)]));
    let watches = [("", 0), ("first", 1)];
    let watches =
        watches.map(|(instance, version)| Asked::Watch { instance: instance.into(), version });
    assert_eq!(sidecar.script.asked(), watches);
}

#[tokio::test]
async fn it_ends_when_there_is_nothing_to_watch() {
    let sidecar = Sidecar::start();
    sidecar.script.fail(&Status::not_found("no cluster `apj`"), 1);
    let mut views = sidecar.client().watch("apj");
    assert!(matches!(views.next().await, Some(Err(Error::NotFound { .. }))));
    assert!(views.next().await.is_none());
}
