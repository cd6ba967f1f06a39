//! Cookies: finding ours among the app's, taking it out, and setting it.
//!
//! What a browser sends is read as browsers write it (RFC 6265, section 5.4): a semicolon always
//! ends a cookie, quotes or not. It is read leniently, since any app writes into it, and written
//! strictly. The other cookies are nobody's business here and stay as they are, byte for byte.

/// The values of all cookies called `name`, from all `Cookie` fields in their order, without the
/// white space and the quotes around them. There may be as many as fit into a head: take a few.
pub fn find<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    name: &[u8],
) -> impl Iterator<Item = &'a [u8]> {
    fields.flat_map(cookies).filter_map(move |cookie| value_of(cookie, name))
}

/// Writes what is left of the `Cookie` field `value` without the cookies called `name`, and says
/// whether anything is.
pub fn without(out: &mut Vec<u8>, value: &[u8], name: &[u8]) -> bool {
    let start = out.len();
    let others = cookies(value)
        .filter(|cookie| !cookie.trim_ascii().is_empty() && value_of(cookie, name).is_none());
    for cookie in others {
        if out.len() == start {
            out.extend_from_slice(cookie.trim_ascii_start());
        } else {
            out.push(b';');
            out.extend_from_slice(cookie);
        }
    }
    // White space that stood before a semicolon has no place at the end of a field.
    let end = start + out[start..].trim_ascii_end().len();
    out.truncate(end);
    end > start
}

/// Writes a `Set-Cookie` field that has browsers send `token` back with every request to this
/// host, for `max_age` seconds or until the session ends, and keeps scripts from reading it.
/// `name` and `token` are ours and have no character of another meaning.
pub fn set_cookie(out: &mut Vec<u8>, name: &str, token: &str, max_age: Option<u64>, secure: bool) {
    for part in [name, "=", token, "; Path=/; HttpOnly; SameSite=Lax"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(seconds) = max_age {
        out.extend_from_slice(b"; Max-Age=");
        out.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
    }
    if secure {
        out.extend_from_slice(b"; Secure");
    }
}

/// The cookies of one field with the white space around them, those that are nothing else
/// included.
fn cookies(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';')
}

/// The value of `cookie` if it has that name. Names differ by case.
fn value_of<'a>(cookie: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr(b'=', cookie)?;
    if cookie[..end].trim_ascii() != name {
        return None;
    }
    let value = cookie[end + 1..].trim_ascii();
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &[&str]) -> Vec<String> {
        find(fields.iter().map(|field| field.as_bytes()), b"LB")
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
            .collect()
    }

    fn left(value: &str) -> Option<String> {
        // What was written before is none of its business.
        let mut out = b"Cookie: ".to_vec();
        let any = without(&mut out, value.as_bytes(), b"LB");
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("Cookie: ").unwrap();
        assert_eq!(any, !text.is_empty());
        any.then(|| text.to_owned())
    }

    #[test]
    fn a_cookie_is_found_wherever_and_however_it_is_written() {
        for field in [
            "LB=v1.x",
            "a=b; LB=v1.x",
            "a=b;LB=v1.x;c=d",
            "LB=v1.x; a=b",
            "LB=\"v1.x\"; a=b",
            " LB\t= v1.x ;",
            ";; ; LB=v1.x",
            "LB; LB=v1.x",
            "lb=1; Lb=2; LB=v1.x; XLB=3; LBX=4; LB.x=5",
            "a=\"LB=1\"; LB=v1.x",
            "a=LB=1; LB=v1.x",
        ] {
            assert_eq!(found(&[field]), ["v1.x"], "{field}");
        }
    }

    #[test]
    fn what_is_only_similar_is_not_found() {
        for field in ["", ";", "LB", "LB;", "=LB", "lb=1", "\"LB\"=1", "a=LB=1", "L B=1", "a=b"] {
            assert_eq!(found(&[field]), [""; 0], "{field}");
        }
    }

    #[test]
    fn all_values_of_all_fields_are_found_in_their_order() {
        assert_eq!(found(&["LB=1; LB=2", "a=b", "LB=3"]), ["1", "2", "3"]);
        assert_eq!(found(&["LB=\"1; LB=2\"; LB=; LB=\""]), ["\"1", "2\"", "", "\""]);
        let many = ["LB=x"; 100].join(";");
        assert_eq!(found(&[&many]).len(), 100);
    }

    #[test]
    fn the_others_stay_as_they_are() {
        let cases = [
            ("a=b; LB=1", "a=b"),
            ("LB=1; a=b", "a=b"),
            ("a=b; LB=1; c=d", "a=b; c=d"),
            ("a=b;LB=1;c=d", "a=b;c=d"),
            ("a=b ; LB=1", "a=b"),
            ("LB=1;   a = \" b \" ;\tc", "a = \" b \" ;\tc"),
            ("a; =; b=; LB=1; =c; a", "a; =; b=; =c; a"),
            ("lb=1; LB=2; LBX=3", "lb=1; LBX=3"),
            ("LB=1; a=\"x; LB=2; y\"; LB=\"3\"", "a=\"x; y\""),
            ("a=b; c=d", "a=b; c=d"),
        ];
        for (value, expected) in cases {
            assert_eq!(left(value).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn nothing_is_written_if_nothing_is_left() {
        let many = ["LB=x"; 100].join("; ");
        for value in ["", " ", ";", " ;; ", "LB=1", "LB=", "LB=1; LB=2;", " LB = \"1\" ", &many] {
            assert_eq!(left(value), None, "{value}");
        }
    }

    #[test]
    fn large_fields_are_no_trouble() {
        let large = "x".repeat(8 * 1024);
        assert_eq!(found(&[&format!("LB={large}")]), [large.as_str()]);
        assert_eq!(left(&format!("LB={large}")), None);
        assert_eq!(left(&format!("{large}; LB=1")), Some(large));
        let empty = ";".repeat(8 * 1024);
        assert_eq!((found(&[&empty]).len(), left(&empty)), (0, None));
    }

    #[test]
    fn a_cookie_is_set_for_the_whole_host_and_hidden_from_scripts() {
        let set = |max_age, secure| {
            let mut out = Vec::new();
            set_cookie(&mut out, "LB", "v1.x", max_age, secure);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(set(None, false), "LB=v1.x; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(
            set(Some(3600), true),
            "LB=v1.x; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"
        );
    }
}
