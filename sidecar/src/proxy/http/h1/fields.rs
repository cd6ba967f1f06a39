//! The fields of a head, as places in the bytes that it was parsed from.
//!
//! Names are looked at once, when the head is parsed: what the rest of the way asks of a field is
//! a comparison of small numbers, and nothing is copied or allocated.

use std::ops::Range;

/// A place in the bytes of a head, counted from its first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part`, a piece of `whole`, lies in it.
    pub fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        // Heads are far shorter than 4 GiB.
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        /// The fields that we have something to do with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $($kind,)*
            /// Any other.
            Other,
        }

        impl Kind {
            /// Without regard to case.
            pub fn of(name: &[u8]) -> Self {
                // The length decides nearly everything, so few names are compared.
                $(
                    if name.len() == $name.len() && name.eq_ignore_ascii_case($name) {
                        return Self::$kind;
                    }
                )*
                Self::Other
            }
        }
    };
}

kinds! {
    Te b"te",
    Via b"via",
    Date b"date",
    Host b"host",
    Accept b"accept",
    Cookie b"cookie",
    Expect b"expect",
    Trailer b"trailer",
    Upgrade b"upgrade",
    Forwarded b"forwarded",
    XRealIp b"x-real-ip",
    Connection b"connection",
    KeepAlive b"keep-alive",
    SetCookie b"set-cookie",
    Traceparent b"traceparent",
    Tracestate b"tracestate",
    Authorization b"authorization",
    RetryAfter b"retry-after",
    CacheControl b"cache-control",
    ContentLength b"content-length",
    IdempotencyKey b"idempotency-key",
    XForwardedFor b"x-forwarded-for",
    XForwardedHost b"x-forwarded-host",
    ProxyConnection b"proxy-connection",
    XForwardedProto b"x-forwarded-proto",
    TransferEncoding b"transfer-encoding",
    OutriggerError b"x-outrigger-error",
    ProxyAuthenticate b"proxy-authenticate",
    ProxyAuthorization b"proxy-authorization",
    OutriggerAffinity b"x-outrigger-affinity",
}

impl Kind {
    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether it speaks of one connection only and ends here (RFC 9110, section 7.6.1).
    pub fn is_of_one_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// Whether `Connection` may not name it: a client could otherwise take its address or its
    /// credentials out of the sight of the backend.
    pub fn is_protected(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::ContentLength
                | Self::Cookie
                | Self::SetCookie
                | Self::Authorization
                | Self::Via
                | Self::Forwarded
                | Self::XRealIp
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedProto
                | Self::Traceparent
                | Self::Tracestate
        )
    }
}

/// Whether a field may come after the body: not if it frames, routes, authenticates or says where
/// a request came from (RFC 9110, section 6.5.1).
pub fn may_trail(name: &[u8]) -> bool {
    let kind = Kind::of(name);
    let content = name.len() >= 8 && name[..8].eq_ignore_ascii_case(b"content-");
    !content && !kind.is_of_one_hop() && !kind.is_protected()
}

#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub kind: Kind,
    pub name: Span,
    pub value: Span,
}

/// A field with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct FieldView<'a> {
    pub kind: Kind,
    pub name: &'a [u8],
    pub value: &'a [u8],
}

/// The fields of a head. Its memory is used again for the next head.
#[derive(Debug, Default)]
pub struct List {
    fields: Vec<Field>,
    /// A bit for each kind that is among them: most questions are about a kind that is not.
    kinds: u32,
}

impl List {
    pub fn clear(&mut self) {
        self.fields.clear();
        self.kinds = 0;
    }

    pub fn push(&mut self, field: Field) {
        self.fields.push(field);
        self.kinds |= field.kind.bit();
    }

    /// Gives memory back beyond so many fields.
    pub fn shrink_to(&mut self, fields: usize) {
        self.fields.shrink_to(fields);
    }

    /// With the bytes that they were found in.
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        Fields { fields: &self.fields, kinds: self.kinds, bytes }
    }
}

/// The fields of a head with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    fields: &'a [Field],
    kinds: u32,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn iter(self) -> impl Iterator<Item = FieldView<'a>> + Clone {
        let bytes = self.bytes;
        self.fields.iter().map(move |field| FieldView {
            kind: field.kind,
            name: &bytes[field.name.range()],
            value: &bytes[field.value.range()],
        })
    }

    /// The values of all fields of a kind, in order.
    pub fn values(self, kind: Kind) -> impl Iterator<Item = &'a [u8]> + Clone {
        let fields = if self.has(kind) { self.fields } else { &[] };
        let some = Self { fields, ..self };
        some.iter().filter(move |field| field.kind == kind).map(|field| field.value)
    }

    /// The members of all comma-separated values of a kind, in order, without empty ones.
    pub fn members(self, kind: Kind) -> impl Iterator<Item = &'a [u8]> + Clone {
        let members = |value: &'a [u8]| value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        self.values(kind).flat_map(members).filter(|member| !member.is_empty())
    }

    pub fn has(self, kind: Kind) -> bool {
        self.kinds & kind.bit() != 0
    }

    /// Whether a comma-separated field names this token.
    pub fn names(self, kind: Kind, token: &[u8]) -> bool {
        self.has(kind) && self.members(kind).any(|member| member.eq_ignore_ascii_case(token))
    }

    /// Whether the connection goes on after this message (RFC 9112, section 9.3).
    pub fn keep_alive(self, http10: bool) -> bool {
        let says = |token: &[u8]| self.names(Kind::Connection, token);
        !says(b"close") && (!http10 || says(b"keep-alive"))
    }

    /// Whether `Connection` names fields that would not end here anyway; it seldom does.
    pub fn connection_names_fields(self) -> bool {
        let ends_here = |member: &[u8]| {
            member.eq_ignore_ascii_case(b"close") || Kind::of(member).is_of_one_hop()
        };
        self.members(Kind::Connection).any(|member| !ends_here(member))
    }

    /// Whether `Connection` names this field and may do so.
    pub fn dropped_by_connection(self, field: &FieldView<'_>) -> bool {
        !field.kind.is_protected() && self.names(Kind::Connection, field.name)
    }
}

#[cfg(test)]
mod tests {
    use crate::proxy::http::h1::head::{Progress, RequestHead};

    #[test]
    fn a_connection_goes_on_where_both_want_it() {
        let cases = [
            ("HTTP/1.1", "", true),
            ("HTTP/1.1", "Connection: x, Close\r\nConnection: keep-alive\r\n", false),
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
            ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
        ];
        for (version, fields, goes_on) in cases {
            let text = format!("GET / {version}\r\n{fields}\r\n");
            let mut head = RequestHead::default();
            head.parse(text.as_bytes(), &mut Progress::default()).unwrap().unwrap();
            let request = head.view();
            assert_eq!(request.fields.keep_alive(request.http10), goes_on, "{text}");
        }
    }
}
