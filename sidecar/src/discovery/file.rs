//! Endpoints from a file.
//!
//! It is looked at rather than watched: that is the same on every filesystem, sees a file that is
//! renamed over it, a link above it that is turned elsewhere (as Kubernetes does with `..data`), and
//! one that goes and comes back, and costs a few system calls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Reporter, from_static};
use crate::cluster::Endpoint;
use crate::config::load_endpoints;
use crate::disk::{self, Seen};

const LOOK: Duration = Duration::from_millis(250);
/// Longer files are refused: 5,000 endpoints take less.
const MAX_SIZE: u64 = 4 << 20;

/// Follows the file for as long as the sidecar runs.
pub(super) async fn follow(path: &Path, reporter: &Reporter) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What was read last, of what was seen then: a failure to see is something that is seen.
    let mut last: Option<(Result<Seen, String>, Result<String, String>)> = None;
    // At the first look there is nobody who could just be writing.
    let mut settled = None;
    loop {
        looks.tick().await;
        let seen = on_another_thread(path, see).await;
        match &last {
            Some((before, _)) if *before == seen => continue,
            // It has just changed: whoever writes may not be done.
            Some(_) if settled.as_ref() != Some(&seen) => {
                settled = Some(seen);
                continue;
            }
            _ => {}
        }
        let text = on_another_thread(path, read_text).await;
        if on_another_thread(path, see).await != seen {
            continue;
        }
        let same = last.as_ref().is_some_and(|(_, before)| *before == text);
        if !same {
            match text.clone().and_then(|text| parse(path, &text)) {
                Ok(endpoints) => reporter.found(endpoints, false).await,
                Err(error) => reporter.failed(error).await,
            }
        }
        last = Some((seen, text));
    }
}

/// Reads it once.
pub(super) async fn read(path: &Path) -> Result<Vec<Endpoint>, String> {
    let text = on_another_thread(path, read_text).await?;
    parse(path, &text)
}

/// A disk may take its time.
async fn on_another_thread<T: Send + 'static>(
    path: &Path,
    work: fn(&Path) -> Result<T, String>,
) -> Result<T, String> {
    let path: PathBuf = path.into();
    let done = tokio::task::spawn_blocking(move || work(&path)).await;
    done.unwrap_or_else(|e| Err(e.to_string()))
}

fn see(path: &Path) -> Result<Seen, String> {
    disk::look(path).map_err(|e| cannot(path, &e.to_string()))
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = disk::read(path, MAX_SIZE).map_err(|e| cannot(path, &e.to_string()))?;
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Err(cannot(path, "it is empty")),
        Ok(text) => Ok(text),
        Err(_) => Err(cannot(path, "it is not UTF-8")),
    }
}

fn cannot(path: &Path, why: &str) -> String {
    format!("{}: cannot be read: {why}", path.display())
}

fn parse(path: &Path, text: &str) -> Result<Vec<Endpoint>, String> {
    let endpoints = load_endpoints(path, text).map_err(|problems| problems.to_string())?;
    Ok(endpoints.iter().map(from_static).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(name: &str, text: &str) -> Result<Vec<String>, String> {
        let endpoints = parse(Path::new(name), text)?;
        let plain = |e: Endpoint| {
            format!("{} {} {}", e.address, e.weight / crate::cluster::WEIGHT_ONE, e.priority)
        };
        Ok(endpoints.into_iter().map(plain).collect())
    }

    #[test]
    fn all_three_formats_are_read() {
        let expected = Ok(vec!["10.0.0.1:80 2 0".to_owned(), "[::1]:81 1 3".to_owned()]);
        let json = r#"{"endpoints": [{"address": "10.0.0.1:80", "weight": 2},
            {"address": "[::1]:81", "priority": 3}]}"#;
        assert_eq!(endpoints("a.json", json), expected);
        let yaml = "endpoints:\n- { address: '10.0.0.1:80', weight: 2 }\n- address: '[::1]:81'\n  priority: 3\n";
        assert_eq!(endpoints("a.yaml", yaml), expected);
        let toml = "[[endpoints]]\naddress = \"10.0.0.1:80\"\nweight = 2\n[[endpoints]]\naddress = \"[::1]:81\"\npriority = 3\n";
        assert_eq!(endpoints("a.toml", toml), expected);
        assert_eq!(endpoints("a.json", "{\"endpoints\": []}"), Ok(Vec::new()));
    }

    /// As it is written in the configuration of a `static` source.
    #[test]
    fn a_file_may_hold_nothing_but_the_list() {
        let expected = Ok(vec!["10.0.0.1:80 2 0".to_owned(), "10.0.0.2:80 1 0".to_owned()]);
        let json = r#" [{"address": "10.0.0.1:80", "weight": 2}, {"address": "10.0.0.2:80"}]"#;
        assert_eq!(endpoints("a.json", json), expected);
        assert_eq!(endpoints("a.yaml", json), expected);
        let yaml = "---\n# ours\n- address: 10.0.0.1:80\n  weight: 2\n- address: 10.0.0.2:80\n";
        assert_eq!(endpoints("a.yaml", yaml), expected);
        assert_eq!(endpoints("a.json", "[]"), Ok(Vec::new()));
        let bad = endpoints("a.yaml", "# ours\n- address: web:80\n").unwrap_err();
        assert!(bad.contains("a.yaml:2: endpoints[0].address: got \"web:80\""), "{bad}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_nothing_is_used() {
        for (text, said) in [
            ("{}", "a.json: endpoints: is missing"),
            (
                "{\"endpoints\": [\n{\"address\": \"web:80\"}]}",
                "a.json:2: endpoints[0].address: got \"web:80\"",
            ),
            ("{\"endpoints\": [{\"address\": \"10.0.0.1:0\"}]}", "endpoints[0].address"),
            ("{\"endpoints\": [{\"adress\": \"10.0.0.1:1\"}]}", "did you mean `address`?"),
            ("{\"endpoints\": [{\"address\": \"10.0.0.1:1\", \"weight\": 65536}]}", "0..=65535"),
            (
                "{\"endpoints\": [{\"address\": \"10.0.0.1:1\"}, {\"address\": \"10.0.0.1:1\"}]}",
                "is there twice",
            ),
            ("{\"endpoints\": [{\"address\":", "a.json"),
        ] {
            let error = endpoints("a.json", text).unwrap_err();
            assert!(error.contains(said), "{said:?} is not in {error:?}");
        }
    }
}
