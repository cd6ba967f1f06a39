//! Values that are text in the file: durations, percentages, addresses, paths.
//!
//! Each keeps what was written, so that `outrigger config show` gives it back, and says what it
//! accepts once, for the schema and for error messages alike.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::net::Address;

/// Schema keyword under which a text type says what it accepts.
pub(super) const ACCEPTS: &str = "x-accepts";

/// The longest duration taken: a year. Longer ones are typing errors, and bounded ones can be
/// added to an instant without overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            pub(crate) const ACCEPTS: &str = $accepts;
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", ACCEPTS: $accepts })
            }
        }
    };
}

text!(
    /// A positive length of time, `"250ms"`.
    DurationText,
    "a duration such as \"250ms\", \"30s\" or \"5m\", at most a year"
);
text!(
    /// A positive length of time or `"disabled"`.
    TimeoutText,
    "a duration such as \"250ms\", \"30s\" or \"5m\", or \"disabled\""
);
text!(
    /// A share, `"50%"`.
    PercentText,
    "a whole percentage from \"0%\" to \"100%\""
);
text!(
    /// A socket address, `"127.0.0.1:80"`, `"[::1]:80"` or `"unix:/path"`.
    AddressText,
    "\"ip:port\", \"[v6]:port\" or \"unix:/path\""
);
text!(
    /// A socket address or `"off"`.
    OptionalAddressText,
    "\"ip:port\", \"[v6]:port\", \"unix:/path\" or \"off\""
);
text!(
    /// Permissions of a file, `"0600"`.
    ModeText,
    "an octal mode from \"0000\" to \"0777\", of four digits"
);
text!(
    /// The path of a file or directory.
    PathText,
    "a path, absolute or from the working directory, not empty"
);

impl DurationText {
    pub(crate) fn parse(&self) -> Option<Duration> {
        humantime::parse_duration(&self.0).ok().filter(|d| !d.is_zero() && *d <= LONGEST)
    }
}

impl TimeoutText {
    /// The outer `None` is an error, the inner one means "disabled".
    pub(super) fn parse(&self) -> Option<Option<Duration>> {
        match self.0.as_str() {
            "disabled" => Some(None),
            text => DurationText(text.into()).parse().map(Some),
        }
    }
}

impl PercentText {
    pub(super) fn parse(&self) -> Option<u8> {
        self.0.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 100)
    }
}

impl AddressText {
    pub(super) fn parse(&self) -> Option<Address> {
        self.0.parse().ok()
    }
}

impl OptionalAddressText {
    /// The outer `None` is an error, the inner one means "off".
    pub(super) fn parse(&self) -> Option<Option<Address>> {
        match self.0.as_str() {
            "off" => Some(None),
            text => text.parse().ok().map(Some),
        }
    }
}

impl ModeText {
    pub(super) fn parse(&self) -> Option<u32> {
        let octal = self.0.len() == 4 && self.0.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(&self.0, 8).ok();
        mode.filter(|mode| octal && *mode <= 0o777)
    }
}

impl PathText {
    pub(super) fn parse(&self) -> Option<PathBuf> {
        let possible = !self.0.trim().is_empty() && !self.0.contains('\0');
        possible.then(|| PathBuf::from(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_are_positive() {
        assert_eq!(DurationText("1m 30s".into()).parse(), Some(Duration::from_secs(90)));
        for bad in ["", "5", "0s", "-1s", "1e3s", "ten", "2years", "disabled"] {
            assert_eq!(DurationText(bad.into()).parse(), None, "{bad}");
        }
        assert_eq!(TimeoutText("disabled".into()).parse(), Some(None));
        assert_eq!(TimeoutText("0s".into()).parse(), None);
    }

    #[test]
    fn percentages_are_whole_and_at_most_100() {
        assert_eq!(PercentText("0%".into()).parse(), Some(0));
        for bad in ["50", "101%", "1.5%", "-1%", "%"] {
            assert_eq!(PercentText(bad.into()).parse(), None, "{bad}");
        }
    }

    #[test]
    fn addresses_are_sockets_not_names() {
        let parse = |text: &str| AddressText(text.into()).parse().map(|a| a.to_string());
        assert_eq!(parse("127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(parse("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(parse("unix:/run/a.sock").as_deref(), Some("unix:/run/a.sock"));
        for bad in ["localhost:80", "127.0.0.1", "unix:relative", ":80", "127.0.0.1:65536"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_may_be_off() {
        let parse = |text: &str| OptionalAddressText(text.into()).parse();
        assert_eq!(parse("off"), Some(None));
        assert_eq!(parse("127.0.0.1:80"), Some("127.0.0.1:80".parse().ok()));
        assert_eq!((parse("Off"), parse("")), (None, None));
    }

    #[test]
    fn modes_are_octal() {
        let parse = |text: &str| ModeText(text.into()).parse();
        assert_eq!(
            (parse("0600"), parse("0777"), parse("0000")),
            (Some(0o600), Some(0o777), Some(0))
        );
        for bad in ["600", "0800", "1777", "00600", "+600", "rw--", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_are_not_empty() {
        for good in ["/var/lib/outrigger", "state", "../a b"] {
            assert_eq!(PathText(good.into()).parse(), Some(good.into()));
        }
        for bad in ["", " ", "a\0b"] {
            assert_eq!(PathText(bad.into()).parse(), None, "{bad:?}");
        }
    }
}
