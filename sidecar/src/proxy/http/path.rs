//! One form of a path, for routing and for the backend alike.
//!
//! A route that matches `/api` must not be passed by `/api/../admin`, which the backend would
//! resolve in its own way. So dot segments are resolved first (RFC 3986, section 5.2.4), an
//! encoded dot counting as a dot, and the same result is routed by and sent on. `%2F` and `;`
//! stay as they are: no rule about them holds for all servers. A `..;` is refused, because some
//! servers cut the `;` off and resolve what is left.

use std::borrow::Cow;

/// The canonical form of `path` (without query), or `None` when there is none.
pub(super) fn canonical(path: &str) -> Option<Cow<'_, str>> {
    if !path.split('/').any(|segment| dots(segment).is_some()) {
        return Some(path.into());
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut open_end = false;
    for segment in path.split('/').skip(1) {
        let dots = dots(segment);
        // A path that ends in a dot segment names a directory: `/a/.` is `/a/`.
        open_end = dots.is_some();
        match dots {
            None => kept.push(segment),
            Some(Dots::Here) => {}
            // Above the root there is only the root.
            Some(Dots::Up) => drop(kept.pop()),
            Some(Dots::WithParameter) => return None,
        }
    }
    if open_end {
        kept.push("");
    }
    Some(format!("/{}", kept.join("/")).into())
}

enum Dots {
    Here,
    Up,
    WithParameter,
}

fn dots(segment: &str) -> Option<Dots> {
    // The common case: no segment of interest is longer, or starts with anything else.
    if !segment.starts_with(['.', '%']) {
        return None;
    }
    let (name, parameter) = match segment.split_once(';') {
        Some((name, _)) => (name, true),
        None => (segment, false),
    };
    let mut count = 0;
    let mut rest = name;
    while !rest.is_empty() {
        rest = rest
            .strip_prefix('.')
            .or_else(|| rest.strip_prefix("%2e"))
            .or_else(|| rest.strip_prefix("%2E"))?;
        count += 1;
    }
    match (count, parameter) {
        (1, false) => Some(Dots::Here),
        (2, false) => Some(Dots::Up),
        (1 | 2, true) => Some(Dots::WithParameter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_resolved() {
        let cases = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../x", "/x"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a//../b", "/a/b"),
            ("/a/...", "/a/..."),
            ("/.hidden", "/.hidden"),
            ("/a/%2F../b", "/a/%2F../b"),
            ("/a;b/c", "/a;b/c"),
        ];
        for (path, expected) in cases {
            assert_eq!(canonical(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn dots_with_parameters_are_refused() {
        for path in ["/a/..;/b", "/a/..;x=y/b", "/a/%2e%2e;/b", "/.;/b"] {
            assert_eq!(canonical(path), None, "{path}");
        }
    }
}
