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
fn what_cannot_be_written_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_of(dir.path(), "api");
    write(&path, &saved()).unwrap();
    // A draft cannot be made where a folder has its name.
    let draft = path.parent().unwrap().join(format!(".api.{}", std::process::id()));
    fs::create_dir(&draft).unwrap();
    assert!(write(&path, &saved()).is_err());
    assert!(recalled(dir.path()).is_some());
}
