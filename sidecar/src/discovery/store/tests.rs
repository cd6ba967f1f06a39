use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cluster::fixture;

fn saved() -> Saved {
    let endpoint = SavedEndpoint {
        address: "10.0.0.1:80".into(),
        weight: 384,
        priority: 1,
        target: Some("a.test".into()),
        node: None,
    };
    Saved {
        format: FORMAT,
        cluster: "api".into(),
        source: fixture::settings("").sources[0].question(),
        saved_at: "2026-01-02T03:04:05Z".into(),
        endpoints: vec![endpoint],
    }
}

fn recalled(dir: &Path) -> Option<Recalled> {
    recall(dir, &fixture::settings(""))
}

#[test]
fn what_was_written_is_recalled_and_others_may_not_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert_eq!(recalled(&state), None);
    let path = file_of(&state, "api");
    write(&path, &saved()).unwrap();
    let recalled = recalled(&state).unwrap();
    let expected = Endpoint {
        target: Some("a.test".into()),
        weight: 384,
        priority: 1,
        ..Endpoint::new("10.0.0.1:80".parse().unwrap())
    };
    assert_eq!((recalled.source, recalled.endpoints), (0, vec![expected]));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a draft was left");
}

#[test]
fn what_is_of_no_use_is_set_aside() {
    let text = |change: &dyn Fn(&mut Saved)| {
        let mut saved = saved();
        change(&mut saved);
        serde_json::to_string(&saved).unwrap()
    };
    let whole = text(&|_| {});
    let bad = [
        String::new(),
        "[]".into(),
        whole[..whole.len() / 2].to_owned(),
        text(&|saved| saved.format = 2),
        text(&|saved| saved.cluster = "other".into()),
        text(&|saved| saved.source = "dns other:80".into()),
        text(&|saved| saved.saved_at = "yesterday".into()),
        text(&|saved| saved.endpoints.clear()),
        text(&|saved| saved.endpoints[0].address = "10.0.0.1:0".into()),
        text(&|saved| saved.endpoints[0].address = "web:80".into()),
        text(&|saved| saved.endpoints[0].target = Some("a\r\nb".into())),
        " ".repeat(MAX_SIZE as usize + 1),
    ];
    for text in bad {
        let dir = tempfile::tempdir().unwrap();
        let path = file_of(dir.path(), "api");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        assert_eq!(recalled(dir.path()), None, "{text:.80}");
        assert!(!path.exists() && path.with_extension("json.bad").exists(), "{text:.80}");
    }
}

#[test]
fn what_cannot_be_read_is_set_aside_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_of(dir.path(), "api");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("api.json", &path).unwrap();
    assert_eq!(recalled(dir.path()), None);
    assert!(path.with_extension("json.bad").is_symlink() && !path.is_symlink());
}

/// Sidecars in containers of their own may share the directory, and have the same process id.
#[test]
fn whoever_writes_at_the_same_time_leaves_a_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_of(dir.path(), "api");
    let with = |count| {
        let mut saved = saved();
        saved.endpoints = vec![saved.endpoints[0].clone(); count];
        saved
    };
    write(&path, &with(1)).unwrap();
    std::thread::scope(|scope| {
        for count in [1, 100, 1_000] {
            let (path, saved) = (&path, with(count));
            scope.spawn(move || (0..50).for_each(|_| write(path, &saved).unwrap()));
        }
        for _ in 0..200 {
            assert!([1, 100, 1_000].contains(&read(&path).unwrap().unwrap().endpoints.len()));
        }
    });
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a draft was left");
}

#[tokio::test]
async fn whom_the_source_does_not_want_used_is_not_remembered() {
    let (cluster, mut task, _) = fixture::cluster(fixture::settings(""), Duration::from_secs(1));
    let reported = |port, reported| Endpoint { reported, ..fixture::endpoint(port, 1, 0) };
    let endpoints = vec![
        reported(1, Reported::Passing),
        reported(2, Reported::Critical),
        reported(3, Reported::Maintenance),
    ];
    task.seed(0, endpoints);
    let saved = Saved::of(&cluster, &cluster.snapshot()).unwrap();
    let names: Vec<_> = saved.endpoints.iter().map(|endpoint| &*endpoint.address).collect();
    assert_eq!(names, ["10.0.0.1:1"]);
}
